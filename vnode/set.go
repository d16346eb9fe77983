package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Config says how a node's vnodes work. Zero values of the optional fields
// mean their defaults.
type Config struct {
	// Buckets returns the present set of buckets; required. It is called with
	// every request: it must be quick, and return another pointer for another set.
	Buckets func() *bucket.Set

	// History returns the present history of rings, which tells the partition of
	// an object; required. It must be quick.
	History func() *ring.History

	// Shared reports whether other nodes hold replicas too, or may have: what a new
	// vnode's name once acknowledged is then not known to be nothing. It must be
	// quick. Default: whether the newest ring has several nodes.
	Shared func() bool

	// Self is this node, which tells partitions that it has held before from those
	// that a new ring or an amendment gives it for the first time; see [Set.Open].
	// Default: that is not known.
	Self ring.NodeID

	// Admit is asked for the epoch of every put and delta of a timed bucket before
	// anything of it is stored; its error, of *object.Error, is the answer. It must be
	// quick. Default: all are admitted.
	Admit func(epoch int64) error
	// Vouches reports whether it is known at present who owns an epoch. What is not
	// stored of one of which it is not is not absent for certain. It must be quick.
	// Default: always.
	Vouches func(epoch int64) bool

	// AheadSeconds returns how far ahead an epoch may be at present, negative for not at
	// all. It must be quick. Default: expiry.DefaultAheadSeconds.
	AheadSeconds func() int64

	SlotSeconds      int64 // the cluster's; required
	LatenessSeconds  int64 // how long a row is waited for; default DefaultLatenessSeconds
	SealAfterSeconds int64 // after a slot's end or last record; default DefaultSealAfterSeconds
	RowCacheBytes    int64 // of index rows kept in memory; default DefaultRowCacheBytes
}

// Validate reports all faults of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("vnode: "+format, args...))
		}
	}
	fault(c.Buckets == nil, "no buckets")
	fault(c.History == nil, "no history of rings")
	fault(c.SlotSeconds <= 0, "slots of %d seconds; the length must be positive", c.SlotSeconds)
	fault(c.LatenessSeconds < 0, "a lateness bound of %d seconds; it must not be negative", c.LatenessSeconds)
	fault(c.SealAfterSeconds < 0, "sealing %d seconds after a slot's end; it must not be negative", c.SealAfterSeconds)
	fault(c.RowCacheBytes < 0, "%d bytes for index rows; it must not be negative", c.RowCacheBytes)
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	if c.Shared == nil {
		c.Shared = func() bool { return len(c.History().Newest().Nodes()) > 1 }
	}
	if c.Admit == nil {
		c.Admit = func(int64) error { return nil }
	}
	if c.AheadSeconds == nil {
		c.AheadSeconds = func() int64 { return expiry.DefaultAheadSeconds }
	}
	if c.Vouches == nil {
		c.Vouches = func(int64) bool { return true }
	}
	c.LatenessSeconds = cmp.Or(c.LatenessSeconds, DefaultLatenessSeconds)
	c.SealAfterSeconds = cmp.Or(c.SealAfterSeconds, DefaultSealAfterSeconds)
	c.RowCacheBytes = cmp.Or(c.RowCacheBytes, DefaultRowCacheBytes)
	return c
}

// A Set is the vnodes of one node. They are opened when they are first needed.
type Set struct {
	cfg      Config
	disks    Disks
	rulebook rulebook
	rows     *rowCache
	counters counters
	begun    *ring.History // that counted when the Set was made
	most     atomic.Int64  // seconds: the greatest bound that ahead has returned

	vnodes  atomic.Pointer[map[ring.Partition]*Vnode] // replaced, never modified
	opening sync.Mutex                                // held by who replaces it
}

// NewSet returns a node's vnodes on its disks.
func NewSet(cfg Config, disks Disks) (*Set, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Set{cfg: cfg, disks: disks, rulebook: rulebook{present: cfg.Buckets}, rows: newRowCache(cfg.RowCacheBytes), begun: cfg.History()}
	s.vnodes.Store(&map[ring.Partition]*Vnode{})
	s.most.Store(cfg.AheadSeconds())
	return s, nil
}

// ahead returns how far ahead an epoch may be now, seconds.
func (s *Set) ahead() int64 {
	ahead := s.cfg.AheadSeconds()
	for most := s.most.Load(); ahead > most && !s.most.CompareAndSwap(most, ahead); most = s.most.Load() {
	}
	return ahead
}

// mostAhead returns how far ahead an epoch may be that was admitted before, here or by
// another replica: the bound may have been lowered since.
func (s *Set) mostAhead() int64 { return max(s.ahead(), s.most.Load()) }

