package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// processes are nodes in processes of their own, which can be killed.
type processes []*child

// A child is one node in a process: "mayfly serve". One goroutine at a time
// starts, kills and stops it.
type child struct {
	place
	metrics string // host:port
	program string
	args    []string
	env     []string
	log     string    // file
	tee     io.Writer // gets the log as well; may be nil
	proc    *exec.Cmd
	ended   chan struct{} // closed when proc has ended
	err     error         // how; read after ended
	killed  atomic.Bool   // by us
}

// startProcesses starts each node in a process of its own.
func (d *Demo) startProcesses() error {
	n := len(d.nodeDirs())
	addrs, err := freeAddresses(2 * n)
	if err != nil {
		return err
	}
	addrs, metrics := addrs[:n], addrs[n:]
	d.makePlaces(addrs)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w; give another place with --dir", d.dir, err)
	}
	for i, p := range d.places {
		c := &child{place: p, metrics: metrics[i], program: d.o.Program, env: d.o.Environ, tee: d.o.NodeLogs, log: p.dir + logSuffix}
		c.args = []string{"serve", "--name", p.name, "--cluster", clusterName, "--listen", p.addr, "--metrics", c.metrics, "--data", p.dir,
			"--slot", fmt.Sprintf("%ds", slotSeconds), "--set", fmt.Sprintf("node.seal_after=%ds", sealSeconds), "--set", "bucket.events.r=1"}
		c.args = append(append(c.args, d.joinArgs(addrs)...), d.o.NodeArgs...)
		d.processes = append(d.processes, c)
	}
	if n := d.o.Nodes; d.o.Grow > 0 { // the others come later
		d.fresh, d.processes, d.places = d.processes[n:], d.processes[:n:n], d.places[:n:n]
	}
	d.cluster = d.processes
	for _, c := range d.processes {
		if err := c.start(); err != nil {
			return err
		}
	}
	return nil
}

// joinArgs are what makes the processes of a demo one cluster; addrs are those of
// all its nodes.
func (d *Demo) joinArgs(addrs []string) (args []string) {
	if n := d.o.Nodes; n > 1 { // one is a cluster of its own
		args = append(args, "--join", strings.Join(addrs[:n], ","), "--expect", fmt.Sprint(n))
	}
	if d.o.Grow > 0 {
		args = append(args, "--set", fmt.Sprintf("node.ahead=%v", growAhead))
	}
	return args
}

// freeAddresses returns so many loopback addresses with ports that nobody uses.
// They are not among those that systems give to outgoing connections: a node that
// comes back finds its own free.
func freeAddresses(n int) (addrs []string, err error) {
	for tries := 100 + n; len(addrs) < n; tries-- {
		if tries == 0 {
			return nil, fmt.Errorf("there is no free port on 127.0.0.1: %w", err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if slices.Contains(addrs, addr) {
			continue
		}
		if err = tryAddress(addr); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// tryAddress tells whether a node could listen there, by TCP and by UDP.
func tryAddress(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return errors.Join(ln.Close(), packets.Close())
}

// start starts the process. Its log is appended to.
func (c *child) start() error {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.program, c.args...)
	cmd.Env, cmd.Stderr, cmd.SysProcAttr = c.env, log, childAttributes()
	if c.tee != nil {
		cmd.Stderr = io.MultiWriter(log, c.tee)
	}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// The system kills the process when the thread that started it ends: this
		// one stays until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		defer log.Close() //nolint:errcheck // what it has is for people
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.proc, c.ended = cmd, ended
	c.killed.Store(false)
	return nil
}

// kill ends the process with no goodbye.
func (c *child) kill() error {
	c.killed.Store(true)
	if err := c.proc.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.ended
	return nil
}

// alive tells whether the process runs.
func (c *child) alive() bool {
	if c.proc == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// check tells whether a process ended and was not killed.
func (nodes processes) check() error {
	for _, c := range nodes {
		if !c.alive() {
			return fmt.Errorf("%s is gone", c.name)
		}
	}
	return nil
}

// stop implements cluster.
func (nodes processes) stop(ctx context.Context) error {
	var faults []error
	for _, c := range nodes {
		switch {
		case c.alive():
			if err := c.proc.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				faults = append(faults, fmt.Errorf("stop %s: %w", c.name, err))
			}
		case c.proc != nil && !c.killed.Load():
			faults = append(faults, fmt.Errorf("%s ended by itself: %w", c.name, cmp.Or(c.err, errors.New("with exit status 0"))))
			c.proc = nil
		}
	}
	for _, c := range nodes {
		if c.proc == nil {
			continue
		}
		select {
		case <-c.ended:
		case <-ctx.Done():
			faults = append(faults, fmt.Errorf("%s did not stop in time", c.name), c.kill())
		}
		if c.err != nil && !c.killed.Load() {
			faults = append(faults, fmt.Errorf("%s did not stop in order: %w", c.name, c.err))
		}
		c.proc = nil
	}
	return errors.Join(faults...)
}

// logSuffix is what a node's log has behind the name of its data directory.
const logSuffix = ".log"

// logLines is how much of a node's log is shown when something went wrong.
const logLines = 12

// Logs returns the last lines of the logs of nodes in processes of their own,
// "" if there are none. It is of use until the demo's directory is removed.
func (d *Demo) Logs() string {
	var out strings.Builder
	for _, c := range d.processes {
		text, err := os.ReadFile(c.log)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		fmt.Fprintf(&out, "%s, the end of its log %s:\n", c.name, c.log)
		for _, line := range lines[max(0, len(lines)-logLines):] {
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	return out.String()
}
