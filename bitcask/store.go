package bitcask

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

	allListed atomic.Bool // every bucket's directory has been read

	damageMu    sync.Mutex
	damage      []Damage
	damageCount int64
}

// A listing is how far a bucket's directory has been read.
type listing uint8

const (
	listingNow listing = iota + 1
	listingDone
)

// maxDamage bounds the list of damage; the count goes on.
const maxDamage = 1000

// A Damage is a stretch of a file that cannot be used. Its records are not
// served from here; those before and behind it are.
type Damage struct {
	File          string // relative to the data directory
	Offset, Bytes int64
	Bucket        uint64      // bucket id
	Slot          expiry.Slot // -1 in a plain bucket
	What          string
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
	return s, nil
}

// Partition returns which partition this is.
func (s *Store) Partition() Partition { return s.partition }

// lane returns the lane of that id. A missing one is made if create is set,
// and is otherwise nil.
func (s *Store) lane(id laneID, create bool) (*lane, error) {
	s.mu.RLock()
	l, done := s.lanes[id], s.listed[id.bucket] == listingDone
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

// list reads a bucket's directory, once: its lanes are then known by their files.
func (s *Store) list(bucket uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.listed[bucket] == listingNow {
		s.changed.Wait()
	}
	if s.listed[bucket] == listingDone {
		return nil
	}
	s.listed[bucket] = listingNow
	s.mu.Unlock()
	ids, err := s.segmentsOnDisk(bucket)
	s.mu.Lock()
	defer s.changed.Broadcast()
	if err != nil {
		delete(s.listed, bucket)
		return err
	}
	s.listed[bucket] = listingDone
	for _, id := range ids {
		if s.lanes[id.laneID] == nil {
			s.lanes[id.laneID] = newLane(s, id.laneID)
		}
		l := s.lanes[id.laneID]
		l.found = append(l.found, id)
	}
	for _, id := range s.evidence.list(func(id segID, _ segRecord) bool { return id.bucket == bucket }) {
		if s.lanes[id.laneID] == nil { // its files are missing: it is found out when it is loaded
			s.lanes[id.laneID] = newLane(s, id.laneID)
		}
	}
	return nil
}

// segmentsOnDisk returns a bucket's segments in ascending order. What an earlier
// crash left behind is cleared away; names that are not the engine's are left alone.
func (s *Store) segmentsOnDisk(bucket uint64) ([]segID, error) {
	dir := laneDir(bucket, s.partition)
	entries, err := s.disk.fs.ReadDir(dir)
	if vfs.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError(object.NotDone, "reading directory "+s.disk.fs.Path(dir), err)
	}
	var ids []segID
	horizon := s.evidence.horizon(bucket)
	for _, e := range entries {
		if stem, ok := strings.CutSuffix(e.Name, segSuffix); ok && e.Regular {
			if slot, seq, ok := parseStem(stem); ok {
				ids = append(ids, segID{laneID{bucket, slot}, seq})
			}
		}
		if s.leftBehind(e, entries, horizon) {
			if err := s.disk.fs.Remove(dir + "/" + e.Name); err != nil && !vfs.IsNotExist(err) {
				s.disk.cfg.Log.Warn("the leaving of a crash could not be removed", "file", s.disk.fs.Path(dir+"/"+e.Name), "error", err)
			}
		}
	}
	slices.SortFunc(ids, compareSegs)
	return ids, nil
}

// leftBehind reports whether a file is of no more use: an unfinished
// publication, or the hint of a dropped segment.
func (s *Store) leftBehind(e vfs.Entry, all []vfs.Entry, horizon expiry.Horizon) bool {
	if stem, ok := strings.CutSuffix(e.Name, hintSuffix+vfs.TempSuffix); ok {
		_, _, ok = parseStem(stem)
		return ok && e.Regular
	}
	stem, ok := strings.CutSuffix(e.Name, hintSuffix)
	if !ok || !e.Regular {
		return false
	}
	slot, _, ok := parseStem(stem)
	_, hasSegment := slices.BinarySearchFunc(all, stem+segSuffix, func(e vfs.Entry, name string) int { return strings.Compare(e.Name, name) })
	return ok && slot != plainSlot && !hasSegment && slot.End(s.disk.cfg.SlotSeconds) <= int64(horizon)
}

