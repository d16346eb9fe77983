package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// TestWheel plays random alarms against a list: each rings once, not early, and
// not later than a tick after its time; those taken back never do.
func TestWheel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 3))
	start := time.Unix(1000, 0)
	w := newWheel(start)
	type entry struct {
		alarm
		due time.Time
	}
	now := start
	waiting := map[*entry]bool{}
	rang := 0
	for range 20_000 {
		switch rnd.IntN(4) {
		case 0, 1:
			e := &entry{due: now.Add(time.Duration(rnd.Int64N(int64(2 * time.Second))))}
			e.ring = func(at time.Time) {
				if !waiting[e] || at.Before(e.due) {
					t.Fatalf("rang at %v, due %v, waiting %v", at, e.due, waiting[e])
				}
				delete(waiting, e)
				rang++
			}
			w.set(&e.alarm, e.due)
			waiting[e] = true
		case 2:
			for e := range waiting {
				if !w.cancel(&e.alarm) || w.cancel(&e.alarm) {
					t.Fatal("a waiting alarm is taken back exactly once")
				}
				delete(waiting, e)
				break
			}
		case 3:
			if next, ok := w.next(); ok && rnd.IntN(2) == 0 {
				now = next
			} else {
				now = now.Add(time.Duration(rnd.Int64N(int64(50 * ms))))
			}
			w.advance(now)
			for e := range waiting {
				if now.Sub(e.due) >= wheelTick {
					t.Fatalf("at %v an alarm of %v has not rung", now, e.due)
				}
			}
			if next, ok := w.next(); ok != (len(waiting) > 0) {
				t.Fatalf("next is %v, %v with %d alarms", next, ok, len(waiting))
			}
		}
		if w.count != len(waiting) {
			t.Fatalf("%d alarms, want %d", w.count, len(waiting))
		}
	}
	if rang < 1000 {
		t.Errorf("only %d rang", rang)
	}
}

