package vnode

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A fakeDisk is Disks in memory: what the engine promises, by the shortest way.
// TestStorage holds both to it.
type fakeDisk struct {
	slotSeconds int64
	ttl         func(bucketID uint64) int64

	mu     sync.Mutex
	stores map[ring.Partition]*fakeStore
}

func newFakeDisk(slotSeconds int64, ttl func(uint64) int64) *fakeDisk {
	return &fakeDisk{slotSeconds: slotSeconds, ttl: ttl, stores: make(map[ring.Partition]*fakeStore)}
}

func (d *fakeDisk) Store(p ring.Partition) (Storage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stores[p]
	if s == nil {
		s = &fakeStore{disk: d, buckets: make(map[uint64]*fakeBucket)}
		d.stores[p] = s
	}
	return s, nil
}

func (d *fakeDisk) Partitions() ([]ring.Partition, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.stores), ring.Partition.Compare), nil
}

func (d *fakeDisk) expire(now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.stores {
		s.expire(now)
	}
}

// A fakeStore is Storage in memory.
type fakeStore struct {
	disk *fakeDisk

	mu      sync.Mutex
	buckets map[uint64]*fakeBucket
	doubts  []bitcask.Doubt
	fail    func(op string, key []byte) error // nil: nothing fails
	note    []byte
	made    bool // there was no manifest
	synced  map[expiry.Slot]int
}

type fakeBucket struct {
	bitcask.Bucket
	horizon expiry.Horizon
	records []*fakeRecord // in the order they came
	sealed  map[expiry.Slot]bool
}

type fakeRecord struct {
	object.Header
	raw   []byte
	hash  uint64
	epoch int64
}

func (s *fakeStore) bucketLocked(b bitcask.Bucket) *fakeBucket {
	fb := s.buckets[b.ID]
	if fb == nil {
		fb = &fakeBucket{Bucket: b, sealed: make(map[expiry.Slot]bool)}
		s.buckets[b.ID] = fb
	}
	return fb
}

func (s *fakeStore) failLocked(op string, key []byte) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(op, key)
}

func (s *fakeStore) limits(b *fakeBucket) expiry.Limits {
	l := expiry.Limits{TTLSeconds: s.disk.ttl(b.ID)}
	if b.Timed {
		l.DropHorizon = b.horizon
	}
	return l
}

func (s *fakeStore) slotOf(b *fakeBucket, epoch int64) expiry.Slot {
	if !b.Timed {
		return -1
	}
	return expiry.SlotOf(epoch, s.disk.slotSeconds)
}

// live returns the records of a key that may be shown, lesser versions before
// greater ones; all of the bucket for a nil key. expired tells that the key's
// time is over.
func (s *fakeStore) live(b *fakeBucket, epoch, now int64, key []byte) (live []*fakeRecord, expired bool) {
	if b.Timed && key != nil && expiry.Hidden(epoch, now, s.limits(b)) {
		return nil, true
	}
	hidden := false
	for _, r := range b.records {
		if key != nil && !bytes.Equal(r.Key, key) {
			continue
		}
		if expiry.Hidden(r.epoch, now, s.limits(b)) {
			hidden = true
			continue
		}
		live = append(live, r)
	}
	slices.SortFunc(live, func(x, y *fakeRecord) int { return x.Version().Compare(y.Version()) })
	return live, hidden && len(live) == 0
}

func (s *fakeStore) Put(bb bitcask.Bucket, hash uint64, epoch, now int64, rec object.Record, decide bitcask.Decide) (bitcask.Action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	if !b.Timed {
		epoch = stampSeconds(&rec.Header)
	}
	if expiry.Hidden(epoch, now, s.limits(b)) {
		return 0, bitcask.ErrExpired
	}
	if err := s.failLocked("put", rec.Key); err != nil {
		return 0, err
	}
	var old *object.Header
	live, _ := s.live(b, epoch, now, rec.Key)
	for _, r := range live {
		if !b.KeepAll || r.Version() == rec.Version() {
			old = &r.Header
		}
	}
	if decide == nil {
		decide = bitcask.Newest
	}
	action := decide(old, &rec.Header)
	if action == bitcask.Append {
		raw := bytes.Clone(rec.Raw())
		h, _, err := object.ParseHeader(raw)
		if err != nil {
			panic(err)
		}
		b.records = append(b.records, &fakeRecord{h, raw, hash, epoch})
		b.sealed[s.slotOf(b, epoch)] = false
	}
	return action, nil
}

