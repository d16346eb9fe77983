package vnode

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// put puts a value, stamped now, and says what came of it: "stored", "known", or
// the code of the error, which must say that nothing was done.
func (n *node) put(bucketName, key, value string) string {
	n.t.Helper()
	return n.putAt(object.Value, bucketName, key, value, n.now)
}

func (n *node) putAt(kind object.Kind, bucketName, key, value string, stamp time.Time) string {
	n.t.Helper()
	ack, err := n.set.Put(n.now, recordOf(n.t, kind, bucketName, key, value, stamp))
	if err != nil {
		if object.AsError(err).Outcome != object.NotDone {
			n.t.Errorf("put %q: %v is %v", key, err, object.AsError(err).Outcome)
		}
		return object.AsError(err).Code.String()
	}
	return ack.String()
}

// get returns the value under a key, or the code that its answer means; the
// header must agree.
func (n *node) get(bucketName, key string) string {
	n.t.Helper()
	a, err := n.set.Get(n.now, refOf(bucketName, key))
	if err != nil {
		return object.AsError(err).Code.String()
	}
	defer a.Release()
	head, err := n.set.Head(n.now, refOf(bucketName, key))
	if err != nil {
		n.t.Fatalf("head %q: %v", key, err)
	}
	defer head.Release()
	if head.State != a.State || head.Complete != a.Complete || a.State == Found && a.Record.Version() != head.Head.Version() {
		n.t.Errorf("%q: get says %v, %v, %+v, head %v, %v, %+v", key, a.State, a.Complete, a.Record.Version(), head.State, head.Complete, head.Head.Version())
	}
	if err := a.Err(); err != nil {
		return object.AsError(err).Code.String()
	}
	if err := a.Record.Verify(); err != nil {
		n.t.Error(err)
	}
	return string(a.Record.Value())
}

func (n *node) want(what, got, want string) {
	n.t.Helper()
	if got != want {
		n.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// declare changes the buckets, live.
func (n *node) declare(d bucket.Declaration) {
	n.t.Helper()
	set, err := n.buckets.Load().Declare(d)
	if err != nil {
		n.t.Fatal(err)
	}
	n.buckets.Store(set)
}

// onSystems runs a test on each system, with a node of four partitions.
func onSystems(t *testing.T, run func(t *testing.T, n *node)) {
	systems(t, func(t *testing.T, makeSystem func(*testing.T, func(uint64) int64) system) {
		buffers, _ := object.Live()
		t.Cleanup(func() {
			if now, _ := object.Live(); now != buffers {
				t.Errorf("%d buffers were not released", now-buffers)
			}
		})
		run(t, newNode(t, 2, func(ttl func(uint64) int64) system { return makeSystem(t, ttl) }))
	})
}

func TestPutAndGet(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		ms := func(d int) time.Time { return n.now.Add(time.Duration(d) * time.Millisecond) }
		for turn := range 2 {
			if turn > 0 {
				n.restart()
			}
			stored := [...]string{"stored", "known"}[turn]

			n.want("a blob", n.put("events", noonKey, "blob"), stored)
			n.want("the same blob again", n.put("events", noonKey, "blob"), "known")
			n.want("the same blob stamped anew", n.putAt(object.Value, "events", noonKey, "blob", ms(5)), "known")
			n.want("another blob", n.put("events", noonKey, "blab"), "conflict")
			n.want("another blob stamped later", n.putAt(object.Value, "events", noonKey, "blab", ms(5)), "conflict")
			n.want("get it", n.get("events", noonKey), "blob")
			n.want("get what is not there", n.get("events", blobKey(noon.Unix(), 9)), "absent")

			n.want("a plain object", n.putAt(object.Value, "plain", "k", "one", ms(1)), stored)
			n.want("an older one", n.putAt(object.Value, "plain", "k", "zero", ms(0)), "known")
			n.want("the newer one stays", n.get("plain", "k"), [...]string{"one", "absent"}[turn])
			n.want("a newer one", n.putAt(object.Value, "plain", "k", "two", ms(2)), stored)
			n.want("get it", n.get("plain", "k"), [...]string{"two", "absent"}[turn])
			n.want("delete it", n.putAt(object.Tombstone, "plain", "k", "", ms(3)), stored)
			n.want("it is deleted", n.get("plain", "k"), "absent")
			n.want("a put from before the delete", n.putAt(object.Value, "plain", "k", "three", ms(2)), "known")
			n.want("it stays deleted", n.get("plain", "k"), "absent")

			n.want("a timed object", n.put("timed", "1763712000:x", "v"), stored)
			n.want("an empty value", n.put("timed", "1763712001:", ""), stored)
			n.want("get it", n.get("timed", "1763712001:"), "")
		}
	})
}

