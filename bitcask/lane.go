package bitcask

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
)

// A lane holds the segments of one bucket's slot in a partition (of a plain
// bucket: all of them), and takes its puts.
//
// One put at a time has the lane's appender role (busy): only it makes new segments
// and changes what the manifest says of them, and it alone touches the active
// segment's file. It does so without the lock; those that come meanwhile queue up.
// While nobody has it, puts may write side by side at places that were reserved for
// them, see reserve.go. mu is held for lookups and for bookkeeping, never across input
// or output.
type lane struct {
	// What every put changes, in the 64 bytes of a cache line: it is another
	// processor's, mostly.
	mu       laneMutex
	busy     bool     // somebody has the role
	spinning bool     // a put watches for the role to become free
	dirty    bool     // the role's: the manifest says that appends may be unsynced
	careless bool     // the role's: the last batch had puts that are acknowledged unsynced
	waiting  int32    // goroutines that wait for the role itself, not to be led
	flight   flight   // puts that write at places of their own, without the role
	active   *segment // takes the appends; nil if the next put must make one
	claims   claims   // the first, mostly the only one

	target  atomic.Pointer[target]
	loaded  bool       // segs is complete
	dropped bool       // expired and gone
	segs    []*segment // ascending by seq; copied when it changes
	queue   []*putOp
	lastPut int64 // seconds: the caller's clock at the last append

	store   *Store
	id      laneID
	recent  *recentLane // of itself
	timed   bool
	bucket  Bucket    // as the files or the first put say; no Type while neither has
	changed sync.Cond // on mu: loading ended, the role became free, or an awaited put ended

	loading bool       // somebody is at it
	found   []segID    // the files on disk, ascending, until loaded
	unused  []segID    // files that a crash left and that hold nothing
	spare   *segment   // made, but the manifest could not be written: the next put takes it
	toDrop  []string   // its files, once dropped, until they are unlinked
	buried  []*segment // of a plain bucket: merged into others, or wholly expired; to be unlinked

	hasCondemned atomic.Bool // a segment's condemned is not empty

	// What the disk failed to read, see rescan.go and unread.go.
	unread        atomic.Bool    // a segment has a rescan, or had one, or the lane could not be loaded
	rescanAt      int64          // seconds: when the next one is made
	loadSpell     unreadSpell    // how long the lane could not be loaded
	hasUnread     atomic.Bool    // unreadRecords is not empty
	unreadRecords []unreadRecord // those that wait longest for being read again in front
	unreadAt      int64          // seconds: when they are

	sealing  sync.Mutex // held by the one that seals, or syncs what others could not; only these wait for it
	rewrites int        // of segments whose sync failed, in vain; guarded by sealing

	freed      atomic.Uint32 // how often the role became free
	queueBytes int64
	batch      []*putOp // the role's
	vector     [][]byte // the role's
	nextSeq    uint32   // the role's
}

// A laneMutex is held for less than a microsecond, by readers too: they would gain
// nothing from sharing it. Whoever meets it taken waits actively for somewhat longer
// than that. To be put to sleep is to be woken behind all goroutines that are ready to
// run; a sync.Mutex waits actively only where there are none, and a sync.RWMutex
// never does. (Growing or copying a keydir of a million entries takes tens of
// milliseconds; then everybody goes to sleep.)
type laneMutex struct{ sync.Mutex }

// lockRounds is how often a taken laneMutex is looked at before going to sleep: for a
// few microseconds.
const lockRounds = 2000

// Lock waits until nobody else has it.
func (m *laneMutex) Lock() {
	if m.TryLock() {
		return
	}
	if manyCPUs {
		for range lockRounds {
			if m.TryLock() {
				return
			}
		}
	}
	m.Mutex.Lock()
}

func (m *laneMutex) RLock()   { m.Lock() }
func (m *laneMutex) RUnlock() { m.Unlock() }

func newLane(s *Store, id laneID) *lane {
	l := &lane{store: s, id: id, timed: id.slot != plainSlot}
	l.changed.L = &l.mu
	l.recent = &recentLane{id, l}
	return l
}

// takeRoleLocked waits until nobody appends and takes the role. Puts go on
// queueing meanwhile, and get no places.
func (l *lane) takeRoleLocked() {
	l.waiting++
	for l.busy || !l.flight.empty() {
		l.changed.Wait()
	}
	l.waiting--
	l.busy = true
}

// lookup sets op.places to those of all records with that hash: of open segments from
// memory, of sealed ones from their hints.
func (l *lane) lookup(op *putOp, hash uint64) error {
	l.mu.RLock()
	if !l.loaded {
		l.mu.RUnlock()
		if err := l.load(); err != nil {
			return err
		}
		l.mu.RLock()
	}
	found, sealed := l.findLocked(op.places[:0], wanted{hash: uint32(hash)})
	l.mu.RUnlock()
	op.places = found
	return l.lookupRest(op, sealed, hash)
}

