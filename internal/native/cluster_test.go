package native

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A fakeCluster has a document of its own, to which it applies what is proposed.
type fakeCluster struct {
	doc      *agreed.Document
	proposed []agreed.Command
	report   proto.Report
	err      error         // what all methods return, if set
	slow     bool          // Propose waits until its context ends
	left     time.Duration // how long that was to be
}

func newFakeCluster(t testing.TB) *fakeCluster {
	t.Helper()
	doc, err := agreed.Found(agreed.Founding{
		Cluster: agreed.ClusterID{1}, Name: "test", Settings: agreed.DefaultSettings(), Bits: 1,
		Members: []agreed.Member{{ID: ring.NodeID{1}, Name: "n1", Weight: 1, Disks: []agreed.DiskID{{1}}, Address: "n1:7070"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCluster{doc: doc, report: proto.Report{Node: ring.NodeID{1}, Name: "n1", Merging: proto.Merging{BytesToGet: 7}}}
}

func (c *fakeCluster) Document(context.Context) (*agreed.Document, error) { return c.doc, c.err }

func (c *fakeCluster) Propose(ctx context.Context, command agreed.Command) (r agreed.Result, err error) {
	if c.slow {
		deadline, _ := ctx.Deadline()
		c.left = time.Until(deadline)
		<-ctx.Done()
		return r, object.Errorf(object.CodeUnavailable, object.MaybeDone, "2 of 3 voters do not answer")
	}
	if c.err != nil {
		return r, c.err
	}
	command.Now = 1763712000
	c.proposed = append(c.proposed, command)
	c.doc, r = c.doc.Apply(command)
	return r, nil
}

func (c *fakeCluster) Report(context.Context) (proto.Report, error) { return c.report, c.err }

// onClusterDoor runs f in fake time with a connection to a door with a cluster,
// which may be nil.
func onClusterDoor(t *testing.T, cluster Cluster, f func(t *testing.T, c *wire.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		srv := wire.NewServer(wire.ServerConfig{Handler: NewHandler(&fakeStore{}).WithCluster(cluster), Hello: wire.Hello{Node: wire.ID{1}}})
		here, there := net.Pipe()
		go srv.ServeConn(there)
		c, err := wire.NewConn(t.Context(), here, wire.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		defer c.Close()
		f(t, c)
	})
}

func ask(t *testing.T, c *wire.Conn, op uint8, body []byte) (wire.Reply, *object.Error) {
	t.Helper()
	r, err := c.Call(t.Context(), &wire.Call{Op: op, Class: wire.Control, Body: []wire.Piece{{Bytes: body}}})
	if err == nil {
		t.Cleanup(r.Release)
		return r, nil
	}
	e, ok := errors.AsType[*object.Error](err)
	if !ok {
		t.Fatalf("operation %d: %v", op, err)
	}
	return r, e
}

func command(t *testing.T, c agreed.Command) []byte {
	t.Helper()
	b, err := c.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestClusterOperations makes each call once.
func TestClusterOperations(t *testing.T) {
	cluster := newFakeCluster(t)
	onClusterDoor(t, cluster, func(t *testing.T, c *wire.Conn) {
		r, _ := ask(t, c, proto.OpReport, nil)
		if got, err := proto.ParseReport(r.Body); err != nil || !reflect.DeepEqual(got, cluster.report) {
			t.Errorf("report: %+v, %v", got, err)
		}
		r, _ = ask(t, c, proto.OpDocument, nil)
		if d, err := agreed.UnmarshalDocument(r.Body); err != nil || d.Name != "test" || d.Version != cluster.doc.Version {
			t.Errorf("document: %+v, %v", d, err)
		}
		weigh := agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageWeight, Node: ring.NodeID{1}, Weight: 2}}
		r, _ = ask(t, c, proto.OpPropose, command(t, weigh))
		if got, err := agreed.UnmarshalResult(r.Body); err != nil || !got.Changed || got.Version != cluster.doc.Version {
			t.Errorf("propose: %+v, %v", got, err)
		}
		weigh.Stage.Node = ring.NodeID{2}
		r, _ = ask(t, c, proto.OpPropose, command(t, weigh))
		if got, err := agreed.UnmarshalResult(r.Body); err != nil || got.Changed || got.Err == nil || got.Err.Message == "" {
			t.Errorf("of a node that is none: %+v, %v", got, err)
		}
	})
}

// TestWhatUsersMayNotPropose: what nodes say of themselves is not taken from
// anybody else, and noise does not reach the cluster.
func TestWhatUsersMayNotPropose(t *testing.T) {
	cluster := newFakeCluster(t)
	onClusterDoor(t, cluster, func(t *testing.T, c *wire.Conn) {
		for k := agreed.Kind(1); k <= agreed.SetSettings; k++ {
			switch k {
			case agreed.Stage, agreed.Clear, agreed.CommitStaged, agreed.Cancel, agreed.SetBucket, agreed.SetTTL, agreed.SetSettings:
				continue
			}
			if _, e := ask(t, c, proto.OpPropose, command(t, agreed.Command{Kind: k})); e == nil || e.Code != object.CodeRefused || e.Outcome != object.NotDone {
				t.Errorf("%v: %v", k, e)
			}
		}
		for _, noise := range [][]byte{nil, {0xff}, make([]byte, 1000)} {
			if _, e := ask(t, c, proto.OpPropose, noise); e == nil || e.Outcome != object.NotDone {
				t.Errorf("noise: %v", e)
			}
		}
		if len(cluster.proposed) > 0 {
			t.Errorf("%v came to the cluster", cluster.proposed)
		}
	})
}

// TestClusterErrorsTravel with their code and outcome, and before who asks has
// given up.
func TestClusterErrorsTravel(t *testing.T) {
	cluster := newFakeCluster(t)
	clear := command(t, agreed.Command{Kind: agreed.Clear})
	onClusterDoor(t, cluster, func(t *testing.T, c *wire.Conn) {
		cluster.slow = true
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		_, err := c.Call(ctx, &wire.Call{Op: proto.OpPropose, Class: wire.Control, Body: []wire.Piece{{Bytes: clear}}})
		if e, ok := errors.AsType[*object.Error](err); !ok || e.Code != object.CodeUnavailable || e.Outcome != object.MaybeDone || !strings.Contains(e.Message, "voters") {
			t.Errorf("without a majority: %v", err)
		}
		if cluster.left != 7*time.Second {
			t.Errorf("the node had %v of 8 s", cluster.left)
		}
		cluster.slow, cluster.err = false, object.Errorf(object.CodeStopping, object.NotDone, "the node stops")
		for op, body := range map[uint8][]byte{proto.OpDocument: nil, proto.OpReport: nil, proto.OpPropose: clear} {
			if _, e := ask(t, c, op, body); e == nil || e.Code != object.CodeStopping || e.Outcome != object.NotDone {
				t.Errorf("operation %d: %v", op, e)
			}
		}
	})
}

// TestNoCluster: a node with a list of members says so.
func TestNoCluster(t *testing.T) {
	onClusterDoor(t, nil, func(t *testing.T, c *wire.Conn) {
		for _, op := range []uint8{proto.OpDocument, proto.OpPropose, proto.OpReport} {
			if _, e := ask(t, c, op, nil); e == nil || e.Code != object.CodeUnsupported || e.Outcome != object.NotDone || !strings.Contains(e.Message, "not served here") {
				t.Errorf("operation %d: %v", op, e)
			}
		}
	})
}
