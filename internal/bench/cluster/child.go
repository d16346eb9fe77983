package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A child is one node's process.
type child struct {
	pid  int
	out  *output
	kill func()
	done chan struct{} // closed when the process has ended and been waited for
	err  error         // how it ended; after done
}

// startChild starts a process that does not outlive this one: the system kills
// it when the thread that started it ends, so that thread waits for it.
func startChild(program string, args, env []string) (*child, error) {
	c := &child{out: newOutput(), done: make(chan struct{})}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stderr = env, c.out
	dieWithParent(cmd)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting a node: %w", err)
	}
	c.pid = cmd.Process.Pid
	c.kill = func() { cmd.Process.Kill() } //nolint:errcheck // it may have ended already
	return c, nil
}

// startTimeout is how long a node may take until it serves.
const startTimeout = 30 * time.Second

// awaitServing waits until the child says that it serves.
func (c *child) awaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("it does not begin to serve"))
	defer cancel()
	select {
	case <-c.out.serving:
		return nil
	case <-c.done:
		return fmt.Errorf("it ended (%v): %s", c.err, c.out.tail())
	case <-ctx.Done():
		return fmt.Errorf("%w: %s", context.Cause(ctx), c.out.tail())
	}
}

// An output is what a child says on standard error: the end of it is kept, and
// the line that tells that it serves is looked for.
type output struct {
	serving chan struct{} // closed when that line has come; metrics is then set
	metrics string        // URL of its metrics; its profiles are beside them

	mu    sync.Mutex
	known bool
	line  []byte // the one that has not ended
	kept  []byte
}

const (
	maxLine = 64 << 10 // bytes; what is longer is not looked at
	maxKept = 4 << 10  // bytes
)

func newOutput() *output { return &output{serving: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b...)
	o.kept = o.kept[max(0, len(o.kept)-maxKept):]
	for rest := b; !o.known && len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		if len(o.line)+len(part) <= maxLine {
			o.line = append(o.line, part...)
		}
		if ended {
			o.lookAt(o.line)
			o.line = o.line[:0]
		}
		rest = after
	}
	return len(b), nil
}

func (o *output) lookAt(line []byte) {
	var said struct{ Msg, Metrics string }
	if json.Unmarshal(line, &said) == nil && said.Msg == "serving" {
		o.known, o.metrics = true, said.Metrics
		close(o.serving)
	}
}

// tail returns the last of what was said.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(string(o.kept))
}