// lookupRest adds to op.places, which the keydirs know, what the hints of sealed
// segments do.
func (l *lane) lookupRest(op *putOp, sealed []*segment, hash uint64) error {
	for _, seg := range sealed {
		var err error
		if op.places, err = l.lookupSealed(op.stripe, op.places, seg, uint32(hash)); err != nil {
			return err
		}
	}
	if l.hasCondemned.Load() {
		op.places = l.dropCondemned(op.places)
	}
	return nil
}

// wanted says which records are looked for: those with a hash, or of these only
// those whose version has a digest.
type wanted struct {
	hash, digest uint32
	oneVersion   bool
}

func (w wanted) is(loc location) bool { return !w.oneVersion || loc.digest == w.digest }

// findLocked looks into the keydirs and returns the segments whose hints must
// be asked.
func (l *lane) findLocked(dst []place, w wanted) (found []place, sealed []*segment) {
	for i, seg := range l.segs {
		switch {
		case seg.keydir != nil:
			for loc := range seg.keydir.find(w.hash) {
				if w.is(loc) {
					dst = append(dst, place{seg, loc})
				}
			}
		case seg.plain.resident != nil:
			for _, loc := range findResident(seg.plain.resident, w.hash) {
				if w.is(loc) {
					dst = append(dst, place{seg, loc})
				}
			}
		case sealed == nil && i == 0 && allSealed(l.segs):
			return dst, l.segs // the common case of an old slot; segs is not changed in place
		default:
			sealed = append(sealed, seg)
		}
	}
	return dst, sealed
}

func allSealed(segs []*segment) bool {
	return !slices.ContainsFunc(segs, func(s *segment) bool { return s.keydir != nil })
}

// lookupSealed asks a hint. A damaged one is replaced by a scan of the segment.
func (l *lane) lookupSealed(t *stripe, dst []place, seg *segment, hash uint32) ([]place, error) {
	const tries = 4 // each after the first means that the segment was sealed anew meanwhile
	for range tries {
		hint := seg.sealed.Load()
		var scratch [8]location
		found, err := l.store.disk.askHint(t, scratch[:0], hint, hash)
		if err == nil {
			for _, loc := range found {
				dst = append(dst, place{seg, loc})
			}
			return dst, nil
		}
		if err != errGone {
			if err := l.hintFailed(seg, hint, err); err != nil {
				return dst, err
			}
		}
		l.mu.RLock()
		if l.dropped {
			l.mu.RUnlock()
			return dst, ErrExpired
		}
		if seg.keydir != nil {
			for loc := range seg.keydir.find(hash) {
				dst = append(dst, place{seg, loc})
			}
			l.mu.RUnlock()
			return dst, nil
		}
		l.mu.RUnlock()
	}
	return dst, object.Errorf(object.CodeDisk, object.NotDone, "%s cannot be read", l.store.disk.fs.Path(hintName(seg.data.name)))
}

func (d *Disk) askHint(t *stripe, dst []location, hint *sealedHint, hash uint32) ([]location, error) {
	t.hintLookups.Add(1)
	r := hintReader{header: &hint.hintHeader, number: hint.number, kept: d.hints, files: d.handles, handle: &hint.file}
	defer r.done()
	return r.lookup(dst, hash)
}

// insert lists op's record in its segment's keydir, in place of a lesser version
// of its key unless all are kept. The caller holds mu, or has the segment to itself.
func (l *lane) insert(op *putOp, keepAll bool) {
	loc := location{uint32(op.hash), uint32(op.offset / align), uint32(op.size / align), op.digest}
	minute, replaced := minuteOf(l.timed, op.epoch), false
	sums := op.seg.keydir.sums(minute, &op.seg.sums)
	if op.old.seg == op.seg && !keepAll && op.old.seg != nil && op.version.Compare(op.oldVersion) > 0 &&
		op.seg.keydir.replace(op.old.location, loc) {
		sums.remove(op.hash, op.oldVersion)
		replaced = true
	} else {
		if op.seg.keydir.insert(loc) && op.seg == l.active {
			l.showTargetLocked()
		}
	}
	sums.add(op.hash, op.version)
	if !l.timed {
		l.account(op, replaced)
	}
}

// adoptBucketLocked remembers the bucket's fixed properties, and refuses those
// that are not the files'.
func (l *lane) adoptBucketLocked(b Bucket) error {
	b.Sync = 0
	have := l.bucket
	if have.Type == "" {
		l.bucket = b
		return nil
	}
	if have != b {
		return object.Errorf(object.CodeBadRequest, object.NotDone,
			"bucket %q of type %q was made with timed=%t and all records kept=%t: these are fixed before the first put", have.Name, have.Type, have.Timed, have.KeepAll)
	}
	return nil
}
