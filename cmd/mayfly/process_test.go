package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
)

// A process is the program in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	done   chan error // receives what Wait returned
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return startProcessWith(t, nil, args...)
}

// startProcessWith is startProcess with something on standard input.
func startProcessWith(t *testing.T, stdin *os.File, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), stdout: newLines(), stderr: newLines(), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), beMayfly+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := p.cmd.Wait()
		p.stdout.end()
		p.stderr.end()
		p.done <- err
	}()
	t.Cleanup(func() { p.cmd.Process.Kill() }) //nolint:errcheck // it has usually ended
	return p
}

// logged waits for a log line with that message and returns its fields.
func (p *process) logged(msg string) map[string]any {
	p.t.Helper()
	var fields map[string]any
	p.stderr.wait(p.t, func(line string) bool {
		fields = nil
		return json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == msg
	})
	return fields
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// A first signal stops cleanly.
func TestSignalStopsCleanly(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := startProcess(t, "serve", "--data", t.TempDir()+"/data", "--listen", "127.0.0.1:0", "--metrics", "", "--log-format", "json")
		p.logged("serving")
		p.signal(s)
		if err := <-p.done; err != nil {
			t.Errorf("%v: %v; %s", s, err, p.stderr.text())
		}
		p.logged("stopped")
	}
}

// A second signal ends the program at once, whatever it waits for.
func TestSecondSignalIsImmediate(t *testing.T) {
	p := startProcess(t, "aggregate", "--node", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--metrics", "", "--log-format", "json",
		"--set", "aggregate.stop_timeout=1m")
	to := addrOf(p.logged("aggregating"))
	if r := mayfly(t, "send", "--to", to, "--count", "10", "--rate", "0"); r.status != 0 {
		t.Fatal(r.stderr)
	}
	p.signal(syscall.SIGINT)
	p.logged("stopping; a second signal ends the program at once")
	p.signal(syscall.SIGINT)
	err := <-p.done
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 128+int(syscall.SIGINT) {
		t.Errorf("it ended with %v", err)
	}
}

// The exit status and the sentence reach whoever started the program.
func TestExitStatusOfTheProcess(t *testing.T) {
	p := startProcess(t, "confg")
	err := <-p.done
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != exitUsage {
		t.Errorf("it ended with %v", err)
	}
	if want := "mayfly: there is no command \"confg\"; did you mean \"config\"? \"mayfly --help\" lists them all\n"; p.stderr.text() != want {
		t.Errorf("it said %q", p.stderr.text())
	}
}

// TestKill kills a node in mid-stream, again and again: nothing that was
// acknowledged may be missing, from the store or from the index, and the
// directory must hold what its format promises. The project promises a
// hundred kills; KILLS=100 takes them.
func TestKill(t *testing.T) {
	kills := 5
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		kills = n
	}
	if testing.Short() {
		kills = 1
	}
	dir := t.TempDir() + "/data"
	k := &killTest{t: t, acknowledged: map[string][]byte{}}
	for range kills {
		p := startProcess(t, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--metrics", "", "--log-format", "json",
			"--slot", "10s", "--set", "node.seal_after=1s")
		addr := p.logged("serving")["addr"].(string)
		k.verify(addr)
		k.putUntil(addr, 50+rand.IntN(100), func() { p.signal(syscall.SIGKILL) })
		<-p.done
		if r := mayfly(t, "check", dir); r.status != 0 {
			t.Fatalf("check after a kill: status %d, %s%s", r.status, r.stdout, r.stderr)
		}
	}
	p := startProcess(t, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--metrics", "", "--log-format", "json", "--slot", "10s")
	k.verify(p.logged("serving")["addr"].(string))
	p.signal(syscall.SIGTERM)
	if err := <-p.done; err != nil {
		t.Errorf("%v; %s", err, p.stderr.text())
	}
	if r := mayfly(t, "check", dir); r.status != 0 {
		t.Errorf("check: status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	t.Logf("%d kills, %d blobs acknowledged", kills, len(k.acknowledged))
}

type killTest struct {
	t *testing.T

	mu           sync.Mutex
	next         uint64
	acknowledged map[string][]byte // value by key
}

func (k *killTest) dial(addr string) *client.Client {
	k.t.Helper()
	c, err := client.Dial(k.t.Context(), client.Config{Addrs: []string{addr}, Timeout: 20 * time.Second})
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// putUntil puts blobs from several goroutines; when so many are acknowledged it
// calls kill, and returns when all puts have ended.
func (k *killTest) putUntil(addr string, most int, kill func()) {
	c := k.dial(addr)
	defer c.Close()
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	done := 0
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				key, value := k.newBlob()
				if c.Put(ctx, client.Object{Bucket: "events", Key: key, Value: value, EventCount: 1}) != nil {
					return
				}
				k.mu.Lock()
				k.acknowledged[key] = value
				if done++; done == most {
					kill()
					cancel()
				}
				k.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func (k *killTest) newBlob() (key string, value []byte) {
	k.mu.Lock()
	k.next++
	n := k.next
	k.mu.Unlock()
	value = bytes.Repeat(fmt.Append(nil, n, " "), 1+rand.IntN(2000))
	return event.Key{Epoch: time.Now().Unix(), DC: "ams", Type: "T", Subtype: "s", Chunk: event.PlainChunk(n)}.String(), value
}

// verify reads back everything that was ever acknowledged, and looks for it in
// the index.
func (k *killTest) verify(addr string) {
	k.t.Helper()
	c := k.dial(addr)
	defer c.Close()
	listed := map[int64]map[string]bool{}
	for key, value := range k.acknowledged {
		rec, err := c.Get(k.t.Context(), "default", "events", key)
		if err != nil {
			k.t.Fatalf("%s was acknowledged: %v", key, err)
		}
		if !bytes.Equal(rec.Value(), value) {
			k.t.Fatalf("%s has another value than was acknowledged", key)
		}
		rec.Release()
		second, _, _ := strings.Cut(key, ":")
		epoch, _ := strconv.ParseInt(second, 10, 64)
		if listed[epoch] == nil {
			listed[epoch] = map[string]bool{}
			keys, _, err := c.Keys(k.t.Context(), epoch, "ams")
			if err != nil {
				k.t.Fatal(err)
			}
			for _, key := range keys {
				listed[epoch][key.String()] = true
			}
		}
		if !listed[epoch][key] {
			k.t.Fatalf("%s was acknowledged and is not in the index", key)
		}
	}
}
