package vnode

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A system is storage under test: the engine, or what stands in for it.
type system interface {
	disks() Disks

	// restart is what a SIGKILL and a start leave: what was appended is there,
	// what was in memory is not. A Set made before is not to be used after it.
	restart()

	// maintain is the engine's own upkeep at a time: expiry above all.
	maintain(now time.Time)
}

const testSlotSeconds = 10

// systems are all of them, each with the TTLs of the buckets.
func systems(t *testing.T, run func(t *testing.T, make func(t *testing.T, ttl func(uint64) int64) system)) {
	t.Run("fake", func(t *testing.T) {
		run(t, func(t *testing.T, ttl func(uint64) int64) system {
			return &fakeSystem{newFakeDisk(testSlotSeconds, ttl)}
		})
	})
	t.Run("bitcask on a crashing file system", func(t *testing.T) {
		run(t, func(t *testing.T, ttl func(uint64) int64) system {
			return newEngine(t, vfs.NewMem(), ttl)
		})
	})
	t.Run("bitcask on files", func(t *testing.T) {
		run(t, func(t *testing.T, ttl func(uint64) int64) system {
			return newEngine(t, openDir(t, t.TempDir()), ttl)
		})
	})
}

type fakeSystem struct{ disk *fakeDisk }

func (s *fakeSystem) disks() Disks           { return s.disk }
func (s *fakeSystem) restart()               {}
func (s *fakeSystem) maintain(now time.Time) { s.disk.expire(now.Unix()) }

// An engine is a bitcask.Disk that can be restarted.
type engine struct {
	t    testing.TB
	fs   vfs.FS
	cfg  bitcask.Config
	disk *bitcask.Disk
}

func newEngine(t testing.TB, fsys vfs.FS, ttl func(uint64) int64) *engine {
	e := &engine{t: t, fs: fsys, cfg: engineConfig(ttl)}
	e.open()
	t.Cleanup(e.shut)
	return e
}

func engineConfig(ttl func(uint64) int64) bitcask.Config {
	return bitcask.Config{
		Cluster: bitcask.ID{1}, Node: bitcask.ID{2}, SlotSeconds: testSlotSeconds, BootID: "boot", TTL: ttl,
		Hash:         func(bucketType, bucket, key []byte) uint64 { return ring.Hash(bucketType, bucket, key) },
		SyncInterval: time.Hour, MinFreeBytes: 1,
	}
}

func openDir(t testing.TB, dir string) vfs.FS {
	t.Helper()
	d, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (e *engine) open() {
	e.t.Helper()
	disk, err := bitcask.OpenDisk(e.fs, e.cfg, noon.UnixMicro())
	if err != nil {
		e.t.Fatal(err)
	}
	e.disk = disk
}

func (e *engine) shut() {
	if e.disk != nil {
		e.disk.Close() // of one that has crashed it fails, as it should
	}
	e.disk = nil
}

func (e *engine) disks() Disks {
	e.t.Helper()
	d, err := OnDisks(e.disk)
	if err != nil {
		e.t.Fatal(err)
	}
	return d
}

func (e *engine) restart() {
	e.t.Helper()
	if mem, ok := e.fs.(*vfs.Mem); ok {
		e.fs = mem.Kill()
	}
	e.shut()
	e.open()
}

func (e *engine) maintain(now time.Time) {
	e.t.Helper()
	for range 8 {
		if _, err := e.disk.Maintain(now.Unix(), true); err != nil {
			e.t.Fatal(err)
		}
	}
}

// A node is a Set over a system, with what it needs.
type node struct {
	t       testing.TB
	sys     system
	buckets atomic.Pointer[bucket.Set]
	history *ring.History
	cfg     Config
	set     *Set
	now     time.Time
}

func newNode(t testing.TB, bits uint8, make func(ttl func(uint64) int64) system) *node {
	t.Helper()
	n := &node{t: t, history: oneNodeHistory(t, bits), now: noon}
	n.buckets.Store(testBuckets(t))
	n.sys = make(TTLs(n.buckets.Load))
	n.cfg = Config{
		Buckets: n.buckets.Load, History: func() *ring.History { return n.history }, SlotSeconds: testSlotSeconds,
	}
	n.open()
	return n
}

func oneNodeHistory(t testing.TB, bits uint8) *ring.History {
	t.Helper()
	r, _, err := ring.Claim([]ring.Node{{ID: ring.NodeID{1}, Name: "one", Weight: 1}}, bits, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ring.NewHistory(ring.Version{Index: 1}, testSlotSeconds, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (n *node) open() {
	n.t.Helper()
	set, err := NewSet(n.cfg, n.sys.disks())
	if err != nil {
		n.t.Fatal(err)
	}
	n.set = set
}

// restart kills the process and starts it again, without what Recover does.
func (n *node) restart() {
	n.t.Helper()
	n.sys.restart()
	n.open()
}

func (n *node) clock() time.Time { return n.now }

// recordOf encodes an object; it is released when the test ends.
func recordOf(t testing.TB, kind object.Kind, bucketName, key, value string, stamp time.Time) object.Record {
	t.Helper()
	h := object.Header{
		Kind: kind, TimestampMicros: stamp.UnixMicro(), Type: []byte(bucket.DefaultType), Bucket: []byte(bucketName), Key: []byte(key),
		EventCount: uint32(len(value)),
	}
	if bucketName == bucket.Events {
		h.Writer, h.Incarnation = []byte("agg"), 7
	}
	rec, err := object.Encode(h, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Release)
	return rec
}

func refOf(bucketName, key string) Ref {
	return RefOf([]byte(bucket.DefaultType), []byte(bucketName), []byte(key))
}

// blobKey is the n-th blob of a second.
func blobKey(epoch int64, n int) string { return fmt.Sprintf("%d:ams:web:sub%d:%d", epoch, n%3, n) }
