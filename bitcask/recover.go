package bitcask

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// load opens the lane's segments: sealed ones by their hints, the others by
// scanning them. One goroutine does it, others wait; after an error the next
// one tries again, and so does maintenance.
func (l *lane) load() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.loading {
		l.changed.Wait()
	}
	if l.loaded || l.dropped {
		return nil
	}
	l.loading = true
	found := l.found
	l.mu.Unlock()
	segs, bucket, err := l.openAll(found)
	l.giveUpSyncs(segs)
	l.mu.Lock()
	l.loading = false
	l.changed.Broadcast()
	if err != nil {
		l.unread.Store(true)
		return err
	}
	l.segs, l.bucket, l.loaded, l.found = segs, bucket, true, nil
	if l.active = l.appendable(segs); l.active != nil {
		rec, _ := l.store.evidence.segment(l.active.id)
		l.dirty = rec.state == segDirty
	}
	l.showTargetLocked()
	return nil
}

// appendable returns the segment that takes further puts, nil if none does. In a
// plain lane merged segments may come after it.
func (l *lane) appendable(segs []*segment) *segment {
	for _, seg := range slices.Backward(segs) {
		if seg.keydir != nil && !seg.retired {
			return seg
		}
		if l.timed {
			break
		}
	}
	return nil
}

// openAll opens the segments found in the directory and misses those the
// manifest lists besides.
func (l *lane) openAll(found []segID) (segs []*segment, bucket Bucket, err error) {
	l.unused = nil
	here := map[segID]bool{}
	for _, id := range found {
		here[id] = true
		seg := newSegment(id, l.store.partition)
		l.nextSeq = max(l.nextSeq, id.seq+1)
		b, err := l.open(seg)
		if err == errNeverUsed {
			l.unused = append(l.unused, id)
			continue
		}
		if err != nil {
			for _, seg := range append(segs, seg) {
				l.closeFiles(seg)
			}
			return nil, Bucket{}, err
		}
		if b.Type != "" {
			bucket = b
		}
		segs = append(segs, seg)
	}
	for _, id := range l.store.evidence.list(func(id segID, _ segRecord) bool { return id.laneID == l.id }) {
		l.nextSeq = max(l.nextSeq, id.seq+1)
		if said, _ := l.store.evidence.segment(id); !here[id] && said.state != segBuried {
			l.store.noteDamage(Damage{File: segName(id, l.store.partition), What: "the segment is missing"}, id.laneID, ReasonMissingSegment)
		}
	}
	return segs, bucket, nil
}

// closeFiles closes the files of a segment that does not come into use.
func (l *lane) closeFiles(seg *segment) {
	l.store.disk.handles.drop(&seg.data)
	if hint := seg.sealed.Load(); hint != nil {
		l.store.disk.handles.drop(&hint.file)
	}
}

// open brings one segment into use. It returns the bucket as the segment's
// header says it, if that was read.
func (l *lane) open(seg *segment) (Bucket, error) {
	s := l.store
	size, err := s.disk.fileSize(seg.data.name)
	if err != nil {
		return Bucket{}, err
	}
	said, listed := s.evidence.segment(seg.id)
	sealedSaid := listed && said.state == segSealed
	if size < said.length {
		s.noteDamage(Damage{File: seg.data.name, Offset: size, Bytes: said.length - size, What: "the segment is shorter than when it was sealed, or last synced"}, l.id, ReasonShortSegment)
	}
	h, err := s.disk.openHint(hintName(seg.data.name))
	if err == nil && (h.segID != seg.id || h.partition != s.partition || h.sealedLength > size || sealedSaid && said.length != h.sealedLength) {
		err = badFormat(0, "the hint is not this segment's")
	}
	var plain Bucket
	if err == nil && !l.timed {
		plain, err = l.loadResident(seg, h)
	}
	if err == nil {
		seg.generation = h.generation
		seg.end.Store(h.sealedLength)
		seg.sealed.Store(h)
		s.evidence.setLater(seg.id, segRecord{state: segSealed, length: h.sealedLength}) // news only after a crash just before it was said
		return plain, nil
	}
	if h != nil {
		s.disk.handles.drop(&h.file)
	}
	unread, hinted := unreadable(err), !vfs.IsNotExist(err)
	if hinted || sealedSaid {
		s.noteDamage(Damage{File: hintName(seg.data.name), What: err.Error()}, l.id, 0)
	}
	trust := trustAll
	switch {
	case sealedSaid:
		size = min(size, said.length)
		trust = trustSealed
	case said.suspect || !listed:
		trust = trustNothing
	case said.state == segDirty:
		trust = trustKilled
	}
	seg.durable = said.length
	// The hint of a disk that cannot be read now may list what a scan of it misses.
	// But what has failed for too long is given up.
	spell := l.failedLoading()
	b, err := l.recover(seg, size, trust, unread && !spell.isOver())
	if seg.rescan != nil {
		seg.rescan.spell = spell
	}
	seg.retired = seg.retired || hinted // what is appended behind its hint would be lost if that were read right next time
	switch {
	case err != nil && err != errNeverUsed:
		s.doubtUnread(seg, err)
	case err != nil:
	case !listed:
		// A crash came before its first record, or the manifest was lost. What the
		// manifest does not list takes no further record.
		seg.retired = true
		s.evidence.setLater(seg.id, segRecord{state: segDirty})
	case said.suspect && seg.rescan == nil:
		said.suspect, said.length = false, min(said.length, seg.end.Load())
		s.evidence.setLater(seg.id, said)
	case said.state == segClean && said.length > seg.end.Load():
		said.length = seg.end.Load() // its slot is doubted for it already
		s.evidence.setLater(seg.id, said)
	}
	return b, err
}