// listAll reads the directories of all buckets with data in the partition, once.
func (s *Store) listAll() error {
	if s.allListed.Load() {
		return nil
	}
	buckets, err := s.disk.bucketsOf(s.partition)
	if err != nil {
		return err
	}
	for _, id := range s.evidence.list(func(segID, segRecord) bool { return true }) {
		buckets = append(buckets, id.bucket)
	}
	slices.Sort(buckets)
	for _, bucket := range slices.Compact(buckets) {
		if err := s.list(bucket); err != nil {
			return err
		}
	}
	s.allListed.Store(true) // a bucket that comes later comes by a put
	return nil
}

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
// Slots below the drop horizon are not among them.
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
		if l.id.slot.End(s.disk.cfg.SlotSeconds) > horizon {
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
// replicas that had everything. The slot of a doubt about all is ignored.
func (s *Store) ClearDoubt(d Doubt) error {
	if !s.disk.gate.enter() {
		return ErrStopping
	}
	defer s.disk.gate.leave()
	id := laneID{d.Bucket, d.Slot}
	if d.All {
		id = laneID{slot: allSlots}
	}
	s.evidence.clearLater(id)
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

// Damage returns what was found damaged since the Disk was opened, oldest
// first and at most 1000 entries, and how much there was in all.
func (s *Store) Damage() ([]Damage, int64) {
	s.damageMu.Lock()
	defer s.damageMu.Unlock()
	return slices.Clone(s.damage), s.damageCount
}

// noteDamage lists damage and, if it may have cost records, doubts the slot.
func (s *Store) noteDamage(d Damage, id laneID, why Reason) {
	d.Bucket, d.Slot = id.bucket, id.slot
	s.damageMu.Lock()
	if slices.ContainsFunc(s.damage, func(old Damage) bool { return old.File == d.File && old.Offset == d.Offset && old.What == d.What }) {
		s.damageMu.Unlock()
		return // met again
	}
	s.damageCount++
	if len(s.damage) < maxDamage {
		s.damage = append(s.damage, d)
	}
	s.damageMu.Unlock()
	s.disk.stats.damage.Add(1)
	s.disk.cfg.Log.Warn("damage on the disk is set aside", "file", s.disk.fs.Path(d.File), "offset", d.Offset, "bytes", d.Bytes, "what", d.What)
	if why != 0 {
		s.evidence.doubtLater(id, why)
	}
}

// noteUnreadable notes a record that could not be read where it should be.
func (s *Store) noteUnreadable(at place, err error) {
	if err == error(ErrExpired) {
		return // dropped meanwhile
	}
	s.disk.stats.badReads.Add(1)
	s.noteDamage(Damage{File: at.seg.data.name, Offset: at.offset(), Bytes: at.size(), What: err.Error()}, at.seg.id.laneID, ReasonDamage)
}

// noteTorn tells of a tail that is cut off.
func (s *Store) noteTorn(seg *segment, st stretch) {
	s.disk.stats.tornTails.Add(1)
	s.disk.cfg.Log.Info("an unfinished write at the end of a segment is cut off", "file", s.disk.fs.Path(seg.data.name), "offset", st.offset, "bytes", st.size, "what", st.what)
}

// syncFailed tells of records whose durability cannot be had any more.
func (s *Store) syncFailed(seg *segment, err error) {
	if errors.Is(err, errGone) {
		return // dropped meanwhile, with its slot
	}
	if seg.syncer.told.Swap(true) {
		return
	}
	s.disk.stats.syncErrors.Add(1)
	s.noteDamage(Damage{File: seg.data.name, What: fmt.Sprintf("syncing failed: %v", err)}, seg.id.laneID, ReasonSyncFailed)
}

// abandon removes a segment that could not be brought into use.
func (s *Store) abandon(seg *segment) {
	s.evidence.removeLater(seg.id)
	s.disk.handles.drop(&seg.data)
	_ = s.disk.fs.Remove(seg.data.name) // an empty segment harms nobody
}
