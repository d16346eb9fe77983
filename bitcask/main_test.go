package bitcask

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	t0       = int64(1_763_712_000) // a slot's start, for slots of 10 s and of 3600 s
	testSlot = int64(10)            // seconds
	testTTL  = int64(100)           // seconds, of timed buckets
)

var (
	events = Bucket{ID: 0xe1, Type: "default", Name: "events", Timed: true}
	epochs = Bucket{ID: 0xe2, Type: "default", Name: "epochs", Timed: true, KeepAll: true}
	plain  = Bucket{ID: 0xe3, Type: "default", Name: "notes"}
)

func (b Bucket) synced(s Sync) Bucket { b.Sync = s; return b }

// testHash stands for the placement hash. All keys that begin with "same" get
// one hash, and those with "near" one lower half.
func testHash(typ, bucket, key []byte) uint64 {
	h := object.Checksum(fmt.Appendf(nil, "%d:%s%d:%s%s", len(typ), typ, len(bucket), bucket, key))
	if i := indexByte(key, ':'); i >= 0 && len(key) > i+5 {
		switch string(key[i+1 : i+5]) {
		case "same":
			return 0x0123456789abcdef
		case "near":
			return h&^0xffffffff | 0x89abcdef
		}
	}
	return h
}

func indexByte(b []byte, c byte) int {
	for i := range b {
		if b[i] == c {
			return i
		}
	}
	return -1
}

func testConfig() Config {
	return Config{
		Cluster: ID{1}, Node: ID{2}, SlotSeconds: testSlot, Hash: testHash, BootID: "boot-1",
		TTL: func(id uint64) int64 {
			if id == plain.ID {
				return 0
			}
			return testTTL
		},
		SyncInterval: time.Hour, // tests sync by hand
		MinFreeBytes: 1 << 20,
		reserveBytes: 8 << 10,
		Log:          slog.New(slog.DiscardHandler),
	}
}

// openDisk opens a disk that is closed at the end of the test, if it was not before.
func openDisk(t testing.TB, fsys vfs.FS, cfg Config) *Disk {
	t.Helper()
	d, err := OpenDisk(fsys, cfg, t0*1e6)
	if err != nil {
		t.Fatalf("opening the disk: %v", err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func openAll(t testing.TB, fsys vfs.FS, cfg Config) (*Disk, *Store) {
	t.Helper()
	d := openDisk(t, fsys, cfg)
	s, err := d.Store(Partition{})
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	return d, s
}

// A testObject is a record to put.
type testObject struct {
	b     Bucket
	epoch int64
	key   string
	rec   object.Record
}

func (o *testObject) hash() uint64 {
	return testHash([]byte(o.b.Type), []byte(o.b.Name), []byte(o.key))
}

// make1 builds an object; stamp is its timestamp in microseconds.
func make1(t testing.TB, b Bucket, epoch int64, name string, stamp int64, value []byte) *testObject {
	t.Helper()
	key := name
	if b.Timed {
		key = fmt.Sprintf("%d:%s", epoch, name)
	}
	kind := object.Value
	if b.KeepAll {
		kind = object.Delta
	}
	rec, err := object.Encode(object.Header{
		Kind: kind, TimestampMicros: stamp, Type: []byte(b.Type), Bucket: []byte(b.Name), Key: []byte(key), Writer: []byte("w"),
	}, value)
	if err != nil {
		t.Fatal(err)
	}
	return &testObject{b, epoch, key, rec}
}

func tombstone(t testing.TB, b Bucket, epoch int64, name string, stamp int64) *testObject {
	t.Helper()
	o := make1(t, b, epoch, name, stamp, nil)
	rec, err := object.Encode(object.Header{Kind: object.Tombstone, TimestampMicros: stamp, Type: []byte(b.Type), Bucket: []byte(b.Name), Key: []byte(o.key)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.rec = rec
	return o
}

// put puts at the object's own time.
func (s *Store) putTest(o *testObject) (Action, error) {
	return s.Put(o.b, o.hash(), o.epoch, t0, o.rec, nil)
}

func mustPut(t testing.TB, s *Store, o *testObject) {
	t.Helper()
	if action, err := s.putTest(o); err != nil || action != Append {
		t.Fatalf("put %q: %v, %v", o.key, action, err)
	}
}

// getErr reads an object back and compares it; nil means it is there as it was put.
func (s *Store) getErr(o *testObject, now int64) error {
	rec, err := s.Get(o.b, o.hash(), o.epoch, now, []byte(o.key))
	if err != nil {
		return err
	}
	defer rec.Release()
	if err := rec.Verify(); err != nil {
		return err
	}
	if string(rec.Raw()) != string(o.rec.Raw()) {
		return fmt.Errorf("got version %v of key %q, want %v", rec.Version(), o.key, o.rec.Version())
	}
	return nil
}

func mustGet(t testing.TB, s *Store, o *testObject) {
	t.Helper()
	if err := s.getErr(o, t0); err != nil {
		t.Fatalf("get %q: %v", o.key, err)
	}
}

func wantErr(t testing.TB, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

// bytesOf returns n bytes that depend on a seed.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, 0, n+8)
	rng := rand.New(rand.NewPCG(seed, 1))
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:n]
}

func slotAt(epoch int64) expiry.Slot { return expiry.SlotOf(epoch, testSlot) }