// failedLoading returns how long the lane could not be loaded.
func (l *lane) failedLoading() unreadSpell {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.loadSpell
}

// A trust says what a scan may take for granted.
type trust uint8

const (
	trustSealed  trust = iota + 1 // it was synced at this length: whatever is wrong is damage
	trustAll                      // the kernel has what it was given: the last write may be torn
	trustKilled                   // the same, and puts that were under way may have left holes
	trustNothing                  // the machine stopped: pages may be missing behind good headers, and the tail be anything
)

// openHint reads the header of a hint.
func (d *Disk) openHint(name string) (*sealedHint, error) {
	h := &sealedHint{number: d.hints.number(), file: handle{name: name}}
	f, err := d.handles.acquire(&h.file)
	if err != nil {
		return nil, err
	}
	h.hintHeader, err = readHintHeader(f)
	d.handles.release(&h.file)
	if err != nil {
		d.handles.drop(&h.file)
	}
	return h, err
}

// recover builds a segment's keydir by scanning size bytes of it. Damage is
// listed and skipped. Unless it was sealed once, the segment may end in a put
// that was never finished: this torn tail is cut off.
//
// Where the disk fails to read, the slot is doubted, and the segment is used with
// what was found and scanned again later; if strict, that is an error and no more.
func (l *lane) recover(seg *segment, size int64, tr trust, strict bool) (Bucket, error) {
	s := l.store
	f, err := s.disk.handles.acquire(&seg.data)
	if err != nil {
		return Bucket{}, diskError(object.NotDone, "opening "+s.disk.fs.Path(seg.data.name), err)
	}
	defer s.disk.handles.release(&seg.data)
	s.disk.stats.recoveries.Add(1)
	sc := &scanner{f: f, end: size, values: tr == trustNothing || s.evidence.doubted(l.id), strict: strict}
	if tr == trustKilled {
		sc.loose = max(size-maxAhead, segHeaderMin)
	}
	h, err := readSegHeader(f, size)
	if err == nil {
		err = s.checkHeader(&h, seg.id)
	}
	if err == nil {
		if tr != trustSealed {
			seg.headerEnd = int64(h.size())
		}
		sc.pos, sc.generation, sc.typ, sc.name = int64(h.size()), h.generation, h.bucket.Type, h.bucket.Name
	} else {
		if _, listed := s.evidence.segment(seg.id); neverUsed(listed, size) {
			return Bucket{}, errNeverUsed
		}
		if unreadable(err) {
			sc.failed(err)
		}
		seg.retired = true
		sc.pos = min(size, segHeaderMin) // no record lies before it
		s.noteDamage(Damage{File: seg.data.name, Bytes: sc.pos, What: err.Error()}, l.id, ReasonDamage)
	}
	end := int64(0)
	if !strict || sc.fault == nil {
		end = l.rebuild(seg, sc, h.bucket, tr)
	}
	if sc.fault != nil {
		if strict {
			return Bucket{}, diskError(object.NotDone, "reading "+s.disk.fs.Path(seg.data.name), sc.fault)
		}
		s.doubtUnread(seg, sc.fault)
		seg.retired = true // and so its tail is left alone
		seg.rescan = &rescan{size: size, trust: tr}
		l.unread.Store(true)
	}
	seg.generation = sc.generation
	seg.end.Store(end)
	seg.wrote() // by whoever it was: to be synced before it is sealed
	if err := s.disk.markHoles(seg); err != nil {
		seg.retired = true // it is tried again before it is sealed
	}
	if end < size && tr != trustSealed && !seg.retired {
		s.disk.cutTail(seg, end)
	}
	return h.bucket, nil
}

// errNeverUsed says that a segment is to be left out; its file goes with its slot.
var errNeverUsed = errors.New("bitcask: the segment was never used")

// neverUsed reports whether a segment without a usable header is what a crash
// leaves of making one: the manifest lists a segment before it takes a record.
func neverUsed(listed bool, size int64) bool { return !listed && size <= segHeaderMax }

// checkHeader refuses the header of another segment.
func (s *Store) checkHeader(h *segHeader, id segID) error {
	cfg := &s.disk.cfg
	if h.id() != id || h.partition != s.partition || h.cluster != cfg.Cluster || h.bucket.Timed && h.slotSeconds != cfg.SlotSeconds {
		return badFormat(0, "the header is another segment's")
	}
	return nil
}

