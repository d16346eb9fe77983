package cluster

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// beNode makes the test binary a node, of one of several kinds.
const beNode = "BE_NODE"

func TestMain(m *testing.M) {
	switch os.Getenv(beNode) {
	case "":
		goleak.VerifyTestMain(m)
	case "parent":
		beParent()
	case "serving":
		os.Stderr.WriteString("{\"msg\":\"starting\"}\nnot JSON\n{\"msg\":\"serving\",\"metrics\":\"http://127.0.0.1:1/metrics\"}\n") //nolint:errcheck // the test says
		forever := make(chan os.Signal, 1)
		signal.Notify(forever, syscall.SIGUSR1) // which nobody sends
		<-forever
	default:
		os.Stderr.WriteString("the port burns\n") //nolint:errcheck // the test says
		os.Exit(3)
	}
}

func testChild(t *testing.T, kind string) *child {
	t.Helper()
	c, err := startChild(os.Args[0], nil, append(os.Environ(), beNode+"="+kind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		<-c.done
	})
	return c
}

func TestChildServes(t *testing.T) {
	c := testChild(t, "serving")
	if err := c.awaitServing(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.out.metrics != "http://127.0.0.1:1/metrics" {
		t.Errorf("its metrics are at %q", c.out.metrics)
	}
	c.kill()
	<-c.done
	if c.err == nil || c.err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", c.err)
	}
}

func TestChildEnds(t *testing.T) {
	err := testChild(t, "failing").awaitServing(t.Context())
	if err == nil || err.Error() != "it ended (exit status 3): the port burns" {
		t.Errorf("got %v", err)
	}
	if _, err := startChild(t.TempDir()+"/nothing", nil, nil); err == nil {
		t.Error("a program that is not there was started")
	}
}

// Lines come in pieces, and nothing that a child says takes much memory.
func TestOutput(t *testing.T) {
	o := newOutput()
	long := strings.Repeat("x", 3*maxLine)
	for _, piece := range []string{long, "\n{\"msg\":\"ser", "ving\",\"metrics\":\"m\"}", "\n", "the end\n"} {
		if o.metrics != "" && piece != "the end\n" {
			t.Errorf("it serves before %q", piece)
		}
		if n, err := o.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("wrote %d of %d, %v", n, len(piece), err)
		}
	}
	select {
	case <-o.serving:
	default:
		t.Error("the line was not seen")
	}
	if tail := o.tail(); o.metrics != "m" || !strings.HasSuffix(tail, "the end") || len(tail) > maxKept || cap(o.line) > 2*maxLine {
		t.Errorf("metrics %q, %d bytes kept, room for %d", o.metrics, len(tail), cap(o.line))
	}
}
