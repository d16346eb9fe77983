package bitcask

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Store is one partition on one disk. Its methods may be called by any
// goroutine.
type Store struct {
	disk      *Disk
	partition Partition
	evidence  *evidence

	mu      sync.RWMutex
	changed sync.Cond // on mu: a listing has ended
	lanes   map[laneID]*lane
	listed  map[uint64]listing

	recent [4]atomic.Pointer[recentLane] // lanes used last, by laneID.recent, found without the lock

	allListed atomic.Bool // every bucket's directory has been read
	relisted  atomic.Bool // and every slot opened, after the manifest was lost

	damageMu    sync.Mutex
	damage      []Damage
	damageCount int64
}

// openStore reads a partition's manifest; nothing else is read before it is
// needed.
func openStore(d *Disk, p Partition) (*Store, error) {
	e, err := openEvidence(d.fs, d.identity.Disk, p, d.cfg.BootID, func() (bool, error) { return d.hasData(p) })
	if err != nil {
		return nil, err
	}
	s := &Store{disk: d, partition: p, evidence: e, lanes: map[laneID]*lane{}, listed: map[uint64]listing{}}
	s.changed.L = &s.mu
	e.forgetDropped(d.cfg.SlotSeconds)
	for _, doubt := range e.doubts() {
		d.cfg.Log.Warn("a slot may lack records it acknowledged", "partition", p.String(), "bucket", bucketDir(doubt.Bucket), "slot", int64(doubt.Slot), "all", doubt.All, "reason", doubt.Reason.String())
	}
	d.inherit(s)
	return s, nil
}

// Partition returns which partition this is.
func (s *Store) Partition() Partition { return s.partition }

// lane returns the lane of that id. A missing one is made if create is set,
// and is otherwise nil.
func (s *Store) lane(id laneID, create bool) (*lane, error) {
	if r := s.recent[id.recent()].Load(); r != nil && r.id == id {
		return r.lane, nil
	}
	s.mu.RLock()
	l, done := s.lanes[id], s.listed[id.bucket] == listingDone
	if l != nil {
		s.recent[id.recent()].Store(l.recent) // under the lock: it is in lanes
	}
	s.mu.RUnlock()
	if l != nil || done && !create {
		return l, nil
	}
	if !done {
		if err := s.list(id.bucket); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l = s.lanes[id]
	if l == nil && create {
		l = newLane(s, id)
		s.lanes[id] = l
	}
	return l, nil
}

// A recentLane names a lane in memory that nobody writes to: the lane's own is
// another processor's, mostly.
type recentLane struct {
	id   laneID
	lane *lane
}

// recent is the lane's place among those used last.
func (id laneID) recent() int { return int((id.bucket ^ uint64(id.slot)) & 3) }

// lanesWhere returns the known lanes that keep accepts, in order. keep may take
// the lane's lock.
func (s *Store) lanesWhere(keep func(*lane) bool) []*lane {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var some []*lane
	for _, l := range s.lanes {
		if keep(l) {
			some = append(some, l)
		}
	}
	slices.SortFunc(some, func(a, b *lane) int { return compareLanes(a.id, b.id) })
	return some
}

func anyLane(*lane) bool { return true }

// Slots returns the slots of a timed bucket that have files here, ascending.
// Those whose files were made ahead and hold nothing, and slots below the drop horizon, are not among them.
func (s *Store) Slots(b Bucket) ([]expiry.Slot, error) {
	if !s.disk.gate.enter() {
		return nil, ErrStopping
	}
	defer s.disk.gate.leave()
	if err := s.list(b.ID); err != nil {
		return nil, err
	}
	horizon := int64(s.evidence.horizon(b.ID))
	var slots []expiry.Slot
	for _, l := range s.lanesWhere(func(l *lane) bool { return l.id.bucket == b.ID && l.timed }) {
		if l.id.slot.End(s.disk.cfg.SlotSeconds) > horizon && !l.empty() {
			slots = append(slots, l.id.slot)
		}
	}
	return slots, nil
}

// Buckets returns the buckets with files here, ascending by id, as the files
// say them; the sync policy is not among it. A bucket whose every header is
// damaged is left out.
func (s *Store) Buckets() ([]Bucket, error) {
	if !s.disk.gate.enter() {
		return nil, ErrStopping
	}
	defer s.disk.gate.leave()
	if err := s.listAll(); err != nil {
		return nil, err
	}
	known := map[uint64]Bucket{}
	for _, l := range s.lanesWhere(anyLane) {
		if _, ok := known[l.id.bucket]; ok {
			continue
		}
		if b, ok := l.bucketOnDisk(); ok {
			known[b.ID] = b
		}
	}
	return slices.SortedFunc(maps.Values(known), func(a, b Bucket) int { return compareLanes(laneID{bucket: a.ID}, laneID{bucket: b.ID}) }), nil
}

// bucketOnDisk returns the lane's bucket from memory or from a segment's header.
func (l *lane) bucketOnDisk() (Bucket, bool) {
	l.mu.RLock()
	b, ids := l.bucket, slices.Clone(l.found)
	for _, seg := range l.segs {
		ids = append(ids, seg.id)
	}
	l.mu.RUnlock()
	if b.Type != "" {
		return b, true
	}
	for _, id := range ids {
		if h, err := readHeaderOf(l.store.disk.fs, segName(id, l.store.partition)); err == nil && h.id() == id {
			return h.bucket, true
		}
	}
	return Bucket{}, false
}

// readHeaderOf reads the header of a segment that is not in use.
func readHeaderOf(fsys vfs.FS, name string) (segHeader, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return segHeader{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return segHeader{}, err
	}
	return readSegHeader(f, size)
}

// Horizon returns a bucket's drop horizon: epochs before it are expired for
// good, whatever the TTL becomes.
func (s *Store) Horizon(b Bucket) expiry.Horizon { return s.evidence.horizon(b.ID) }

// ReapHorizon returns up to when a plain bucket's tombstones may have been dropped
// here: of a key whose last write is older, nothing need be left that says it was
// deleted. A copy that is older than this horizon and comes from somebody who is
// no owner must not be taken in.
func (s *Store) ReapHorizon(b Bucket) expiry.Horizon { return s.evidence.reaped(b.ID) }

// RaiseHorizon raises a bucket's drop horizon and makes it durable. A lower one
// than the present changes nothing. Below it nothing is shown or taken in any
// more; [Store.Expire] removes what lies there.
func (s *Store) RaiseHorizon(b Bucket, to expiry.Horizon) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	s.evidence.raiseLater(b.ID, to)
	return s.publish("raising the drop horizon")
}