// rebuild fills a segment's keydir from a scan and returns where its last
// record, or the damage behind it, ends.
func (l *lane) rebuild(seg *segment, sc *scanner, b Bucket, tr trust) (end int64) {
	s := l.store
	seg.keydir, seg.sums = &keydir{}, nil
	end = alignUp(sc.pos)
	op := &putOp{seg: seg}
	for {
		st, ok := sc.next()
		if !ok {
			return end
		}
		last := st.offset+st.size >= sc.end
		switch {
		case st.kind == gapPart, st.kind == wholeRecord && l.reinsert(op, &st, b, sc):
		case st.kind == holePart && !last:
			s.noteHole(seg, st)
			seg.holes = append(seg.holes, hole{st.offset, st.size})
		case st.offset >= seg.durable && (st.kind == holePart || tr != trustSealed && st.kind == tornTail || tr == trustNothing && last):
			// What was acknowledged of an unsynced tail, the manifest's dirty mark
			// accounts for.
			s.noteTorn(seg, st)
			return end
		default:
			what := cmp.Or(st.what, "the record belongs to another slot or partition")
			s.noteDamage(Damage{File: seg.data.name, Offset: st.offset, Bytes: st.size, What: what}, l.id, ReasonDamage)
		}
		end = alignUp(st.offset + st.size)
	}
}

// reinsert lists a record found by a scan, unless it is in the wrong place. As
// when it was put, it replaces a lesser version of its key.
func (l *lane) reinsert(op *putOp, st *stretch, b Bucket, sc *scanner) bool {
	h := &st.header
	op.hash, op.version = l.store.disk.cfg.Hash(h.Type, h.Bucket, h.Key), h.Version()
	op.digest = op.version.Short()
	op.offset, op.size = st.offset, alignUp(st.size)
	if !l.store.partition.Holds(op.hash) {
		return false
	}
	if l.timed {
		epoch, ok := epochOf(h.Key)
		if !ok || expiry.SlotOf(epoch, l.store.disk.cfg.SlotSeconds) != l.id.slot {
			return false
		}
		op.epoch = epoch
	} else {
		op.epoch = timestampEpoch(h)
	}
	op.next.Kind = h.Kind
	op.old = place{}
	keepAll := b.KeepAll || b.Type == "" && h.Kind == object.Delta
	if !keepAll {
		if err := l.findOlder(op, h); err != nil {
			sc.failed(err)
		}
	}
	l.insert(op, keepAll)
	return true
}

// findOlder sets op.old to the place in op's segment of a record with h's key. An
// error says that the disk failed to read one that may be it.
func (l *lane) findOlder(op *putOp, h *object.Header) (fault error) {
	for loc := range op.seg.keydir.find(uint32(op.hash)) {
		at := place{op.seg, loc}
		old, _, err := l.store.disk.readHead(at, &op.scratch)
		if err == nil && string(old.Key) == string(h.Key) {
			op.old, op.oldVersion, op.oldHeader.Kind = at, old.Version(), old.Kind
			return nil
		}
		if errors.Is(err, object.CodeDisk) {
			fault = err
		}
	}
	return fault
}

// readSegHeader reads a segment's header from a file of that size.
func readSegHeader(f vfs.File, size int64) (segHeader, error) {
	b := make([]byte, min(size, segHeaderMax))
	if len(b) == 0 {
		return segHeader{}, errShortHeader
	}
	if err := readFull(f, b, 0); err == io.ErrUnexpectedEOF {
		return segHeader{}, errShortHeader
	} else if err != nil {
		return segHeader{}, err
	}
	return parseSegHeader(b)
}

// cutTail removes what follows a segment's last record. It need not succeed:
// later appends go over it, and sealing records where the segment ends.
func (d *Disk) cutTail(seg *segment, end int64) {
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return
	}
	defer d.handles.release(&seg.data)
	if err := f.Truncate(end); err != nil {
		d.cfg.Log.Warn("a torn tail could not be cut off", "file", d.fs.Path(seg.data.name), "error", err)
	}
}

func (d *Disk) fileSize(name string) (int64, error) {
	e, err := d.fs.Stat(name)
	if err != nil {
		return 0, diskError(object.NotDone, "opening "+d.fs.Path(name), err)
	}
	return e.SizeBytes, nil
}

// epochOf returns the epoch that begins a timed key: decimal digits without a
// leading zero, up to the first other byte.
func epochOf[K []byte | string](key K) (epoch int64, ok bool) {
	const maxEpoch = 1 << 53
	i := 0
	for ; i < len(key) && key[i] >= '0' && key[i] <= '9'; i++ {
		if epoch = epoch*10 + int64(key[i]-'0'); epoch > maxEpoch {
			return 0, false
		}
	}
	return epoch, i > 0 && i < len(key) && key[0] != '0'
}
