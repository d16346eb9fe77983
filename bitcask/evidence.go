package bitcask

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Reason says why a slot may lack records it acknowledged.
type Reason uint32

// The reasons.
const (
	ReasonUncleanStop    Reason = 1 // the machine stopped with unsynced appends
	ReasonMissingSegment Reason = 2 // a segment the manifest lists is not there
	ReasonShortSegment   Reason = 3 // a segment is shorter than when it was sealed
	ReasonDamage         Reason = 4 // bytes of a segment are damaged or cannot be read
	ReasonManifestLost   Reason = 5 // the manifest is missing or damaged though there is data
	ReasonSyncFailed     Reason = 6 // the disk failed to sync appended records
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case ReasonUncleanStop:
		return "the machine stopped with unsynced appends"
	case ReasonMissingSegment:
		return "a segment is missing"
	case ReasonShortSegment:
		return "a segment is shorter than when it was sealed"
	case ReasonDamage:
		return "a segment is damaged"
	case ReasonManifestLost:
		return "the manifest was lost"
	case ReasonSyncFailed:
		return "the disk failed to sync"
	}
	return fmt.Sprintf("reason %d", uint32(r))
}

// allSlots stands for every slot of every bucket of the partition (a lost manifest).
const allSlots expiry.Slot = -2

// A Doubt says that a slot may lack records that were acknowledged here: the
// replica is not complete for it until it has been merged with others.
type Doubt struct {
	Bucket uint64      // bucket id; 0 if All
	Slot   expiry.Slot // -1 in a plain bucket
	All    bool        // every slot of every bucket of the partition
	Reason Reason      // the first one found, or ReasonSyncFailed

	noted uint64 // how often, when it was listed; see ClearDoubt
}

// evidence is a vnode's manifest in memory and on disk. What methods ending in
// Later change becomes durable with the next publish, and is kept until one
// succeeds.
type evidence struct {
	fs   vfs.FS
	name string
	boot string
	lost bool // there was data and no usable manifest

	known bool // there was a usable manifest

	// none is true only while there are no doubts, which is nearly always, and asked
	// with every read. It is set with mu held.
	none atomic.Bool

	horizons atomic.Pointer[map[uint64]expiry.Horizon] // a copy of m's, for readers without the lock

	mu         sync.Mutex
	done       sync.Cond // a publication has ended
	m          *manifest
	changes    uint64 // made so far
	durable    uint64 // of these, how many are on disk
	publishing bool
	published  uint64            // publications since the start
	noted      map[laneID]uint64 // how often each doubt was noted since the start
}

// openEvidence reads a partition's manifest. hasData is asked if there is none.
// A damaged manifest does not stop the node: it is set aside under another name
// and counts as lost.
func openEvidence(fsys vfs.FS, disk ID, p Partition, boot string, hasData func() (bool, error)) (*evidence, error) {
	e := &evidence{fs: fsys, name: manifestName(p), boot: boot, noted: map[laneID]uint64{}}
	e.done.L = &e.mu
	m, err := readManifest(fsys, disk, p)
	switch {
	case err == nil:
		e.m, e.known = m, true
		e.showHorizonsLocked()
		e.judge()
		return e, nil
	case vfs.IsNotExist(err):
	case errors.Is(err, errFormat):
		return nil, &IdentityError{Path: fsys.Path(e.name), Reason: "the manifest was written in another format: use the version of mayfly that wrote it", Cause: err}
	default:
		if err := fsys.Rename(e.name, e.name+".damaged"); err != nil {
			return nil, diskError(object.NotDone, "setting aside the damaged manifest "+fsys.Path(e.name), err)
		}
	}
	e.m = newManifest(disk, p)
	lost, err := hasData()
	if err != nil {
		return nil, diskError(object.NotDone, "looking for data of partition "+p.String(), err)
	}
	if e.lost = lost; lost {
		e.doubtLater(laneID{slot: allSlots}, ReasonManifestLost)
	}
	return e, nil
}

// readManifest reads and checks a manifest: it must be this disk's and this
// partition's.
func readManifest(fsys vfs.FS, disk ID, p Partition) (*manifest, error) {
	b, err := vfs.ReadFile(fsys, manifestName(p), maxManifestBytes)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, err
	}
	if m.disk != disk || m.partition != p {
		return nil, badFormat(16, "a manifest of disk %v, partition %v", m.disk, m.partition)
	}
	return m, nil
}

// judge turns what was unsynced when the machine stopped into doubts, and what
// was open then into suspects. Where only the process was killed, the kernel still
// has everything.
func (e *evidence) judge() {
	if e.boot != "" && e.m.bootID == e.boot {
		return
	}
	for id, s := range e.m.segments {
		if s.state == segDirty {
			e.doubtLater(id.laneID, ReasonUncleanStop)
		}
		if s.state.open() {
			s.suspect = true
			e.setLater(id, s)
		}
	}
}

func (e *evidence) changedLocked() { e.changes++ }

// doubtLater notes a doubt; the first reason of a slot stays, unless what was found now
// asks for more than the others do, see rewrite.go.
func (e *evidence) doubtLater(id laneID, why Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noted[id]++
	if was, known := e.m.doubts[id]; !known || why == ReasonSyncFailed && was != why {
		e.m.doubts[id] = why
		e.none.Store(false)
		e.changedLocked()
	}
}