func (s *fakeStore) Get(bb bitcask.Bucket, hash uint64, epoch, now int64, key []byte) (object.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	if err := s.failLocked("get", key); err != nil {
		return object.Record{}, err
	}
	live, expired := s.live(b, epoch, now, key)
	switch {
	case expired:
		return object.Record{}, bitcask.ErrExpired
	case len(live) == 0:
		return object.Record{}, bitcask.ErrAbsent
	}
	return inBuffer(live[len(live)-1].raw), nil
}

// inBuffer is a record as the engine hands it out: in a buffer of its own, so
// that a release too few or too many shows.
func inBuffer(raw []byte) object.Record {
	buf := object.NewBuffer(len(raw))
	copy(buf.Bytes(), raw)
	rec, err := object.ParseBuffer(buf)
	if err != nil {
		panic(err)
	}
	return rec
}

func (s *fakeStore) Head(b bitcask.Bucket, hash uint64, epoch, now int64, key []byte) (bitcask.Head, error) {
	rec, err := s.Get(b, hash, epoch, now, key)
	if err != nil {
		return bitcask.Head{}, err
	}
	return headOf(&rec), nil
}

func headOf(rec *object.Record) bitcask.Head {
	return bitcask.Head{Header: rec.Header, Buf: rec.Buf}
}

func (s *fakeStore) Each(bb bitcask.Bucket, hash uint64, epoch, now int64, key []byte) iter.Seq2[object.Record, error] {
	s.mu.Lock()
	b := s.bucketLocked(bb)
	live, expired := s.live(b, epoch, now, key)
	fault := s.failLocked("each", key)
	s.mu.Unlock()
	if expired {
		fault = bitcask.ErrExpired
	}
	return yieldAll(live, fault, inBuffer, func(r *object.Record) { r.Release() })
}

func (s *fakeStore) Walk(bb bitcask.Bucket, slot expiry.Slot, now int64) iter.Seq2[bitcask.Head, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	live, _ := s.live(b, 0, now, nil)
	greatest := make(map[string]*fakeRecord)
	for _, r := range live {
		greatest[string(r.Key)] = r
	}
	var some []*fakeRecord
	for _, r := range b.records {
		if s.slotOf(b, r.epoch) == slot && slices.Contains(live, r) && (b.KeepAll || greatest[string(r.Key)] == r) {
			some = append(some, r)
		}
	}
	return yieldAll(some, s.failLocked("walk", nil),
		func(raw []byte) bitcask.Head { rec := inBuffer(raw); return headOf(&rec) },
		func(h *bitcask.Head) { h.Release() })
}

// yieldAll yields records, each released after its turn, and then a fault.
func yieldAll[T any](records []*fakeRecord, fault error, out func(raw []byte) T, release func(*T)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for _, r := range records {
			v := out(r.raw)
			more := yield(v, nil)
			release(&v)
			if !more {
				return
			}
		}
		if fault != nil {
			yield(none, fault)
		}
	}
}

func (s *fakeStore) Slots(bb bitcask.Bucket) ([]expiry.Slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.bucketLocked(bb).sealed)), nil
}

func (s *fakeStore) Sealed(bb bitcask.Bucket, slot expiry.Slot) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucketLocked(bb).sealed[slot], nil // nothing there: not sealed
}

func (s *fakeStore) Seal(bb bitcask.Bucket, slot expiry.Slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	if err := s.failLocked("seal", nil); err != nil {
		return err
	}
	if _, known := b.sealed[slot]; known {
		b.sealed[slot] = true
	}
	return nil
}

