package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

// A program is a long-running command line under test.
type program struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	status int // after done
	stdout *lines
	stderr *lines
}

// start runs a command line until stop, or until the test ends.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &program{t: t, cancel: cancel, done: make(chan struct{}), stdout: newLines(), stderr: newLines()}
	go func() {
		defer close(p.done)
		p.status = report(p.stderr, run(ctx, args, strings.NewReader(""), p.stdout, p.stderr))
		p.stdout.end()
		p.stderr.end()
	}()
	t.Cleanup(func() { p.stop() })
	return p
}

// stop ends the program as a signal does and returns its exit status.
func (p *program) stop() int {
	p.cancel()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatalf("the program does not stop; it said %q", p.stderr.text())
	}
	return p.status
}

// logged waits for a log line with that message and returns its fields.
func (p *program) logged(msg string) map[string]any {
	p.t.Helper()
	var fields map[string]any
	p.stderr.wait(p.t, func(line string) bool {
		fields = nil
		return json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == msg
	})
	return fields
}

// printed waits for a line on standard output that contains text.
func (p *program) printed(text string) string {
	p.t.Helper()
	return p.stdout.wait(p.t, func(line string) bool { return strings.Contains(line, text) })
}

// lines is a writer whose lines can be waited for.
type lines struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     bytes.Buffer
	ended   bool
}

func newLines() *lines {
	l := &lines{}
	l.changed.L = &l.mu
	return l
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
	return l.buf.Write(b)
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.changed.Broadcast()
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// each calls f with every whole line until the program ends.
func (l *lines) each(f func(line string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from := 0; ; {
		for {
			n := bytes.IndexByte(l.buf.Bytes()[from:], '\n')
			if n < 0 {
				break
			}
			line := string(l.buf.Bytes()[from : from+n])
			from += n + 1
			l.mu.Unlock()
			f(line)
			l.mu.Lock()
		}
		if l.ended {
			return
		}
		l.changed.Wait()
	}
}

// wait returns the first whole line that is wanted; the test fails if the
// program ends before, or if none comes.
func (l *lines) wait(t *testing.T, wanted func(line string) bool) string {
	t.Helper()
	expired := false
	timer := time.AfterFunc(time.Minute, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		expired = true
		l.changed.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for from := 0; ; {
		for {
			n := bytes.IndexByte(l.buf.Bytes()[from:], '\n')
			if n < 0 {
				break
			}
			line := string(l.buf.Bytes()[from : from+n])
			from += n + 1
			if wanted(line) {
				return line
			}
		}
		if l.ended || expired {
			t.Fatalf("the line that is waited for did not come; there are\n%s", l.buf.String())
		}
		l.changed.Wait()
	}
}

// A testNode is a node that runs for a test, and how to reach it.
type testNode struct {
	*program
	addr, dir, metrics string
}

// startNode runs "mayfly serve" with more arguments, in dir if that is not "".
func startNode(t *testing.T, dir string, more ...string) *testNode {
	t.Helper()
	if dir == "" {
		dir = t.TempDir() + "/data"
	}
	args := append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json"}, more...)
	p := start(t, args...)
	fields := p.logged("serving")
	return &testNode{p, fields["addr"].(string), dir, fields["metrics"].(string)}
}

// mayfly runs a command line that talks to the node.
func (n *testNode) mayfly(stdin string, args ...string) result {
	n.t.Helper()
	return mayflyWith(n.t, stdin, append(args, "--node", n.addr)...)
}

// must is mayfly for what has to succeed; it returns standard output.
func (n *testNode) must(stdin string, args ...string) string {
	n.t.Helper()
	r := n.mayfly(stdin, args...)
	if r.status != 0 {
		n.t.Fatalf("mayfly %q: status %d, %s", args, r.status, r.stderr)
	}
	return r.stdout
}