func TestErase(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		before, after := n.now.Add(-time.Second), n.now.Add(time.Second)
		n.want("a blob", n.put("events", noonKey, "blob"), "stored")
		n.want("a delete stamped before it", n.putAt(object.Tombstone, "events", noonKey, "", before), "conflict")
		n.want("it is still there", n.get("events", noonKey), "blob")
		n.want("a delete", n.putAt(object.Tombstone, "events", noonKey, "", after), "stored")
		n.want("the delete again", n.putAt(object.Tombstone, "events", noonKey, "", after), "known")
		for range 2 {
			n.want("it is gone", n.get("events", noonKey), "absent")
			n.want("the same blob", n.put("events", noonKey, "blob"), "conflict")
			n.want("a later blob", n.putAt(object.Value, "events", noonKey, "blab", n.now.Add(3*time.Second)), "conflict")
			n.restart()
		}
		n.want("a delete of what is not there", n.putAt(object.Tombstone, "events", blobKey(noon.Unix(), 9), "", n.now), "stored")
		n.want("the blob that comes after it", n.put("events", blobKey(noon.Unix(), 9), "blob"), "conflict")
	})
}

func TestTimeIsTheKeys(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		const ttl = 3600
		key := fmt.Sprintf("%d:x", noon.Unix())
		beside := key // never put, in the same partition: horizons are a vnode's
		for ring.PartitionOf(refOf("timed", beside).Hash, 2) != ring.PartitionOf(refOf("timed", key).Hash, 2) || beside == key {
			beside += "y"
		}
		n.want("put", n.put("timed", key, "v"), "stored")
		n.now = noon.Add((ttl - 1) * time.Second).Add(999 * time.Millisecond)
		n.want("in the last millisecond of its life", n.get("timed", key), "v")
		n.now = noon.Add(ttl * time.Second)
		n.want("at its deadline", n.get("timed", key), "expired")
		n.want("a key of that second that never was", n.get("timed", beside), "expired")
		n.want("a put", n.put("timed", beside, "v"), "expired")
		n.want("too far ahead", n.put("timed", fmt.Sprintf("%d:x", n.now.Unix()+11), "v"), "too far ahead")

		ten := int64(10 * ttl)
		n.declare(bucket.Declaration{Name: "timed", TTLSeconds: &ten})
		n.want("a longer TTL brings it back", n.get("timed", key), "v")
		one := int64(ttl)
		n.declare(bucket.Declaration{Name: "timed", TTLSeconds: &one})
		n.want("the shorter one hides it again", n.get("timed", key), "expired")

		n.now = noon.Add((ttl + testSlotSeconds) * time.Second)
		n.sys.maintain(n.now)
		n.declare(bucket.Declaration{Name: "timed", TTLSeconds: &ten})
		for range 2 {
			n.want("dropped is dropped, whatever the TTL becomes", n.get("timed", key), "expired")
			n.want("also for what never was", n.get("timed", beside), "expired")
			n.want("and for puts", n.put("timed", beside, "v"), "expired")
			n.want("the next slot is not dropped", n.get("timed", fmt.Sprintf("%d:x", noon.Unix()+testSlotSeconds)), "absent")
			n.restart()
		}
	})
}

func TestPlainTTL(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		n.want("put", n.put("brief", "k", "v"), "stored")
		n.want("put", n.put("brief once", "k", "v"), "stored")
		n.now = noon.Add(59 * time.Second)
		n.want("before its deadline", n.get("brief", "k"), "v")
		n.want("another value", n.put("brief once", "k", "w"), "conflict")
		n.now = noon.Add(60 * time.Second)
		n.want("at its deadline", n.get("brief", "k"), "expired")
		n.want("a new one", n.put("brief", "k", "w"), "stored")
		n.want("get it", n.get("brief", "k"), "w")
		n.want("what nobody can see is in nobody's way", n.put("brief once", "k", "w"), "stored")
		n.want("get it", n.get("brief once", "k"), "w")
	})
}