func (s *fakeStore) Digests(bb bitcask.Bucket, slot expiry.Slot) ([]bitcask.MinuteDigest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	greatest := make(map[string]*fakeRecord)
	for _, r := range b.records {
		if old := greatest[string(r.Key)]; s.slotOf(b, r.epoch) == slot && (old == nil || r.Version().Compare(old.Version()) > 0) {
			greatest[string(r.Key)] = r
		}
	}
	minutes := make(map[int64]bitcask.MinuteDigest)
	for _, r := range greatest {
		minute := int64(0)
		if b.Timed {
			minute = r.epoch / 60
		}
		m := minutes[minute]
		m.Minute = minute
		m.Count++
		m.Digest.Add(r.hash, r.Version())
		minutes[minute] = m
	}
	return slices.SortedFunc(maps.Values(minutes), func(a, b bitcask.MinuteDigest) int { return int(a.Minute - b.Minute) }), nil
}

func (s *fakeStore) Horizon(bb bitcask.Bucket) expiry.Horizon {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucketLocked(bb).horizon
}

func (s *fakeStore) Doubts() []bitcask.Doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubts
}

func (s *fakeStore) ClearDoubt(d bitcask.Doubt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts = slices.DeleteFunc(slices.Clone(s.doubts), func(have bitcask.Doubt) bool { return have == d })
	return nil
}

// expire drops the slots of timed buckets that are dead at now.
func (s *fakeStore) expire(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.buckets {
		if !b.Timed {
			continue
		}
		b.horizon.Raise(expiry.NextHorizon(now, s.disk.ttl(b.ID), s.disk.slotSeconds))
		b.records = slices.DeleteFunc(b.records, func(r *fakeRecord) bool { return b.horizon.Covers(r.epoch) })
		maps.DeleteFunc(b.sealed, func(slot expiry.Slot, _ bool) bool {
			return slot.End(s.disk.slotSeconds) <= int64(b.horizon)
		})
	}
}

func (s *fakeStore) Buckets() ([]bitcask.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []bitcask.Bucket
	for _, b := range s.buckets {
		if len(b.records) > 0 {
			known := b.Bucket
			known.Sync = 0
			all = append(all, known)
		}
	}
	slices.SortFunc(all, func(a, b bitcask.Bucket) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func (s *fakeStore) Page(b bitcask.Bucket, slot expiry.Slot, now int64, from uint64, visit func(bitcask.Head, error) bool) (uint64, error) {
	type paged struct {
		at   uint64
		head bitcask.Head
	}
	var all []paged
	for head, err := range s.Walk(b, slot, now) {
		if err != nil {
			return from, err
		}
		head.Buf.Retain()
		all = append(all, paged{position(ring.Hash(head.Type, head.Bucket, head.Key)), head})
	}
	defer func() {
		for i := range all {
			all[i].head.Release()
		}
	}()
	slices.SortStableFunc(all, func(a, b paged) int { return cmp.Compare(a.at, b.at) })
	for i := range all {
		if all[i].at < from {
			continue
		}
		more := visit(all[i].head, nil)
		if !more && (i+1 == len(all) || all[i+1].at != all[i].at) {
			return all[i].at + 1, nil
		}
	}
	return bitcask.PageEnd, nil
}

func (s *fakeStore) Recheck(bb bitcask.Bucket, _ uint64, epoch, _ int64, key []byte, _ object.Version) (setAside int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bb)
	b.records = slices.DeleteFunc(b.records, func(r *fakeRecord) bool {
		rec, err := object.ParseRecord(r.raw)
		bad := bytes.Equal(r.Key, key) && (err != nil || rec.Verify() != nil)
		if bad {
			setAside++
		}
		return bad
	})
	if setAside > 0 {
		s.doubts = append(s.doubts, bitcask.Doubt{Bucket: b.ID, Slot: s.slotOf(b, epoch), Reason: bitcask.ReasonDamage})
	}
	return setAside, s.failLocked("recheck", key)
}

func (s *fakeStore) Sync(_ bitcask.Bucket, slot expiry.Slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced == nil {
		s.synced = make(map[expiry.Slot]int)
	}
	s.synced[slot]++
	return s.failLocked("sync", nil)
}

func (s *fakeStore) RaiseHorizon(b bitcask.Bucket, to expiry.Horizon) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(b).horizon.Raise(to)
	return nil
}

func (s *fakeStore) Known() bool { return !s.made }

func (s *fakeStore) Note() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.note
}

func (s *fakeStore) SetNote(note []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failLocked("note", nil); err != nil {
		return err
	}
	s.note = slices.Clone(note)
	return nil
}
