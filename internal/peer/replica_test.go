package peer

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

func someRow(t testing.TB) index.Row {
	t.Helper()
	rec := record(t, blobKey, 5)
	defer rec.Release()
	_, delta, err := index.DeltaOf(&rec.Header)
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

// TestWhatAReplicaSays goes through everything a replica can answer, for
// ordinary requests and for repair.
func TestWhatAReplicaSays(t *testing.T) {
	noBuffersLeft(t, func() {
		r := connected(t, nil)
		defer r.close()
		for name, p := range map[string]replica{"ordinary": r.peer, "repair": r.peer.Repair()} {
			small, large := record(t, blobKey, 100), record(t, blobKey+"1", 3<<20)
			for _, rec := range []object.Record{small, large} {
				key := string(rec.Key)
				if a := put(p, ask(hashOf(key)), rec); a.err != nil || a.call != 42 {
					t.Fatalf("%s: put: %+v", name, a)
				}
				for _, complete := range []bool{true, false} {
					r.local.complete = complete
					a := get(p, ask(hashOf(key)), key, true)
					if a.err != nil || a.call != 42 || a.complete != complete || !bytes.Equal(a.rec.Raw(), rec.Raw()) {
						t.Errorf("%s: get: %v, complete %v, %d bytes", name, a.err, a.complete, len(a.rec.Raw()))
					}
					a.rec.Release()
					a = get(p, ask(hashOf(key)), key, false)
					if a.err != nil || a.complete != complete || a.rec.Version() != rec.Version() || len(a.rec.Raw()) != 0 || string(a.rec.Key) != key {
						t.Errorf("%s: head: %v, complete %v, %v", name, a.err, a.complete, a.rec.Header)
					}
					a.rec.Release()
				}
			}
			small.Release()
			large.Release()
			r.local.release()

			for _, complete := range []bool{true, false} {
				r.local.complete = complete
				r.local.gone["x"] = object.Errorf(object.CodeExpired, object.NotDone, "over")
				for _, body := range []bool{true, false} {
					a := get(p, ask(hashOf("none")), "none", body)
					want(t, "a get of nothing", a.err, object.CodeAbsent, object.NotDone)
					b := get(p, ask(hashOf("x")), "x", body)
					want(t, "a get of the past", b.err, object.CodeExpired, object.NotDone)
					if a.complete != complete || b.complete != complete {
						t.Errorf("%s: completeness was lost", name)
					}
				}
				a := row(p, ask(0), rowKey)
				if a.err != nil || a.complete != complete || !a.row.Empty() {
					t.Errorf("%s: a row of which nothing was said: %+v", name, a)
				}
				r.local.rows[rowKey] = someRow(t)
				if a = row(p, ask(0), rowKey); a.err != nil || a.complete != complete || !reflect.DeepEqual(a.row, r.local.rows[rowKey]) {
					t.Errorf("%s: a row: %+v", name, a)
				}
				r.local.gone[rowKey.String()] = r.local.gone["x"]
				a = row(p, ask(0), rowKey)
				want(t, "a row of the past", a.err, object.CodeExpired, object.NotDone)
				if a.complete != complete {
					t.Errorf("%s: completeness of a row was lost", name)
				}
				clear(r.local.gone)
				clear(r.local.rows)
			}
		}
		if s := r.peer.Stats(); s.InFlightBytes != 0 || s.InFlightRequests != 0 || s.Failed != 0 || s.Puts != 4 || s.Gets != 16 || s.Heads != 16 || s.Rows != 12 {
			t.Errorf("counts: %+v", s)
		}
		if s := r.handler.Stats(); s.Puts != 4 || s.Gets != 16 || s.Heads != 16 || s.Rows != 12 || s.Malformed != 0 {
			t.Errorf("the handler's counts: %+v", s)
		}
	})
}

// TestErrorsSurvive: code, outcome and sentence arrive as the replica said them.
func TestErrorsSurvive(t *testing.T) {
	r := connected(t, nil)
	defer r.close()
	rec := record(t, blobKey, 100)
	defer rec.Release()
	for _, said := range []*object.Error{
		{Code: object.CodeClosed, Outcome: object.NotDone, Message: "the second is closed"},
		{Code: object.CodeConflict, Outcome: object.NotDone, Message: "other bytes"},
		{Code: object.CodeDisk, Outcome: object.MaybeDone, Message: "the disk burns"},
	} {
		r.local.onPut = func(context.Context) error { return said }
		a := put(r.peer, ask(hashOf(blobKey)), rec)
		want(t, "a put", a.err, said.Code, said.Outcome)
		if a.err.Message != said.Message {
			t.Errorf("the sentence became %q", a.err.Message)
		}
	}
	r.local.onPut = nil
	r.local.gone[blobKey] = object.Errorf(object.CodeUnknown, object.NotDone, "cannot tell")
	want(t, "a get", get(r.peer, ask(hashOf(blobKey)), blobKey, true).err, object.CodeUnknown, object.NotDone)
}

// TestForeignRecord: a record of another key than was asked for is no answer.
func TestForeignRecord(t *testing.T) {
	noBuffersLeft(t, func() {
		r := connected(t, nil)
		defer r.close()
		rec := record(t, blobKey, 100)
		put(r.peer, ask(hashOf(blobKey)), rec)
		rec.Release()
		r.local.recs["other"] = r.local.recs[blobKey]
		delete(r.local.recs, blobKey)
		for _, body := range []bool{true, false} {
			want(t, "a foreign record", get(r.peer, ask(hashOf("other")), "other", body).err, object.CodeCorrupt, object.NotDone)
		}
		if n := r.peer.Stats().BadAnswers; n != 2 {
			t.Errorf("%d bad answers counted", n)
		}
	})
}

func TestLongNames(t *testing.T) {
	r := connected(t, nil)
	defer r.close()
	key := string(make([]byte, object.MaxKeyBytes+1))
	want(t, "a long key", get(r.peer, ask(0), key, true).err, object.CodeBadRequest, object.NotDone)
}

// TestFencing: a node that is behind catches up before it answers; one that
// knows other owners refuses, and the asking side knows the newer history before
// it is told.
func TestFencing(t *testing.T) {
	v := func(i uint64) ring.Version { return ring.Version{Era: 1, Index: i} }
	var learnt []ring.Version
	r := newRig(t, func(c *Config) {
		c.CatchUp = func(v ring.Version, _ time.Time, then func()) {
			learnt = append(learnt, v)
			then()
		}
	})
	defer r.close()
	caught := make(chan ring.Version, 1)
	var refuse error
	r.handler.cfg.CatchUp = func(_ context.Context, v ring.Version, _ ring.NodeID) error {
		caught <- v
		if refuse == nil {
			r.local.setVersion(v)
		}
		return refuse
	}
	if err := r.peer.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := func(version ring.Version) Ask {
		a := ask(hashOf(blobKey))
		a.History = version
		return a
	}
	rec := record(t, blobKey, 100)
	defer rec.Release()

	r.local.setVersion(v(3))
	refuse = errors.New("no way to it")
	want(t, "a put to a node that stays behind", put(r.peer, at(v(4)), rec).err, object.CodeUnavailable, object.NotDone)
	<-caught
	refuse = nil
	if a := put(r.peer, at(v(5)), rec); a.err != nil || <-caught != v(5) {
		t.Errorf("a put to a node that was behind: %+v", a)
	}
	r.handler.cfg.CatchUp = nil
	want(t, "a put to a node that cannot catch up", put(r.peer, at(v(6)), rec).err, object.CodeUnavailable, object.NotDone)

	r.local.setVersion(v(7))
	learnt = nil
	if a := put(r.peer, at(v(6)), rec); a.err != nil { // the same owners
		t.Errorf("a put under an older history: %v", a.err)
	}
	r.local.differs = true
	want(t, "a put to one who is no owner", put(r.peer, at(v(6)), rec).err, object.CodeWrongOwner, object.NotDone)
	for i, read := range []func() answer{
		func() answer { return get(r.peer, at(v(6)), blobKey, true) },
		func() answer { return get(r.peer, at(v(6)), blobKey, false) },
		func() answer { return row(r.peer, at(v(6)), rowKey) },
	} {
		want(t, "a read from one who is no owner", read().err, object.CodeWrongOwner, object.NotDone)
		if len(learnt) != 3+i {
			t.Errorf("the coordinator was told before this node knew: learnt %v", learnt)
		}
	}
	want(t, "a put under the same history", put(r.peer, at(v(7)), rec).err, object.CodeWrongOwner, object.NotDone)
	if len(learnt) != 5 || learnt[0] != v(7) {
		t.Errorf("learnt %v, want version 7, once for each request under 6", learnt)
	}
	if s := r.handler.Stats(); s.CatchUps != 3 || s.WrongOwner != 5 {
		t.Errorf("counts: %+v", s)
	}
	if n := r.peer.Stats().WrongOwner; n != 5 {
		t.Errorf("the peer counted %d refusals", n)
	}
}

// TestRefusalWaitsForTheHistory: a coordinator that is told "wrong owner" looks at
// its history once; it must be the new one by then.
func TestRefusalWaitsForTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known func()
		r := connected(t, func(c *Config) {
			c.CatchUp = func(_ ring.Version, _ time.Time, then func()) { known = then }
		})
		defer r.close()
		r.local.setVersion(ring.Version{Era: 1, Index: 2})
		r.local.differs = true
		rec := record(t, blobKey, 10)
		defer rec.Release()
		a := beginPut(r.peer, ask(hashOf(blobKey)), rec)
		synctest.Wait()
		if len(a) != 0 || known == nil {
			t.Fatal("the refusal did not wait")
		}
		known()
		want(t, "the refusal", (<-a).err, object.CodeWrongOwner, object.NotDone)
	})
}