func TestBadRequests(t *testing.T) {
	onSystems(t, func(t *testing.T, n *node) {
		for _, key := range []string{"x", "1763712000", "0:ams:web:a:0", "1763712000:ams:web:a:x"} {
			n.want("put "+key, n.put("events", key, "v"), "bad request")
			n.want("get "+key, n.get("events", key), "bad request")
		}
		n.want("a value into the index", n.put("epochs", "1763712000:ams", "v"), "bad request")
		n.want("a row under another name", n.get("epochs", "1763712000-ams"), "bad request")
		if _, err := n.set.Head(n.now, refOf("epochs", "1763712000:ams")); !errors.Is(err, object.CodeBadRequest) {
			t.Errorf("the header of a row: %v", err)
		}
		if got := n.set.Stats().Refused; got != 5 {
			t.Errorf("%d refusals counted, want 5", got)
		}
	})
}

// A replica that may have lost something does not prove absence, but what it
// finds is found.
func TestDoubts(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.want("put", n.put("timed", "1763712000:x", "v"), "stored")
	id := uint64(bucket.IDOf("default", "timed"))
	slot := expiry.SlotOf(noon.Unix(), testSlotSeconds)
	for _, test := range []struct {
		claim string
		doubt bitcask.Doubt
		want  string
	}{
		{"its slot", bitcask.Doubt{Bucket: id, Slot: slot}, "unknown"},
		{"another slot", bitcask.Doubt{Bucket: id, Slot: slot + 1}, "absent"},
		{"another bucket", bitcask.Doubt{Bucket: id + 1, Slot: slot}, "absent"},
		{"everything", bitcask.Doubt{All: true}, "unknown"},
	} {
		t.Run(test.claim, func(t *testing.T) {
			disk.stores[ring.Partition{}].doubts = []bitcask.Doubt{test.doubt}
			n.want("what is not there", n.get("timed", "1763712000:y"), test.want)
			n.want("what is there", n.get("timed", "1763712000:x"), "v")
		})
	}
	disk.stores[ring.Partition{}].doubts = []bitcask.Doubt{{Bucket: uint64(bucket.IDOf("default", "plain")), Slot: -1}}
	n.want("a plain bucket's", n.get("plain", "k"), "unknown")
	v, err := n.set.Vnode(ring.Partition{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Doubts() {
		if err := v.ClearDoubt(d); err != nil {
			t.Fatal(err)
		}
	}
	n.want("without a doubt", n.get("plain", "k"), "absent")
}

// What the storage cannot tell is an error, never an answer.
func TestStorageFails(t *testing.T) {
	disk := newFakeDisk(testSlotSeconds, func(uint64) int64 { return 0 })
	n := newNode(t, 0, func(func(uint64) int64) system { return &fakeSystem{disk} })
	n.want("put", n.put("timed", "1763712000:x", "v"), "stored")
	broken := object.Errorf(object.CodeDisk, object.NotDone, "the disk failed")
	disk.stores[ring.Partition{}].fail = func(string, []byte) error { return broken }
	n.want("get", n.get("timed", "1763712000:x"), "disk")
	n.want("put", n.put("timed", "1763712000:y", "v"), "disk")
	if _, err := n.set.Row(n.now, noonRow); !errors.Is(err, object.CodeDisk) {
		t.Errorf("row: %v", err)
	}
	disk.stores[ring.Partition{}].fail = nil
	n.want("get", n.get("timed", "1763712000:x"), "v")
	n.wantRow(noonRow)
	if s := n.set.Stats(); s.Failed != 1 || s.ReadErrors != 2 {
		t.Errorf("%d failures and %d read errors counted, want 1 and 2", s.Failed, s.ReadErrors)
	}
}

func TestConfigSaysAllFaults(t *testing.T) {
	_, err := NewSet(Config{LatenessSeconds: -1, SealAfterSeconds: -1, RowCacheBytes: -1}, nil)
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 6 {
		t.Errorf("got %v, want six faults", err)
	}
}

func TestWrongPartitionIsABug(t *testing.T) {
	n := newNode(t, 2, func(ttl func(uint64) int64) system { return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)} })
	ref := refOf("plain", "k")
	own := ring.PartitionOf(ref.Hash, 2)
	v, err := n.set.Vnode(ring.Partition{Bits: 2, Prefix: own.Prefix ^ 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a hash outside the partition was accepted")
		}
	}()
	v.Get(n.now, ref)
}
