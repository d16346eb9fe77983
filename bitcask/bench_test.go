//go:build linux

package bitcask

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// The benchmarks compare the engine with the least that could be done in its
// place: floor encodes the same records with the same checksums and gives them to the same
// number of files with one pwritev each, or reads them back with one pread. Run
// them alternately and compare medians:
//
//	go test -run - -bench 'Put/size=102400/writers=8' -benchtime 2000x -count 9 ./bitcask

const benchBits = 3 // 8 partitions: 8 files

type putter interface {
	put(hash uint64, o *object.Record) error
}

type engine struct {
	d      *Disk
	stores []*Store
	b      Bucket
}

func openEngine(b *testing.B, dir string, policy Sync) *engine {
	b.Helper()
	fsys, err := vfs.MakeDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = fsys.Close() })
	return openEngineOn(b, fsys, policy)
}

func openEngineOn(b *testing.B, fsys vfs.FS, policy Sync) *engine {
	b.Helper()
	cfg := testConfig()
	cfg.SlotSeconds = 3600
	cfg.TTL = nil
	cfg.SyncInterval = 0
	e := &engine{d: openDisk(b, fsys, cfg), b: events.synced(policy)}
	for prefix := range uint32(1 << benchBits) {
		s, err := e.d.Store(Partition{benchBits, prefix})
		if err != nil {
			b.Fatal(err)
		}
		e.stores = append(e.stores, s)
	}
	return e
}

func (e *engine) put(hash uint64, rec *object.Record) error {
	_, err := e.stores[hash>>(64-benchBits)].Put(e.b, hash, t0, t0, *rec, nil)
	return err
}

func (e *engine) get(hash uint64, key []byte) error {
	rec, err := e.stores[hash>>(64-benchBits)].Get(e.b, hash, t0, t0, key)
	rec.Release()
	return err
}

// floor is what the file system does when nothing is asked of it but to append.
type floor struct {
	files  []*os.File
	ends   []atomic.Int64
	policy Sync
}

func openFloor(b *testing.B, dir string, policy Sync) *floor {
	b.Helper()
	f := &floor{ends: make([]atomic.Int64, 1<<benchBits), policy: policy}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range 1 << benchBits {
		file, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = file.Close() })
		f.files = append(f.files, file)
	}
	return f
}

func (f *floor) put(hash uint64, rec *object.Record) error {
	i := hash >> (64 - benchBits)
	var frame [frameSize]byte
	putFrame(&frame, len(rec.Raw()), 1, rec.CRC)
	size := framedSize(len(rec.Raw()))
	at := f.ends[i].Add(size) - size
	_, err := unix.Pwritev(int(f.files[i].Fd()), [][]byte{frame[:], rec.Raw()}, at)
	if err == nil && f.policy == SyncAlways {
		err = unix.Fdatasync(int(f.files[i].Fd()))
	}
	return err
}

// benchRecord encodes a record as a door does.
func benchRecord(key []byte, value []byte) (uint64, object.Record, error) {
	typ, bucket := []byte("default"), []byte("events")
	rec, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: t0 * 1e6, Type: typ, Bucket: bucket, Key: key}, value)
	return testHashFast(typ, bucket, key), rec, err
}

func testHashFast(_, _, key []byte) uint64 { return object.Checksum(key) }

func benchKey(i int64) []byte { return fmt.Appendf(nil, "%d:1:web:app:%d", t0, i) }

func BenchmarkPut(b *testing.B) {
	for _, policy := range []Sync{SyncNone, SyncAlways} {
		for _, size := range []int{2 << 10, 100 << 10} {
			for _, writers := range []int{1, 8} {
				name := fmt.Sprintf("sync=%v/size=%d/writers=%d/", policy, size, writers)
				b.Run(name+"floor", func(b *testing.B) { benchPut(b, openFloor(b, b.TempDir(), policy), size, writers) })
				b.Run(name+"engine", func(b *testing.B) { benchPut(b, openEngine(b, b.TempDir(), policy), size, writers) })
			}
		}
	}
}

// BenchmarkPutUnwritten puts into files that take no records: what is left is the
// engine's own part of a small put.
func BenchmarkPutUnwritten(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			benchPut(b, openEngineOn(b, unwritten{vfs.NewMem()}, SyncNone), 8, writers)
		})
	}
}

// unwritten is a file system whose files forget what is written behind their header.
type unwritten struct{ vfs.FS }

type unwrittenFile struct{ vfs.File }

func (u unwritten) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return unwrittenFile{f}, err
}

func (u unwritten) OpenReadWrite(name string) (vfs.File, error) {
	f, err := u.FS.OpenReadWrite(name)
	return unwrittenFile{f}, err
}

func (f unwrittenFile) WritevAt(bufs [][]byte, off int64) (n int64, err error) {
	if off == 0 {
		return f.File.WritevAt(bufs, off)
	}
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n, nil
}

func benchPut(b *testing.B, p putter, size, writers int) {
	pool := bytesOf(1, 64<<20)
	var next atomic.Int64
	for i := range int64(64) { // every file is there before the clock starts
		hash, rec, err := benchRecord(benchKey(-1-i), pool[:1])
		if err != nil || p.put(hash, &rec) != nil {
			b.Fatal(err)
		}
		rec.Release()
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				hash, rec, err := benchRecord(benchKey(i), pool[i*4093%int64(len(pool)-size):][:size])
				if err == nil {
					err = p.put(hash, &rec)
				}
				if err != nil {
					b.Error(err)
					return
				}
				rec.Release()
			}
		})
	}
	wg.Wait()
}