// TestCaughtUpAndNoOwner: who has caught up may find that it owns nothing.
func TestCaughtUpAndNoOwner(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.handler.cfg.CatchUp = func(_ context.Context, v ring.Version, _ ring.NodeID) error {
		r.local.setVersion(v)
		r.local.differs = true
		return nil
	}
	if err := r.peer.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec := record(t, blobKey, 10)
	defer rec.Release()
	a := ask(hashOf(blobKey))
	a.History = ring.Version{Era: 1, Index: 2}
	want(t, "a put", put(r.peer, a, rec).err, object.CodeWrongOwner, object.NotDone)
	if len(r.local.recs) != 0 {
		t.Error("it was stored")
	}
}

// TestMovedWhileStored: what was stored while the owners changed is not
// acknowledged, and the coordinator may not take it for undone.
func TestMovedWhileStored(t *testing.T) {
	r := connected(t, nil)
	defer r.close()
	r.local.onPut = func(context.Context) error {
		r.local.mu.Lock()
		defer r.local.mu.Unlock()
		r.local.version, r.local.differs = ring.Version{Era: 1, Index: 1}, true
		return nil
	}
	rec := record(t, blobKey, 10)
	defer rec.Release()
	want(t, "a put", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeWrongOwner, object.MaybeDone)
}

