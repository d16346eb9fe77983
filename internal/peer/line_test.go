package peer

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// TestLazy: nothing is dialled before the first request, which fails at once and
// makes the connection come.
func TestLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		synctest.Wait()
		if n := r.net.count(); n != 0 || r.peer.Connected() {
			t.Errorf("%d dials before the first request", n)
		}
		rec := record(t, blobKey, 10)
		defer rec.Release()
		began := time.Now()
		want(t, "the first put", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeUnavailable, object.NotDone)
		if !time.Now().Equal(began) {
			t.Error("it waited")
		}
		synctest.Wait()
		if n := r.net.count(); n != ordinaryLines {
			t.Errorf("%d dials after it", n)
		}
		if a := put(r.peer, ask(hashOf(blobKey)), rec); a.err != nil {
			t.Errorf("the second put: %v", a.err)
		}
	})
}

// TestDownPeer: a peer nobody can reach costs its requests no time and is dialled
// less and less often; when it is back, so are the connections.
func TestDownPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		r.net.listen(nil)
		rec := record(t, blobKey, 10)
		defer rec.Release()
		for range 10_000 {
			began := time.Now()
			a := put(r.peer, ask(hashOf(blobKey)), rec)
			want(t, "a put to a peer that is down", a.err, object.CodeUnavailable, object.NotDone)
			if !time.Now().Equal(began) {
				t.Fatal("it waited")
			}
			time.Sleep(10 * time.Millisecond)
		}
		// 100 s at 2.5 to 5 s, after ten or so attempts that come sooner.
		if n := r.net.count(); n < ordinaryLines*20 || n > ordinaryLines*60 {
			t.Errorf("%d dials in 100 s by %d lines", n, ordinaryLines)
		}
		a := put(r.peer, ask(hashOf(blobKey)), rec)
		if !strings.Contains(a.err.Message, errNobody.Error()) {
			t.Errorf("the error does not say why: %v", a.err)
		}
		r.net.listen(r.srv)
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		if err := r.peer.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		if a := put(r.peer, ask(hashOf(blobKey)), rec); a.err != nil {
			t.Errorf("a put to a peer that is back: %v", a.err)
		}
		if s := r.peer.Stats(); s.Disconnected != 10_001 || s.Failed != 10_001 || s.Puts != 10_002 || s.ConnectFailures < 40 {
			t.Errorf("counts: %+v", s)
		}
	})
}

// TestHungDial: an address that swallows connections costs requests no time
// either, and Close does not wait for it.
func TestHungDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) {
			c.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		rec := record(t, blobKey, 10)
		defer rec.Release()
		began := time.Now()
		want(t, "a put", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeUnavailable, object.NotDone)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := r.peer.Connect(ctx); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("Connect: %v after %v", err, time.Since(began))
		}
		r.close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("Close waited until %v", took)
		}
		want(t, "a put after Close", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeStopping, object.NotDone)
		if err := r.peer.Connect(t.Context()); err == nil {
			t.Error("Connect after Close succeeded")
		}
	})
}

// TestKilledMidRequest: what the peer had is maybe done, what it cannot have had
// is not, and both are told exactly once.
func TestKilledMidRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newRig(t, nil)
			r.local.began = make(chan struct{}, 100)
			r.local.onPut = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			if err := r.peer.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			rec := record(t, blobKey, 1000)
			var inside []<-chan answer
			for range 20 {
				inside = append(inside, beginPut(r.peer, ask(hashOf(blobKey)), rec))
			}
			synctest.Wait()
			if len(r.local.began) != 20 {
				t.Errorf("%d of 20 puts have begun", len(r.local.began))
			}
			r.net.listen(nil)
			r.net.cut()
			for _, a := range inside {
				want(t, "a put that had begun", (<-a).err, object.CodeUnavailable, object.MaybeDone)
			}
			synctest.Wait()
			want(t, "a put afterwards", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeUnavailable, object.NotDone)
			for _, a := range inside {
				if len(a) != 0 {
					t.Error("a put was answered twice")
				}
			}
			if s := r.peer.Stats(); s.InFlightBytes != 0 || s.InFlightRequests != 0 || s.Connected != 0 {
				t.Errorf("still under way: %+v", s)
			}
			rec.Release()
			r.close()
		})
	})
}

// TestCloseAnswersAll: Close answers what is under way before it returns.
func TestCloseAnswersAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.local.onPut = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		if err := r.peer.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		rec := record(t, blobKey, 1000)
		defer rec.Release()
		a := beginPut(r.peer, ask(hashOf(blobKey)), rec)
		synctest.Wait()
		r.close()
		if len(a) != 1 {
			t.Fatal("a request was not answered when Close returned")
		}
		want(t, "a put under way", (<-a).err, object.CodeUnavailable, object.MaybeDone)
	})
}

