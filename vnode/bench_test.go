package vnode

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// benchNode is a node over the engine on files, with slots of an hour and
// nothing synced: what is measured is the way down, not the disk.
func benchNode(b *testing.B) *node {
	none := bucket.SyncNone
	n := newNode(b, 6, func(ttl func(uint64) int64) system {
		cfg := engineConfig(ttl)
		cfg.SlotSeconds = 3600
		e := &engine{t: b, fs: openDir(b, b.TempDir()), cfg: cfg}
		e.open()
		b.Cleanup(e.shut)
		return e
	})
	n.cfg.SlotSeconds = 3600
	n.declare(bucket.Declaration{Name: bucket.Events, Sync: &none})
	n.declare(bucket.Declaration{Name: bucket.Epochs, Sync: &none})
	n.open()
	n.now = noon
	for i := range 1000 { // makes the files of all partitions
		n.put(bucket.Events, fmt.Sprintf("%d:ams:warm:up:%d", noon.Unix(), i), "v")
		n.append(event.IndexKey{Epoch: noon.Unix(), DC: fmt.Sprint("warm", i)}, deltaOf(b, noon.Unix(), 0))
	}
	return n
}

// blobs makes records of new blobs, all of the present second.
type blobs struct {
	value []byte
	next  atomic.Int64
}

func (s *blobs) record(b *testing.B) object.Record {
	n := s.next.Add(1)
	rec, err := object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: noon.UnixMicro(), EventCount: 50, Writer: []byte("agg"), Incarnation: 7,
		Type: []byte("default"), Bucket: []byte("events"),
		Key: fmt.Appendf(nil, "%d:ams:web:checkout:%d", noon.Unix()+n/250%3500, n),
	}, s.value)
	if err != nil {
		b.Fatal(err)
	}
	return rec
}

const benchBatch = 64 // records made at a time, outside the measurement

// BenchmarkPut is a put of a blob into events: admission, decision, append.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			n := benchNode(b)
			n.now = noon.Add(time.Hour)
			src := &blobs{value: make([]byte, size)}
			var batch []object.Record
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if len(batch) == 0 {
					b.StopTimer()
					for range benchBatch {
						batch = append(batch, src.record(b))
					}
					b.StartTimer()
				}
				rec := batch[len(batch)-1]
				batch = batch[:len(batch)-1]
				if _, err := n.set.Put(n.now, rec); err != nil {
					b.Fatal(err)
				}
				rec.Release()
			}
			for _, rec := range batch {
				rec.Release()
			}
		})
	}
}

// BenchmarkPutIndexed is the same with a delta for each blob: the way of a
// single put, which a node that groups deltas goes more rarely.
func BenchmarkPutIndexed(b *testing.B) {
	n := benchNode(b)
	n.now = noon
	src := &blobs{value: make([]byte, 4<<10)}
	var batch []object.Record
	b.ReportAllocs()
	for b.Loop() {
		if len(batch) == 0 {
			b.StopTimer()
			for range benchBatch {
				batch = append(batch, src.record(b))
			}
			n.now = noon.Add(time.Duration(src.next.Load()/250%3500) * time.Second)
			b.StartTimer()
		}
		rec := batch[len(batch)-1]
		batch = batch[:len(batch)-1]
		if _, err := n.set.Put(n.now, rec); err != nil {
			b.Fatal(err)
		}
		key, delta, err := index.DeltaOf(&rec.Header)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := n.set.AppendDelta(n.now, key, delta); err != nil {
			b.Fatal(err)
		}
		rec.Release()
	}
	for _, rec := range batch {
		rec.Release()
	}
}

// BenchmarkPutParallel has several writers, over several vnodes.
func BenchmarkPutParallel(b *testing.B) {
	n := benchNode(b)
	n.now = noon.Add(time.Hour)
	src := &blobs{value: make([]byte, 4<<10)}
	b.SetBytes(4 << 10)
	b.ReportAllocs()
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			rec := src.record(b)
			if _, err := n.set.Put(n.now, rec); err != nil {
				b.Error(err)
			}
			rec.Release()
		}
	})
}

func BenchmarkGet(b *testing.B) {
	n := benchNode(b)
	n.now = noon.Add(time.Hour)
	src := &blobs{value: make([]byte, 4<<10)}
	var refs []Ref
	for range 1000 {
		rec := src.record(b)
		if _, err := n.set.Put(n.now, rec); err != nil {
			b.Fatal(err)
		}
		refs = append(refs, refOf("events", string(rec.Key)))
		rec.Release()
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		a, err := n.set.Get(n.now, refs[i%len(refs)])
		if err != nil || a.State != Found {
			b.Fatal(a.State, err)
		}
		a.Release()
		i++
	}
}

// BenchmarkRow reads a row of 250 blobs: while it changes, and packed.
func BenchmarkRow(b *testing.B) {
	for _, packed := range []bool{false, true} {
		b.Run(fmt.Sprintf("packed=%v", packed), func(b *testing.B) {
			n := benchNode(b)
			n.now = noon
			for i := range 250 {
				n.append(noonRow, deltaOf(b, noon.Unix(), i))
			}
			if packed {
				n.now = noon.Add(time.Minute)
				n.maintain()
			}
			b.ReportAllocs()
			for b.Loop() {
				a, err := n.set.Row(n.now, noonRow)
				if err != nil || a.Row.Len() != 250 {
					b.Fatal(a.Row.Len(), err)
				}
			}
		})
	}
}