func TestLatency(t *testing.T) {
	for n := int64(1); n < 1<<40; n += n/7 + 1 {
		b := bucketOf(n)
		if n >= bucketEnd(b) && b < latencyBuckets-1 || b > 0 && n < bucketEnd(b-1) {
			t.Fatalf("%d ns are in bucket %d, which ends at %d", n, b, bucketEnd(b))
		}
	}
	var l Latency
	if d := l.Delay(hedgeFirst, ms, time.Second); d != 20*ms {
		t.Errorf("at first it waits %v", d)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 4 * latencyRefresh { // one in fifty takes 300 ms, others about 1 ms
		d := ms + time.Duration(rnd.Int64N(int64(ms)))
		if rnd.IntN(50) == 0 {
			d = 300 * ms
		}
		l.Observe(d)
	}
	if d := l.Delay(hedgeFirst, 0, time.Second); d < 1500*time.Microsecond || d > 2500*time.Microsecond {
		t.Errorf("with answers in 1 to 2 ms it waits %v", d)
	}
	for range 8 * latencyRefresh {
		l.Observe(50 * ms)
	}
	if d := l.Delay(hedgeFirst, 0, time.Second); d < 50*ms || d > 65*ms {
		t.Errorf("after a while of 50 ms it waits %v", d)
	}
	if d := l.Delay(hedgeFirst, 0, 10*ms); d != 10*ms {
		t.Errorf("the bound of 10 ms gives %v", d)
	}
}

func TestMendable(t *testing.T) {
	for _, c := range []struct {
		claim                     string
		timed                     bool
		epoch, versionMicros, now int64
		want                      bool
	}{
		{"a timed object by its epoch", true, 100, 129e6, 130, true},
		{"not in the newest 30 s", true, 101, 0, 130, false},
		{"a plain object by its version", false, 0, 100e6, 130, true},
		{"not in the newest 30 s either", false, 0, 101e6, 130, false},
		{"nor from the future", true, 200, 0, 130, false},
	} {
		if got := mendable(c.timed, c.epoch, c.versionMicros, c.now); got != c.want {
			t.Errorf("%s: %v", c.claim, got)
		}
	}
}

func TestPeerAdmits(t *testing.T) {
	var p peer
	if !p.admit(60, 100) || p.admit(60, 100) || !p.admit(40, 100) || p.admit(1, 100) {
		t.Error("the bound of 100 is not kept")
	}
	p.inFlight.Store(0)
	if !p.admit(500, 100) || p.admit(500, 100) || p.admit(1, 100) {
		t.Error("what exceeds the bound goes alone")
	}
}

func place(node, slot int) Place {
	return Place{Node: nodeID(node), Type: "default", Bucket: "events", Timed: true, Partition: ring.Partition{Bits: 1}, Slot: int64(slot)}
}

func TestOwed(t *testing.T) {
	o := NewOwed(4, 1000, 3)
	keys := func(p Place) (k []string) {
		for _, d := range o.Debts(p.Node) {
			if d.Place == p {
				k = d.Keys
				if k == nil {
					k = []string{"*"}
				}
			}
			if d.Everything {
				k = []string{"**"}
			}
		}
		return k
	}
	check := func(claim string, p Place, want ...string) {
		t.Helper()
		if got := keys(p); !slices.Equal(got, want) {
			t.Errorf("%s: owed %q, want %q", claim, got, want)
		}
	}
	a, b, c, d := place(1, 1), place(1, 2), place(2, 1), place(2, 2)
	for _, k := range []string{"k2", "k1", "k2"} {
		o.Add(a, []byte(k))
	}
	check("each key once, in order", a, "k1", "k2")

	o.Settle(o.Debts(a.Node)[0])
	check("a debt that was paid", a)

	o.Add(a, []byte("k1"))
	o.Add(a, []byte("k2"))
	debt := o.Debts(a.Node)[0]
	o.Add(a, []byte("k2"))
	o.Add(a, []byte("k3"))
	o.Settle(debt)
	check("what was owed again while it was paid stays", a, "k2", "k3")

	o.Add(b, []byte("k4"))
	o.Add(b, []byte("k5"))
	o.Add(b, []byte("k6"))
	check("too many keys owe the slot", b, "*")
	check("and no other", a, "k2", "k3")
	debt = o.Debts(b.Node)[1]
	o.Add(b, []byte("k7"))
	o.Settle(debt)
	check("a slot that is owed more is not settled", b, "*")

	o.Add(c, nil)
	check("no key owes the slot", c, "*")
	o.Add(d, []byte("k"))
	check("too many places owe the node", c, "**")
	check("and no other node", a, "k2", "k3")
	debt = o.Debts(c.Node)[0]
	o.Add(d, []byte("k"))
	o.Settle(debt)
	check("a node that is owed more is not settled", c, "**")
	o.Settle(o.Debts(c.Node)[0])
	check("a node that was paid", c)

	o.ForgetBefore("default", "events", 2)
	check("expired slots are forgotten", a)
	check("others are not", b, "*")
	o.Settle(o.Debts(b.Node)[0])
	if s := o.Stats(); s.Keys != 0 || s.KeyBytes != 0 || s.Places != 0 || s.Nodes != 0 || s.Degraded != 3 {
		t.Errorf("at the end: %+v", s)
	}
}

// TestOwedNeverForgets: whatever is added and settled in whatever order, a copy
// that was owed after a snapshot is still owed after settling it, and the bounds
// hold.
func TestOwedNeverForgets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 2))
	o := NewOwed(40, 400, 12)
	type item struct {
		p   Place
		key string
	}
	open := map[item]bool{}
	for range 5_000 {
		node := rnd.IntN(4)
		if rnd.IntN(10) == 0 {
			for _, d := range o.Debts(nodeID(node)) {
				if rnd.IntN(3) == 0 { // a copy is owed again while it is being paid
					o.Add(d.Place, []byte("k0"))
					o.Settle(d)
					if !owes(o, d.Place, "k0") {
						t.Fatal("what was owed meanwhile is forgotten")
					}
					for _, k := range d.Keys {
						delete(open, item{d.Place, k}) // the others were paid
					}
					open[item{d.Place, "k0"}] = true
					continue
				}
				o.Settle(d)
				for it := range open {
					if it.p.Node == d.Node && (d.Everything || it.p == d.Place && (d.Keys == nil || slices.Contains(d.Keys, it.key))) {
						delete(open, it)
					}
				}
			}
			continue
		}
		it := item{place(node, rnd.IntN(5)), fmt.Sprint("k", rnd.IntN(20))}
		o.Add(it.p, []byte(it.key))
		open[it] = true
		if s := o.Stats(); s.Keys > 40 || s.KeyBytes > 400 || s.Places > 12 {
			t.Fatalf("the bounds are not kept: %+v", s)
		}
	}
	for it := range open {
		if it.p.Type != "" && !owes(o, it.p, it.key) {
			t.Fatalf("%+v is forgotten", it)
		}
	}
}

func owes(o *Owed, p Place, key string) bool {
	return slices.ContainsFunc(o.Debts(p.Node), func(d Debt) bool {
		return d.Everything || d.Place == p && (d.Keys == nil || slices.Contains(d.Keys, key))
	})
}
