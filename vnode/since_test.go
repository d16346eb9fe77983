package vnode

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// TestSinceGolden pins the note's encoding.
func TestSinceGolden(t *testing.T) {
	for _, c := range []struct {
		since Since
		want  string
	}{
		{Since{Slot: 0x0102030405060708, Plain: true, Born: 0x1112131415161718},
			"4d56534e" + "01000000" + "0807060504030201" + "01" + "00000000000000" + "1817161514131211"},
		{Since{Slot: never}, "4d56534e" + "01000000" + "ffffffffffffff7f" + "00" + "00000000000000" + "0000000000000000"},
	} {
		b := appendSince(nil, c.since)
		if got := hex.EncodeToString(b); got != c.want {
			t.Errorf("%+v: %s, want %s", c.since, got, c.want)
		}
		if s, err := parseSince(b); err != nil || s != c.since {
			t.Errorf("decodes to %+v, %v", s, err)
		}
	}
}

func FuzzSince(f *testing.F) {
	f.Add(appendSince(nil, Since{Slot: 5, Plain: true, Born: 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSince(b)
		if err != nil {
			if !errors.Is(err, errSince) {
				t.Error(err)
			}
			return
		}
		if got := appendSince(nil, s); !slices.Equal(got, b) {
			t.Errorf("%x encodes back to %x", b, got)
		}
	})
}

// twoNodes makes the node's ring one of two nodes.
func (n *node) twoNodes() {
	n.t.Helper()
	r, _, err := ring.Claim([]ring.Node{{ID: ring.NodeID{1}, Name: "one", Weight: 1}, {ID: ring.NodeID{2}, Name: "two", Weight: 1}}, 2, 2, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.history, err = ring.NewHistory(ring.Version{Index: 1}, testSlotSeconds, r); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) partitions() []ring.Partition { return slices.Collect(n.history.Newest().Partitions()) }

func onEngine(t *testing.T, mem *vfs.Mem) *node {
	return newNode(t, 2, func(ttl func(uint64) int64) system { return newEngine(t, mem, ttl) })
}

// TestNewVnodeVouchesFromNowOn: a vnode that is made anew beside others vouches
// for nothing that its predecessor may have acknowledged, now and after a power
// cut; that of a node which is alone vouches for everything.
func TestNewVnodeVouchesFromNowOn(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	n.want("alone", n.get("events", noonKey), "absent")

	n = onEngine(t, vfs.NewMem())
	n.twoNodes()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	check := func(claim string) {
		t.Helper()
		for _, v := range n.set.Vnodes() {
			s := v.Since()
			// Whoever was here admitted nothing beyond his clock, which may have been
			// ahead of this one, and the seconds that are allowed.
			latest := n.now.Unix() + expiry.DefaultAheadSeconds + sinceSkewSeconds
			if s.Slot <= expiry.SlotOf(latest, testSlotSeconds) || s.Slot > expiry.SlotOf(latest, testSlotSeconds)+1 || s.Plain || s.Born != n.now.Unix() {
				t.Errorf("%s: partition %v vouches for %+v", claim, v.Partition(), s)
			}
		}
		n.want(claim+": a blob of now", n.get("events", noonKey), "unknown")
		n.want(claim+": a plain object", n.get("plain", "k"), "unknown")
	}
	check("new")
	n.want("put", n.put("events", noonKey, "blob"), "stored")
	n.want("found", n.get("events", noonKey), "blob")
	n.want("and another is still not absent", n.get("events", blobKey(noon.Unix(), 7)), "unknown")
	n.restart()
	if err := n.set.Open(n.now.Add(time.Hour), n.partitions()...); err != nil {
		t.Fatal(err)
	}
	n.want("after a restart", n.get("events", noonKey), "blob")
	n.want("after a restart it vouches for no more", n.get("events", blobKey(noon.Unix(), 7)), "unknown")
	for _, v := range n.set.Vnodes() {
		if v.Since().Born != noon.Unix() {
			t.Errorf("born anew at a restart: %+v", v.Since())
		}
	}
	later := n.now.Add(time.Duration(3*testSlotSeconds+sinceSkewSeconds+expiry.DefaultAheadSeconds) * time.Second)
	n.now = later
	n.want("a slot of later", n.get("events", blobKey(later.Unix(), 0)), "absent")
}

// TestOthersCome: what a node held alone it vouches for, also when others have
// come: for what it had opened, not for what it never had.
func TestOthersCome(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	opened := n.partitions()[:1]
	if err := n.set.Open(n.now, opened...); err != nil {
		t.Fatal(err)
	}
	n.twoNodes()
	n.restart()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	for i, v := range n.set.Vnodes() {
		if s := v.Since(); s.Whole() != (i == 0) || s.Born != n.now.Unix() {
			t.Errorf("partition %v vouches for %+v", v.Partition(), s)
		}
	}
}

// TestVouching: what is vouched for is durable, and only grows.
func TestVouching(t *testing.T) {
	mem := vfs.NewMem()
	n := onEngine(t, mem)
	n.twoNodes()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	for _, v := range n.set.Vnodes() {
		if err := v.Vouch(Since{Slot: slot}); err != nil {
			t.Fatal(err)
		}
	}
	n.want("a merged slot", n.get("events", noonKey), "absent")
	n.want("the one before", n.get("events", blobKey(noon.Unix()-testSlotSeconds, 0)), "unknown")
	n.restart()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	n.want("the one before, after a restart", n.get("events", blobKey(noon.Unix()-testSlotSeconds, 0)), "unknown")
	for _, v := range n.set.Vnodes() {
		if v.Since() != (Since{Slot: slot, Born: noon.Unix()}) {
			t.Errorf("%+v", v.Since())
		}
		if err := v.Vouch(Since{Plain: true}); err != nil || !v.Since().Whole() {
			t.Errorf("%+v, %v", v.Since(), err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a vnode took back what it vouched for")
				}
			}()
			_ = v.Vouch(Since{Slot: slot})
		}()
	}
	n.want("everything", n.get("plain", "k"), "absent")
}

// TestVnodeOpenedByItsFirstUse vouches for nothing, whatever the time.
func TestVnodeOpenedByItsFirstUse(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	n.twoNodes()
	n.now = noon.Add(time.Hour)
	n.want("a slot of later", n.get("events", blobKey(n.now.Unix(), 0)), "unknown")
}

// TestOpenFails: a vnode that cannot say durably since when it vouches is not
// opened; the others are.
func TestOpenFails(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 2, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.twoNodes()
	broken := errors.New("broken")
	for i, p := range n.partitions() {
		s, err := disk.Store(p)
		if err != nil {
			t.Fatal(err)
		}
		fs := s.(*fakeStore)
		if fs.made = true; i == 1 {
			fs.fail = func(op string, _ []byte) error { return broken }
		}
	}
	if err := n.set.Open(n.now, n.partitions()...); !errors.Is(err, broken) || len(n.set.Vnodes()) != 3 {
		t.Errorf("%d opened, %v", len(n.set.Vnodes()), err)
	}
}

// TestLostManifest: a vnode that lost its manifest and has its data vouches as a
// new one does, for no less than it could, and serves what it has.
func TestLostManifest(t *testing.T) {
	mem := vfs.NewMem()
	n := onEngine(t, mem)
	n.twoNodes()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	n.want("put", n.put("events", noonKey, "blob"), "stored")
	for _, v := range n.set.Vnodes() {
		if err := v.Vouch(whole); err != nil {
			t.Fatal(err)
		}
	}
	e := n.sys.(*engine)
	e.restart()
	entries, err := e.fs.ReadDir("vnode")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := e.fs.Remove("vnode/" + entry.Name); err != nil {
			t.Fatal(err)
		}
	}
	e.restart()
	n.open()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	n.want("what is there", n.get("events", noonKey), "blob")
	n.want("what may have been", n.get("events", blobKey(noon.Unix(), 7)), "unknown")
	for _, v := range n.set.Vnodes() {
		if len(v.Doubts()) > 0 || v.Since().Whole() {
			t.Errorf("doubts %v, vouches for %+v", v.Doubts(), v.Since())
		}
	}
}

// TestSinceAtEveryCrash: whatever part of a first start reached the disk before a
// power cut, the next one does not vouch for what was before.
func TestSinceAtEveryCrash(t *testing.T) {
	for k := 1; ; k++ {
		mem := vfs.NewMem()
		n := onEngine(t, mem)
		n.twoNodes()
		mem.CrashAt(mem.Ops() + k)
		_ = n.set.Open(n.now, n.partitions()[0])
		crashed := mem.Crashed()
		n.sys.(*engine).shut()
		n = onEngine(t, mem.Kill())
		n.twoNodes()
		n.now = noon.Add(time.Second)
		if err := n.set.Open(n.now, n.partitions()[0]); err != nil {
			t.Fatal(err)
		}
		if s := n.set.Vnodes()[0].Since(); s.Slot <= expiry.SlotOf(noon.Unix(), testSlotSeconds) || s.Plain {
			t.Fatalf("crash at %d: it vouches for %+v", k, s)
		}
		if !crashed {
			return
		}
	}
}
