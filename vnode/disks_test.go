package vnode

import (
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// Partitions are spread over the disks and stay where they are.
func TestOnDisks(t *testing.T) {
	set := bucket.DefaultSet()
	engines := []*engine{
		newEngine(t, vfs.NewMem(), TTLs(func() *bucket.Set { return set })),
		newEngine(t, vfs.NewMem(), TTLs(func() *bucket.Set { return set })),
	}
	open := func(order ...int) Disks {
		t.Helper()
		d, err := OnDisks(engines[order[0]].disk, engines[order[1]].disk)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	partition := func(i int) ring.Partition { return ring.Partition{Bits: 3, Prefix: uint32(i)} }
	where := map[int]*engine{}
	disks := open(0, 1)
	for i := range 6 {
		store, err := disks.Store(partition(i))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range engines {
			if s, err := e.disk.Store(bitcask.Partition(partition(i))); err == nil && Storage(s) == store {
				where[i] = e
			}
		}
		if err := store.(*bitcask.Store).SetNote([]byte("here")); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range engines {
		if all, err := e.disk.Partitions(); err != nil || len(all) != 3 {
			t.Errorf("a disk has the partitions %v, %v, want 3 of 6", all, err)
		}
		e.restart()
	}
	disks = open(1, 0)
	if all, err := disks.Partitions(); err != nil || len(all) != 6 {
		t.Errorf("partitions %v, %v", all, err)
	}
	for i := range 6 {
		store, err := disks.Store(partition(i))
		if err != nil {
			t.Fatal(err)
		}
		if note := store.(*bitcask.Store).Note(); string(note) != "here" {
			t.Errorf("partition %d is not where it was: %q", i, note)
		}
	}
	if len(where) != 6 {
		t.Errorf("%d of 6 partitions were found again", len(where))
	}
}

// TestDiskThatWasAway: a disk that is back after its partitions were made anew
// elsewhere serves nothing of them: it would vouch for what it has missed.
func TestDiskThatWasAway(t *testing.T) {
	ttl := func(uint64) int64 { return 0 }
	first, second := newEngine(t, vfs.NewMem(), ttl), newEngine(t, vfs.NewMem(), ttl)
	n := newNode(t, 2, func(func(uint64) int64) system { return first })
	n.twoNodes()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	for _, v := range n.set.Vnodes() {
		if err := v.Vouch(whole); err != nil {
			t.Fatal(err)
		}
	}
	n.sys, n.now = second, n.now.Add(time.Minute) // the first disk is away
	n.open()
	if err := n.set.Open(n.now, n.partitions()...); err != nil {
		t.Fatal(err)
	}
	n.want("a put on the second disk", n.put("events", noonKey, "v"), "stored")
	check := func() {
		t.Helper()
		for _, order := range [][2]*engine{{first, second}, {second, first}} {
			disks, err := OnDisks(order[0].disk, order[1].disk)
			if err != nil {
				t.Fatal(err)
			}
			if n.set, err = NewSet(n.cfg, disks); err != nil {
				t.Fatal(err)
			}
			if err := n.set.Open(n.now, n.partitions()...); err != nil {
				t.Fatal(err)
			}
			n.want("both are there", n.get("events", noonKey), "v")
			n.want("what the first would vouch for", n.get("events", blobKey(noon.Unix(), 9)), "unknown")
		}
	}
	check()
	second.shut() // its manifests are damaged
	fsys := second.fs
	manifests, err := fsys.ReadDir("vnode")
	if err != nil || len(manifests) == 0 {
		t.Fatal(manifests, err)
	}
	for _, e := range manifests {
		if err := vfs.PublishBytes(fsys, "vnode/"+e.Name, []byte("damaged")); err != nil {
			t.Fatal(err)
		}
	}
	second.open()
	check()
}

func TestTTLs(t *testing.T) {
	set := bucket.DefaultSet()
	ttl := TTLs(func() *bucket.Set { return set })
	events, plain := uint64(bucket.IDOf("default", "events")), uint64(bucket.IDOf("default", "plain"))
	if ttl(events) != bucket.DefaultEventsTTL || ttl(plain) != 0 {
		t.Errorf("got %d and %d", ttl(events), ttl(plain))
	}
	five := int64(5)
	changed, err := set.Declare(bucket.Declaration{Name: "events", TTLSeconds: &five}, bucket.Declaration{Name: "plain", TTLSeconds: &five})
	if err != nil {
		t.Fatal(err)
	}
	set = changed
	if ttl(events) != 5 || ttl(plain) != 5 {
		t.Errorf("after a change: got %d and %d", ttl(events), ttl(plain))
	}
}
