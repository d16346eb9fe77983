package client

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// answering has a node answer one operation with what f returns.
func answering(op uint8, f func(r *wire.Request) ([]byte, error)) func(context.Context, *wire.Request) (wire.Answer, bool, error) {
	return func(_ context.Context, r *wire.Request) (wire.Answer, bool, error) {
		if r.Op != op {
			return wire.Answer{}, false, nil
		}
		b, err := f(r)
		return wire.Answer{Body: wire.Piece{Bytes: b}}, true, err
	}
}

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet("a:1")
		defer net.close()
		want := proto.Report{Node: ring.NodeID{1}, Name: "a", Merging: proto.Merging{BytesToGet: 7}}
		net.set("a:1", answering(proto.OpReport, func(*wire.Request) ([]byte, error) { return proto.AppendReport(nil, want) }), nil)
		c := net.client(t, Config{Addrs: []string{"a:1"}, Pinned: true})
		defer c.Close()
		if got, err := c.Report(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
		net.set("a:1", answering(proto.OpReport, func(*wire.Request) ([]byte, error) { return []byte{0xc1}, nil }), nil)
		_, err := c.Report(t.Context())
		wantError(t, err, object.CodeCorrupt, object.NotDone)
		net.set("a:1", nil, nil)
		_, err = c.Document(t.Context())
		wantError(t, err, object.CodeUnsupported, object.NotDone)
	})
}

// TestProposals: a command is brought to another node if the first was not
// reached or had not begun, and not after it may have been done.
func TestProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet("b:1")
		defer net.close()
		version := ring.Version{Era: 1, Index: 4}
		done, err := agreed.Result{Version: version, Changed: true}.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		var fault error
		net.set("b:1", answering(proto.OpPropose, func(r *wire.Request) ([]byte, error) {
			asked++
			if c, err := agreed.UnmarshalCommand(r.Body); err != nil || c.Kind != agreed.Cancel {
				t.Errorf("proposed was %+v, %v", c, err)
			}
			if asked == 1 && fault != nil {
				return nil, fault
			}
			return done, nil
		}), nil)
		c := net.client(t, Config{Addrs: []string{"a:1", "b:1"}, Pinned: true})
		defer c.Close()
		cancel := agreed.Command{Kind: agreed.Cancel}
		if r, err := c.Propose(t.Context(), cancel); err != nil || r.Version != version || !r.Changed || asked != 1 {
			t.Errorf("%+v, %v, asked %d times", r, err, asked)
		}
		asked, fault = 0, object.Errorf(object.CodeUnavailable, object.NotDone, "there is no leader")
		if r, err := c.Propose(t.Context(), cancel); err != nil || !r.Changed || asked != 2 {
			t.Errorf("not done: %+v, %v, asked %d times", r, err, asked)
		}
		asked, fault = 0, object.Errorf(object.CodeUnavailable, object.MaybeDone, "the leader is gone")
		_, err = c.Propose(t.Context(), cancel)
		wantError(t, err, object.CodeUnavailable, object.MaybeDone)
		if asked != 1 {
			t.Errorf("what may have been done was asked for %d times", asked)
		}
	})
}

// TestWhatANodeSaid is told, rather than that others could not be reached.
func TestWhatANodeSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet("b:1")
		defer net.close()
		net.set("b:1", answering(proto.OpPropose, func(*wire.Request) ([]byte, error) {
			return nil, object.Errorf(object.CodeUnavailable, object.NotDone, "2 of 3 voters do not answer")
		}), nil)
		c := net.client(t, Config{Addrs: []string{"a:1", "b:1", "c:1"}, Pinned: true})
		defer c.Close()
		_, err := c.Propose(t.Context(), agreed.Command{Kind: agreed.Cancel})
		wantError(t, err, object.CodeUnavailable, object.NotDone)
		if err.Error() != "2 of 3 voters do not answer" {
			t.Errorf("told was %v", err)
		}
	})
}

// TestProposalHasAllTheTime: a node that cannot reach a majority has the whole
// time to say so.
func TestProposalHasAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet("a:1")
		defer net.close()
		var left time.Duration
		net.set("a:1", func(ctx context.Context, r *wire.Request) (wire.Answer, bool, error) {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return wire.Answer{}, true, object.Errorf(object.CodeUnavailable, object.MaybeDone, "nobody answers")
		}, nil)
		c := net.client(t, Config{Addrs: []string{"a:1"}, Pinned: true, Timeout: 10 * time.Second})
		defer c.Close()
		_, err := c.Propose(t.Context(), agreed.Command{Kind: agreed.Cancel})
		wantError(t, err, object.CodeUnavailable, object.MaybeDone)
		if left < 9*time.Second {
			t.Errorf("the node had %v", left)
		}
	})
}
