package peer

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBackOff: a pause is doubled up to the most, and forgotten after a connection
// that was up for longer than that.
func TestBackOff(t *testing.T) {
	b := newBackOff(time.Second, 5*time.Second)
	for i, c := range []struct{ lasted, pause time.Duration }{
		{0, time.Second},
		{0, 2 * time.Second},
		{5 * time.Second, 4 * time.Second},
		{0, 5 * time.Second},
		{0, 5 * time.Second},
		{5*time.Second + 1, time.Second},
		{0, 2 * time.Second},
	} {
		if got := b.ended(c.lasted); got != c.pause {
			t.Errorf("attempt %d: a pause of %v, want %v", i, got, c.pause)
		}
	}
}

// TestBackOffHeard: a peer that is heard is tried at once, unless it just was.
func TestBackOffHeard(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		claim                        string
		before                       int // times it was heard before
		remaining, since, want, most time.Duration
	}{
		{"the last attempt was long ago", 0, 3000 * ms, 2000 * ms, 0, 5000 * ms},
		{"it began a moment ago", 0, 3000 * ms, 50 * ms, heardApart - 50*ms, 5000 * ms},
		{"the pause would have been over sooner", 0, 20 * ms, 0, 20 * ms, 5000 * ms},
		{"heard for the third time", 2, 5000 * ms, 0, 4 * heardApart, 5000 * ms},
		{"heard for the hundredth time", 99, 5000 * ms, 1000 * ms, 4000 * ms, 5000 * ms},
		{"the most is little", 0, 100 * ms, 20 * ms, 80 * ms, 100 * ms},
	} {
		b := newBackOff(min(20*ms, c.most), c.most)
		for range c.before {
			b.heard(0, 0)
		}
		if got := b.heard(c.remaining, c.since); got != c.want {
			t.Errorf("%s: %v, want %v", c.claim, got, c.want)
		}
	}
	b := newBackOff(20*ms, 5000*ms)
	for range 99 {
		b.heard(0, 0)
	}
	if b.ended(time.Minute); b.heard(5000*ms, 0) != heardApart {
		t.Error("a connection that was up for long did not make it forget")
	}
}

// TestHeardPeer: a peer that was away for long and connects to this node gets its
// connections back at once.
func TestHeardPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connected(t, nil)
		defer r.close()
		time.Sleep(time.Minute)
		for range 20 {
			r.net.listen(nil)
			r.net.cut()
			time.Sleep(time.Minute) // pauses are of 2.5 to 5 s by now
			r.net.listen(r.srv)
			back := time.Now()
			for range numLines {
				r.peer.Heard()
			}
			if err := r.peer.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(back); took > heardApart {
				t.Errorf("the connection is back after %v", took)
			}
			time.Sleep(heardApart)
			if s := r.peer.Stats(); s.Connected != numLines {
				t.Errorf("%d lines are up a moment later", s.Connected)
			}
			time.Sleep(time.Minute)
		}
		if s := r.peer.Stats(); s.Hurried < 20 || s.Hurried > 20*numLines {
			t.Errorf("%d attempts were hurried", s.Hurried)
		}
	})
}

// TestHeardDuringAttempt: what is heard while an attempt fails is not lost: the
// next one follows soon.
func TestHeardDuringAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials []time.Time // by one line; guarded by mu
		var mu sync.Mutex
		var r *rig
		r = newRig(t, func(c *Config) {
			c.Dial = func(context.Context, string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if dials = append(dials, time.Now()); len(dials) == 20 {
					r.peer.Heard()
				}
				return nil, errNobody
			}
		})
		defer r.close()
		r.peer.start(r.peer.lines[0])
		time.Sleep(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if d := dials[20].Sub(dials[19]); d != heardApart {
			t.Errorf("the next attempt came after %v", d)
		}
		if d := dials[21].Sub(dials[20]); d < time.Second {
			t.Errorf("and another after %v", d)
		}
	})
}

// TestHeardForEver: a peer that is heard all the time and cannot be held is not
// dialled more often for that, whether its address refuses or it drops the
// connections.
func TestHeardForEver(t *testing.T) {
	for _, refused := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := connected(t, nil)
			defer r.close()
			if refused {
				r.net.listen(nil)
			}
			for range 6_000 {
				time.Sleep(10 * time.Millisecond)
				r.net.cut()
				r.peer.Heard()
			}
			if n := r.net.count(); n > numLines*40 {
				t.Errorf("refused %v: %d dials in a minute by %d lines", refused, n, numLines)
			}
		})
	}
}

// TestHeardUnused: a peer that nobody has a request for is not dialled because it
// is heard, and what is heard while the lines are up means nothing later.
func TestHeardUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		r.peer.Heard()
		synctest.Wait()
		if n := r.net.count(); n != 0 {
			t.Errorf("%d dials", n)
		}
		if err := r.peer.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.peer.Heard()
		r.net.cut()
		time.Sleep(time.Second)
		if s := r.peer.Stats(); s.Hurried != 0 || s.Connected != numLines {
			t.Errorf("counts: %+v", s)
		}
	})
}