// TestStrangers: who is not a node of the cluster gets nothing from a replica.
func TestStrangers(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	dial := func(h wire.Hello) *wire.Conn {
		nc, _ := r.net.dial(t.Context(), "")
		c, err := wire.NewConn(t.Context(), nc, wire.Config{Hello: h})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	user := dial(wire.Hello{Name: "mallory", Cluster: cluster})
	defer user.Close()
	rec := record(t, blobKey, 10)
	defer rec.Release()
	for _, call := range []wire.Call{
		{Op: OpPut, Class: wire.Ingest, Body: []wire.Piece{{Bytes: rec.Raw()}}},
		{Op: OpGet, Class: wire.Get, Meta: appendName(nil, []byte("default"), []byte("events"), []byte(blobKey))},
		{Op: OpHead, Class: wire.Repair},
		{Op: OpRow, Class: wire.Get},
	} {
		_, err := user.Call(t.Context(), &call)
		want(t, "a user", object.AsError(err), object.CodeRefused, object.NotDone)
	}
	if n := r.handler.Stats().Strangers; n != 4 || len(r.local.recs) != 0 {
		t.Errorf("%d strangers counted, %d records stored", n, len(r.local.recs))
	}
	node := dial(wire.Hello{Cluster: cluster, Node: wire.ID(here)})
	defer node.Close()
	for _, c := range []struct {
		call wire.Call
		code object.Code
	}{
		{wire.Call{Op: OpPut, Class: wire.Control, Body: []wire.Piece{{Bytes: rec.Raw()}}}, object.CodeBadRequest},
		{wire.Call{Op: OpGet, Class: wire.Ingest}, object.CodeBadRequest},
		{wire.Call{Op: OpRow + 1, Class: wire.Get}, object.CodeUnsupported},
		{wire.Call{Op: OpGet, Class: wire.Get, Meta: []byte{1}}, object.CodeBadRequest},
		{wire.Call{Op: OpRow, Class: wire.Get, Meta: []byte("x")}, object.CodeBadRequest},
		{wire.Call{Op: OpPut, Class: wire.Ingest, Meta: []byte("x"), Body: []wire.Piece{{Bytes: rec.Raw()}}}, object.CodeBadRequest},
		{wire.Call{Op: OpPut, Class: wire.Ingest, Body: []wire.Piece{{Bytes: rec.Raw()[1:]}}}, object.CodeCorrupt},
	} {
		_, err := node.Call(t.Context(), &c.call)
		want(t, "a strange request", object.AsError(err), c.code, object.NotDone)
	}
}

// FuzzHandler sends a handler any request a node can: it answers, and keeps and
// leaks nothing but what it was rightly given.
func FuzzHandler(f *testing.F) {
	rec := record(f, blobKey, 10)
	f.Add(OpPut, uint8(wire.Ingest), []byte{}, bytes.Clone(rec.Raw()))
	f.Add(OpGet, uint8(wire.Get), appendName(nil, []byte("default"), []byte("events"), []byte(blobKey)), []byte{})
	f.Add(OpHead, uint8(wire.Repair), appendName(nil, []byte("t"), []byte("b"), []byte("k")), []byte{})
	f.Add(OpRow, uint8(wire.Get), []byte("1763712000:ams"), []byte{})
	rec.Release()
	r := newRig(f, nil)
	f.Cleanup(r.close)
	nc, _ := r.net.dial(f.Context(), "")
	c, err := wire.NewConn(f.Context(), nc, wire.Config{Hello: wire.Hello{Cluster: cluster, Node: wire.ID(here)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	f.Fuzz(func(t *testing.T, op, class uint8, meta, body []byte) {
		if op <= wire.OpPing || !wire.Class(class).Known() {
			return
		}
		reply, err := c.Call(t.Context(), &wire.Call{Op: op, Class: wire.Class(class), Meta: meta, Body: []wire.Piece{{Bytes: body}}})
		reply.Release()
		if c.Err() != nil {
			t.Fatalf("the connection was lost: %v", c.Err())
		}
		if e := object.AsError(err); e != nil && e.Outcome != object.NotDone {
			t.Fatalf("a refusal that is %v: %v", e.Outcome, e)
		}
		r.local.release()
	})
}

// TestAnnounce: both sides know then what the other has adopted; who is behind is
// told, and who hears of something newer is as well.
func TestAnnounce(t *testing.T) {
	var caught []ring.Version
	r := connected(t, func(c *Config) {
		c.CatchUp = func(v ring.Version, _ time.Time, then func()) {
			caught = append(caught, v)
			then()
		}
	})
	defer r.close()
	heard := map[ring.NodeID]ring.Version{}
	r.handler.cfg.Heard = func(from ring.NodeID, v ring.Version) { heard[from] = v }
	r.local.setVersion(ring.Version{Era: 1, Index: 3})
	if err := r.peer.Announce(t.Context(), ring.Version{Era: 1, Index: 2}); err != nil {
		t.Fatal(err)
	}
	if heard[here] != (ring.Version{Era: 1, Index: 2}) || r.peer.Seen() != (ring.Version{Era: 1, Index: 3}) {
		t.Errorf("heard %v, seen %v", heard, r.peer.Seen())
	}
	if len(caught) != 1 || caught[0] != r.peer.Seen() {
		t.Errorf("a newer history was not asked for: %v", caught)
	}
	if r.peer.Saw(ring.Version{Era: 1, Index: 1}) || !r.peer.Saw(ring.Version{Era: 1, Index: 9}) || r.peer.Seen().Index != 9 {
		t.Errorf("what was seen: %v", r.peer.Seen())
	}
	if r.handler.Stats().Announced != 1 {
		t.Errorf("counts: %+v", r.handler.Stats())
	}
	for _, call := range []wire.Call{
		{Op: OpAdopted, Class: wire.Get},
		{Op: OpAdopted, Class: wire.Control, Meta: []byte{1}},
	} {
		conn, _ := r.peer.pick(false, nil)
		_, err := conn.Call(t.Context(), &call)
		want(t, "an announcement", object.AsError(err), object.CodeBadRequest, object.NotDone)
	}
}