// cpuTime returns what the process has used of the processors, the kernel included.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkPutDelta puts another delta to a key that has some.
func BenchmarkPutDelta(b *testing.B) {
	for _, have := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("have=", have), func(b *testing.B) {
			_, s := openAll(b, vfs.NewMem(), testConfig())
			l, err := s.lane(laneOf(epochs, t0, testSlot), true)
			if err != nil {
				b.Fatal(err)
			}
			delta := func(i int64) *testObject { return make1(b, epochs, t0, "dc", t0*1e6+i, bytesOf(uint64(i), 40)) }
			for i := range int64(have) {
				mustPut(b, s, delta(i))
			}
			o := delta(int64(have))
			op := s.disk.newOp()
			op.hash, op.version, op.digest, op.sync = o.hash(), o.rec.Version(), o.rec.Version().Short(), SyncAlways
			b.ReportAllocs()
			for b.Loop() { // all of a put that depends on how many there are, but for entering it
				op.next = o.rec.Header
				sealed, err := l.claim(epochs, op, Newest)
				if err != nil {
					b.Fatal(err)
				}
				if old, err := l.current(op, sealed, true); err != nil || old != nil {
					b.Fatal(old, err)
				}
				l.disclaim(op)
				clear(op.places)
			}
		})
	}
}

// BenchmarkGet reads records that are in the page cache, in random order: from
// open slots through the keydir, from sealed ones through the hint.
func BenchmarkGet(b *testing.B) {
	const n = 4000
	for _, size := range []int{2 << 10, 100 << 10} {
		e := openEngine(b, b.TempDir(), SyncNone)
		f := openFloor(b, b.TempDir(), SyncNone)
		value := bytesOf(1, size)
		var hashes, offsets []int64
		for i := range int64(n) {
			hash, rec, err := benchRecord(benchKey(i), value)
			if err == nil {
				err = e.put(hash, &rec)
			}
			at := f.ends[hash>>(64-benchBits)].Load()
			if err == nil {
				err = f.put(hash, &rec)
			}
			if err != nil {
				b.Fatal(err)
			}
			hashes, offsets = append(hashes, int64(hash)), append(offsets, at)
			rec.Release()
		}
		read := func(b *testing.B, one func(i int64) error) {
			rng := rand.New(rand.NewPCG(1, 1))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := one(rng.Int64N(n)); err != nil {
					b.Fatal(err)
				}
			}
		}
		hash, rec, _ := benchRecord(benchKey(0), value)
		framed := int(framedSize(len(rec.Raw())))
		_ = hash
		pread := func(b *testing.B) {
			read(b, func(i int64) error {
				buf := object.NewBuffer(framed)
				_, err := unix.Pread(int(f.files[uint64(hashes[i])>>(64-benchBits)].Fd()), buf.Bytes(), offsets[i])
				buf.Release()
				return err
			})
		}
		get := func(b *testing.B) {
			var key []byte
			read(b, func(i int64) error {
				key = fmt.Appendf(key[:0], "%d:1:web:app:%d", t0, i)
				return e.get(uint64(hashes[i]), key)
			})
		}
		name := fmt.Sprintf("size=%d/", size)
		b.Run(name+"floor", pread)
		b.Run(name+"open", get)
		for _, s := range e.stores {
			if err := s.Seal(e.b, laneOf(e.b, t0, 3600).slot); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name+"sealed", get)
	}
}

// BenchmarkReopen opens a disk with many sealed segments and gets one record.
func BenchmarkReopen(b *testing.B) {
	for _, slots := range []int64{50, 500} {
		b.Run(fmt.Sprintf("segments=%d", slots<<benchBits), func(b *testing.B) {
			dir := b.TempDir()
			fsys, err := vfs.OpenDir(dir)
			if err != nil {
				b.Fatal(err)
			}
			defer fsys.Close()
			cfg := testConfig()
			cfg.TTL = nil
			e := &engine{b: events}
			e.d, err = OpenDisk(fsys, cfg, 0)
			if err != nil {
				b.Fatal(err)
			}
			var last []byte
			for slot := range slots {
				for prefix := range uint32(1 << benchBits) {
					s, err := e.d.Store(Partition{benchBits, prefix})
					if err != nil {
						b.Fatal(err)
					}
					for i := range int64(20) {
						last = fmt.Appendf(nil, "%d:%d:%d", t0+slot*testSlot, prefix, i)
						hash := uint64(prefix)<<(64-benchBits) | testHashFast(nil, nil, last)>>benchBits
						rec, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: 1, Type: []byte("default"), Bucket: []byte("events"), Key: last}, nil)
						if err == nil {
							_, err = s.Put(events, hash, t0+slot*testSlot, t0, rec, nil)
						}
						if err != nil {
							b.Fatal(err)
						}
						rec.Release()
					}
					if err := s.Seal(events, slotAt(t0+slot*testSlot)); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := e.d.Close(); err != nil {
				b.Fatal(err)
			}
			epoch := t0 + (slots-1)*testSlot
			for b.Loop() {
				d, err := OpenDisk(fsys, cfg, 0)
				if err != nil {
					b.Fatal(err)
				}
				for prefix := range uint32(1 << benchBits) {
					s, err := d.Store(Partition{benchBits, prefix})
					if err != nil {
						b.Fatal(err)
					}
					key := fmt.Appendf(nil, "%d:%d:%d", epoch, prefix, 19)
					rec, err := s.Get(events, uint64(prefix)<<(64-benchBits)|testHashFast(nil, nil, key)>>benchBits, epoch, t0, key)
					if err != nil {
						b.Fatal(err)
					}
					rec.Release()
				}
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