// publish makes the evidence durable, on a full disk with the room kept for it.
func (s *Store) publish(doing string) error {
	err := s.evidence.publish()
	if err != nil && vfs.IsNoSpace(err) && s.disk.space.spend(s.disk) {
		err = s.evidence.publish()
	}
	if err != nil {
		s.disk.noteFull(err)
		return diskError(object.MaybeDone, doing+": writing the manifest", err)
	}
	return nil
}

// Doubts returns the slots that may lack records they acknowledged: the
// replica is not complete for them. Damage in a slot is found when the slot is
// first used, or scanned.
func (s *Store) Doubts() []Doubt { return s.evidence.doubts() }

// ClearDoubt takes a doubt back, durably: the caller has merged the slot with
// replicas that had everything. The slot of a doubt about all is ignored. The
// doubt is one that Doubts has returned: if something new was found amiss since
// then, it stays, with an error. After other errors it may be back at the next
// start.
func (s *Store) ClearDoubt(d Doubt) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	id := laneID{d.Bucket, d.Slot}
	if d.All {
		id = laneID{slot: allSlots}
	}
	if !s.evidence.clearLater(id, d.noted) {
		return object.Errorf(object.CodeUnknown, object.NotDone, "something more was found amiss in slot %d meanwhile", d.Slot)
	}
	return s.publish("clearing a doubt")
}

// Note returns what SetNote has kept, nil if nothing.
func (s *Store) Note() []byte { return s.evidence.note() }

// SetNote keeps up to MaxNoteBytes for the caller in the manifest, durably.
func (s *Store) SetNote(note []byte) error {
	if len(note) > MaxNoteBytes {
		return object.Errorf(object.CodeTooLarge, object.NotDone, "a note of %d bytes; at most %d are kept", len(note), MaxNoteBytes)
	}
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	s.evidence.noteLater(note)
	return s.publish("keeping a note")
}