// clearLater takes a doubt away, unless it has been noted again since it was
// listed. It reports whether the doubt is gone.
func (e *evidence) clearLater(id laneID, noted uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, known := e.m.doubts[id]
	if known && e.noted[id] != noted {
		return false
	}
	if known {
		delete(e.m.doubts, id)
		e.changedLocked()
	}
	return true
}

// setLater notes a segment's state.
func (e *evidence) setLater(id segID, s segRecord) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.m.segments[id] != s {
		e.m.segments[id] = s
		e.changedLocked()
	}
}

// cleanLater notes that a dirty segment has been synced at a length, bytes.
func (e *evidence) cleanLater(id segID, length int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.m.segments[id]; s.state == segDirty {
		s.state, s.length = segClean, length
		e.m.segments[id] = s
		e.changedLocked()
	}
}

// forgetLater removes what is said of a slot that has been dropped.
func (e *evidence) forgetLater(id laneID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.m.segments, func(s segID, _ segRecord) bool { return s.laneID == id })
	delete(e.m.doubts, id)
	e.changedLocked()
}

// forgetDropped removes what is said of slots below their bucket's horizon.
func (e *evidence) forgetDropped(slotSeconds int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	below := func(id laneID) bool {
		return id.slot >= 0 && id.slot.End(slotSeconds) <= int64(e.m.horizons[id.bucket])
	}
	maps.DeleteFunc(e.m.segments, func(id segID, _ segRecord) bool { return below(id.laneID) })
	maps.DeleteFunc(e.m.doubts, func(id laneID, _ Reason) bool { return below(id) })
}

// raiseLater raises a bucket's drop horizon; it reports whether it moved.
func (e *evidence) raiseLater(bucket uint64, to expiry.Horizon) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.m.horizons[bucket]
	if !h.Raise(to) {
		return false
	}
	e.m.horizons[bucket] = h
	e.showHorizonsLocked()
	e.changedLocked()
	return true
}

func (e *evidence) noteLater(note []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.m.note = slices.Clone(note)
	e.changedLocked()
}

// publish makes everything changed so far durable. Calls that meet are served
// by one writing.
func (e *evidence) publish() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	want := e.changes
	for e.durable < want {
		if e.publishing {
			e.done.Wait()
			continue
		}
		if err := e.publishLocked(); err != nil {
			return err
		}
	}
	return nil
}

func (e *evidence) publishLocked() error {
	e.publishing = true
	serial, boot := e.m.serial, e.m.bootID
	e.m.serial++
	e.m.bootID = e.boot
	covers, data := e.changes, appendManifest(nil, e.m)
	e.mu.Unlock()
	err := vfs.PublishBytes(e.fs, e.name, data)
	e.mu.Lock()
	e.publishing = false
	if err != nil {
		e.m.serial, e.m.bootID = serial, boot
	} else {
		e.durable = covers
		e.published++
	}
	e.done.Broadcast()
	return err
}

// segment returns what is said of a segment.
func (e *evidence) segment(id segID) (segRecord, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.m.segments[id]
	return s, ok
}

// doubted reports whether there is a doubt about a slot.
func (e *evidence) doubted(id laneID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, one := e.m.doubts[id]
	_, all := e.m.doubts[laneID{slot: allSlots}]
	return one || all
}

// reason returns why a slot is doubted, 0 if it is not.
func (e *evidence) reason(id laneID) Reason {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.m.doubts[id]
}

// removeLater removes what is said of a segment that never took a record.
func (e *evidence) removeLater(id segID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.m.segments, id)
	e.changedLocked()
}

// list returns the segments the manifest lists and keep accepts.
func (e *evidence) list(keep func(segID, segRecord) bool) []segID {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []segID
	for id, s := range e.m.segments {
		if keep(id, s) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareSegs)
	return ids
}

// reapedLater notes up to when tombstones of a bucket may have been dropped.
func (e *evidence) reapedLater(bucket uint64, to expiry.Horizon) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.m.reaped[bucket]; h.Raise(to) {
		e.m.reaped[bucket] = h
		e.changedLocked()
	}
}

// reaped returns up to when tombstones of a bucket may have been dropped.
func (e *evidence) reaped(bucket uint64) expiry.Horizon {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.m.reaped[bucket]
}

// horizon is asked with every put and get.
func (e *evidence) horizon(bucket uint64) expiry.Horizon {
	if shown := e.horizons.Load(); shown != nil {
		return (*shown)[bucket]
	}
	return 0
}

// showHorizonsLocked has readers see m's horizons. The caller holds mu, or has e
// to itself.
func (e *evidence) showHorizonsLocked() { e.horizons.Store(new(maps.Clone(e.m.horizons))) }

func (e *evidence) note() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.m.note)
}

// doubts returns all doubts, in order. Without any it takes no lock.
func (e *evidence) doubts() []Doubt {
	if e.none.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.m.doubts) == 0 {
		e.none.Store(true)
		return nil
	}
	var all []Doubt
	for _, id := range slices.SortedFunc(maps.Keys(e.m.doubts), compareLanes) {
		d := Doubt{Bucket: id.bucket, Slot: id.slot, Reason: e.m.doubts[id], noted: e.noted[id]}
		if id.slot == allSlots {
			d.Slot, d.All = 0, true
		}
		all = append(all, d)
	}
	return all
}