// Vnode returns the vnode of a partition, opening it if this is its first use.
func (s *Set) Vnode(p ring.Partition) (*Vnode, error) {
	if v := (*s.vnodes.Load())[p]; v != nil {
		return v, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	old := *s.vnodes.Load()
	if v := old[p]; v != nil {
		return v, nil
	}
	v, err := s.makeVnode(p)
	if err == nil {
		err = v.begin(Since{Slot: never}, false) // a time to vouch from is given by Open
	}
	if err != nil {
		return nil, openError(p, err)
	}
	vnodes := maps.Clone(old)
	vnodes[p] = v
	s.vnodes.Store(&vnodes)
	return v, nil
}

func (s *Set) makeVnode(p ring.Partition) (*Vnode, error) {
	store, err := s.disks.Store(p)
	if err != nil {
		return nil, err
	}
	return &Vnode{partition: p, store: store, set: s, work: make(map[slotID]*slotWork)}, nil
}

func openError(p ring.Partition, err error) error {
	code := object.CodeDisk
	if e, ok := errors.AsType[*object.Error](err); ok {
		code = e.Code
	}
	return object.Errorf(code, object.NotDone, "partition %v cannot be opened: %w", p, err)
}

// Vnodes returns the vnodes that are open, in the order of their partitions.
func (s *Set) Vnodes() []*Vnode {
	vnodes := *s.vnodes.Load()
	return slices.SortedFunc(maps.Values(vnodes), func(a, b *Vnode) int { return a.partition.Compare(b.partition) })
}

// find returns the vnode of an object.
func (s *Set) find(bucketType, bucket, key []byte, hash uint64) (*Vnode, error) {
	r, err := s.rulebook.of(bucketType, bucket)
	if err != nil {
		return nil, err
	}
	epoch := int64(0)
	if r.Timed {
		if epoch, err = event.TimedEpoch(key); err != nil {
			return nil, badRequest("%w", err)
		}
	}
	_, p := s.cfg.History().For(r.Timed, hash, epoch)
	return s.Vnode(p)
}

// Put is [Vnode.Put] of the vnode the record belongs to.
func (s *Set) Put(now time.Time, rec object.Record) (Ack, error) {
	hash := ring.Hash(rec.Type, rec.Bucket, rec.Key)
	v, err := s.find(rec.Type, rec.Bucket, rec.Key, hash)
	if err != nil {
		return 0, s.refuse(err)
	}
	return v.Put(now, hash, rec)
}

func (s *Set) refuse(err error) error {
	s.counters.refused.Add(1)
	return err
}

// Get is [Vnode.Get] of the vnode the key belongs to.
func (s *Set) Get(now time.Time, ref Ref) (Answer, error) {
	v, err := s.find(ref.Type, ref.Bucket, ref.Key, ref.Hash)
	if err != nil {
		return Answer{}, err
	}
	return v.Get(now, ref)
}

// Head is [Vnode.Head] of the vnode the key belongs to.
func (s *Set) Head(now time.Time, ref Ref) (HeadAnswer, error) {
	v, err := s.find(ref.Type, ref.Bucket, ref.Key, ref.Hash)
	if err != nil {
		return HeadAnswer{}, err
	}
	return v.Head(now, ref)
}

// rowVnode returns the vnode of an index row.
func (s *Set) rowVnode(key event.IndexKey) (v *Vnode, hash uint64, err error) {
	if err := key.Validate(); err != nil {
		return nil, 0, badRequest("%w", err)
	}
	hash = RowHash(key)
	_, p := s.cfg.History().For(true, hash, key.Epoch)
	v, err = s.Vnode(p)
	return v, hash, err
}

// Row is [Vnode.Row] of the vnode the row belongs to.
func (s *Set) Row(now time.Time, key event.IndexKey) (RowAnswer, error) {
	v, _, err := s.rowVnode(key)
	if err != nil {
		return RowAnswer{}, err
	}
	return v.Row(now, key)
}

// AppendDelta encodes a delta, stamped now, and appends it as
// [Vnode.AppendDelta] does.
func (s *Set) AppendDelta(now time.Time, key event.IndexKey, delta index.Row) (Ack, error) {
	v, hash, err := s.rowVnode(key)
	if err != nil {
		return 0, s.refuse(err)
	}
	if err := delta.ValidateFor(key); err != nil {
		return 0, s.refuse(badRequest("a delta for %v: %w", key, err))
	}
	rec, err := EncodeDelta(key, delta, now.UnixMicro())
	if err != nil {
		return 0, s.refuse(err)
	}
	defer rec.Release()
	_, ack, err := v.AppendDelta(now, hash, rec)
	return ack, err
}

// Add adds to a row: as it is while the second is open, afterwards as late, in
// the late list of this second and in the row. What a closed second cannot take
// late (hello, final, goodbye) is dropped. If it fails half-way, sending it again
// is safe.
func (s *Set) Add(now time.Time, key event.IndexKey, delta index.Row) error {
	_, err := s.AppendDelta(now, key, delta)
	if !errors.Is(err, ErrClosed) {
		return err
	}
	marked, list := index.Relist(key, delta, now.Unix())
	if !list.Empty() {
		if _, err := s.AppendDelta(now, index.LateKey(key, now.Unix()), list); err != nil {
			return err
		}
	}
	if !marked.Empty() {
		_, err := s.AppendDelta(now, key, marked)
		return err
	}
	return nil
}

// Index returns the Set's own rows as an [Index]: right while this node is the
// only owner. What they have is then all there is, and certain even where
// records were lost. clock is called for each operation.
func (s *Set) Index(clock func() time.Time) Index { return ownIndex{s, clock} }

type ownIndex struct {
	set   *Set
	clock func() time.Time
}

func (i ownIndex) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	a, err := i.set.Row(i.clock(), key)
	if err == nil && a.State == Expired {
		err = errExpired
	}
	return a.Row, true, err
}

func (i ownIndex) Add(_ context.Context, key event.IndexKey, delta index.Row) error {
	return i.set.Add(i.clock(), key, delta)
}
