package peer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// TestBytesInFlight: beyond the bound a put is refused, not queued; one larger
// than the bound goes alone.
func TestBytesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := connected(t, func(c *Config) { c.MaxBytes = 10_000 })
			release := make(chan struct{})
			r.local.onPut = func(context.Context) error { <-release; return nil }
			small, large := record(t, blobKey, 4000), record(t, blobKey, 40_000)
			a, b := beginPut(r.peer, ask(hashOf(blobKey)), small), beginPut(r.peer, ask(hashOf(blobKey)), small)
			want(t, "a third put", put(r.peer, ask(hashOf(blobKey)), small).err, object.CodeOverload, object.NotDone)
			want(t, "a large put", put(r.peer, ask(hashOf(blobKey)), large).err, object.CodeOverload, object.NotDone)
			if n := r.peer.Stats().InFlightBytes; n != int64(2*len(small.Raw())) {
				t.Errorf("%d bytes under way", n)
			}
			if g := get(r.peer, ask(hashOf("none")), "none", true); g.err.Code != object.CodeAbsent {
				t.Errorf("a get beside them: %v", g.err)
			}
			close(release)
			for _, p := range []<-chan answer{a, b} {
				if err := (<-p).err; err != nil {
					t.Error(err)
				}
			}
			if p := put(r.peer, ask(hashOf(blobKey)), large); p.err != nil {
				t.Errorf("a large put alone: %v", p.err)
			}
			if n := r.peer.Stats().Overloads; n != 2 {
				t.Errorf("%d overloads counted", n)
			}
			small.Release()
			large.Release()
			r.close()
		})
	})
}

// TestRequestsInFlight: beyond the bound a request is refused, whatever it is.
func TestRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, func(c *Config) { c.MaxRequests = 3 })
		release := make(chan struct{})
		r.local.onPut = func(context.Context) error { <-release; return nil }
		rec := record(t, blobKey, 10)
		defer rec.Release()
		var running []<-chan answer
		for range 3 {
			running = append(running, beginPut(r.peer, ask(hashOf(blobKey)), rec))
		}
		want(t, "a put too many", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeOverload, object.NotDone)
		want(t, "a get too many", get(r.peer, ask(hashOf(blobKey)), blobKey, true).err, object.CodeOverload, object.NotDone)
		want(t, "a row too many", row(r.peer, ask(0), rowKey).err, object.CodeOverload, object.NotDone)
		close(release)
		for _, a := range running {
			if err := (<-a).err; err != nil {
				t.Error(err)
			}
		}
		r.close()
	})
}

// TestSlowPeer: a peer that takes a request and does not answer costs the
// caller no more than its deadline, and the peer is told to stop.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := connected(t, nil)
			stopped := make(chan error, 10)
			r.local.onPut = func(ctx context.Context) error {
				<-ctx.Done()
				stopped <- ctx.Err()
				return ctx.Err()
			}
			rec := record(t, blobKey, 10)
			began := time.Now()
			a := ask(hashOf(blobKey))
			a.Deadline = began.Add(300 * time.Millisecond)
			want(t, "a put to a slow peer", put(r.peer, a, rec).err, object.CodeDeadline, object.MaybeDone)
			if took := time.Since(began); took < 300*time.Millisecond || took > 320*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			<-stopped
			want(t, "a put after its deadline", put(r.peer, a, rec).err, object.CodeDeadline, object.NotDone)
			if s := r.peer.Stats(); s.InFlightBytes != 0 || s.InFlightRequests != 0 {
				t.Errorf("still under way: %+v", s)
			}
			rec.Release()
			r.close()
		})
	})
}

// TestBulkHasItsOwnConnection: a large record that does not get through does not
// hold up small requests.
func TestBulkHasItsOwnConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, func(c *Config) { c.BulkBytes = 50_000 })
		synctest.Wait()
		if n := r.peer.Stats().Connected; n != numLines {
			t.Fatalf("%d lines are up", n)
		}
		rec := record(t, blobKey, 50_000)
		defer rec.Release()
		release := make(chan struct{})
		r.local.onPut = func(context.Context) error { <-release; return nil }
		a := beginPut(r.peer, ask(hashOf(blobKey)), rec)
		b := beginPut(r.peer.Repair(), ask(hashOf(blobKey)), rec)
		synctest.Wait()
		for i, l := range r.peer.lines {
			if n, want := l.conn.Load().InFlight(), []int{0, 0, 2}[i]; n != want {
				t.Errorf("line %d has %d requests, want %d", i, n, want)
			}
		}
		close(release)
		for _, p := range []<-chan answer{a, b} {
			if err := (<-p).err; err != nil {
				t.Error(err)
			}
		}
		r.close()
	})
}

// TestByReference: a record is sent from the Buffer it came in, and that is let
// go when it has left.
func TestByReference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, nil)
		release := make(chan struct{})
		r.local.onPut = func(context.Context) error { <-release; return object.Errorf(object.CodeDisk, object.NotDone, "no") }
		rec := record(t, blobKey, 100_000)
		_, before := object.Live()
		a := beginPut(r.peer, ask(hashOf(blobKey)), rec)
		rec.Release() // the Peer's use is its own
		synctest.Wait()
		if _, after := object.Live(); after > before+int64(rec.Buf.Cap()) {
			t.Errorf("%d more bytes in use while one replica holds 100 KB: it was copied here", after-before)
		}
		close(release)
		<-a
		r.close()
	})
}