// TestFlappingPeer: a peer that takes connections and drops them is not dialled
// without pause.
func TestFlappingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, nil)
		defer r.close()
		for range 60_000 {
			time.Sleep(time.Millisecond)
			r.net.cut()
		}
		if n := r.net.count(); n > numLines*50 {
			t.Errorf("%d dials in a minute by %d lines", n, numLines)
		}
	})
}

// TestReconnectStorm: many requests while the peer comes and goes make no more
// connections than lines, and each is answered once.
func TestReconnectStorm(t *testing.T) {
	noBuffersLeft(t, func() {
		r := connected(t, func(c *Config) { c.BackOffLeast, c.BackOffMost = 100*time.Microsecond, time.Millisecond })
		stop := make(chan struct{})
		var cutter, putters sync.WaitGroup
		cutter.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r.net.cut()
				for range 20 {
					if r.peer.Connect(t.Context()) != nil {
						return
					}
				}
			}
		})
		for range 8 {
			putters.Go(func() {
				rec := record(t, blobKey, 3000)
				defer rec.Release()
				for range 200 {
					a := put(r.peer, ask(hashOf(blobKey)), rec)
					if a.err != nil && a.err.Code != object.CodeUnavailable {
						t.Errorf("a put: %v", a.err)
					}
				}
			})
		}
		putters.Wait()
		close(stop)
		cutter.Wait()
		s := r.peer.Stats()
		if s.Puts != 1600 || s.InFlightRequests != 0 || s.InFlightBytes != 0 || s.Connected > numLines {
			t.Errorf("counts: %+v", s)
		}
		r.close()
		if open := r.srv.Stats().Open; open != 0 {
			t.Errorf("%d connections are left", open)
		}
	})
}

// TestWrongNode: whoever else answers at the peer's address is refused, by name.
func TestWrongNode(t *testing.T) {
	for _, c := range []struct {
		claim  string
		change func(*Config)
		says   string
	}{
		{"another node", func(c *Config) { c.Node = ring.NodeID{9} }, "was expected at"},
		{"another cluster", func(c *Config) { c.Hello.Cluster = wire.ID{0xdd} }, "belongs to cluster"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, c.change)
			defer r.close()
			rec := record(t, blobKey, 10)
			defer rec.Release()
			put(r.peer, ask(hashOf(blobKey)), rec)
			synctest.Wait()
			a := put(r.peer, ask(hashOf(blobKey)), rec)
			want(t, c.claim, a.err, object.CodeUnavailable, object.NotDone)
			if !strings.Contains(a.err.Message, c.says) {
				t.Errorf("%s: the error does not say so: %v", c.claim, a.err)
			}
			if r.handler.Stats().Puts != 0 || r.peer.Connected() {
				t.Errorf("%s was talked to", c.claim)
			}
		})
	}
}

// TestDrainingPeer: a peer that shuts down gently takes no new requests and
// finishes the others.
func TestDrainingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, nil)
		release := make(chan struct{})
		r.local.onPut = func(context.Context) error { <-release; return nil }
		rec := record(t, blobKey, 10)
		defer rec.Release()
		synctest.Wait()
		running := []<-chan answer{beginPut(r.peer, ask(hashOf(blobKey)), rec), beginPut(r.peer, ask(hashOf(blobKey)), rec)}
		bulk := beginPut(r.peer.Repair(), ask(hashOf(blobKey)), rec)
		synctest.Wait()
		r.net.listen(nil)
		down := make(chan struct{})
		go func() {
			_ = r.srv.Shutdown(context.Background())
			close(down)
		}()
		synctest.Wait()
		want(t, "a put to a peer that stops", put(r.peer, ask(hashOf(blobKey)), rec).err, object.CodeStopping, object.NotDone)
		close(release)
		for _, a := range append(running, bulk) {
			if err := (<-a).err; err != nil {
				t.Errorf("a put that was running: %v", err)
			}
		}
		<-down
		r.close()
	})
}

// TestConfigReportsAllFaults: nothing is left for a second try.
func TestConfigReportsAllFaults(t *testing.T) {
	_, err := New(Config{MaxBytes: -1, ConnectTimeout: -1, BackOffLeast: 2, BackOffMost: 1})
	if err == nil {
		t.Fatal("it passed")
	}
	for _, says := range []string{"node to reach", "address", "this node", "cluster", "bound", "time is negative", "connecting again"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in: %v", says, err)
		}
	}
}
