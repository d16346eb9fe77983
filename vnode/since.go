package vnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/ring"
)

// A Since says what a vnode vouches for: that it lacks nothing that a node of
// its name ever acknowledged, doubts of the engine apart. A vnode that is made
// anew, on a node's first start, in a directory that was wiped, or on another
// disk than the one that was lost, cannot know what was acknowledged in its name
// before. It vouches for the slots from the first one on in which nothing can
// have been, and for the others when it has been merged with other replicas.
type Since struct {
	Slot  expiry.Slot // of timed buckets, from this one on; 0: for all
	Plain bool        // for plain buckets
	Born  int64       // when the vnode was made, Unix seconds; 0: that is not known
}

// never is a Since's slot that covers none.
const never = expiry.Slot(math.MaxInt64)

// whole is what a vnode vouches for that has seen everything.
var whole = Since{Plain: true}

// Covers reports whether the slot is vouched for; that of plain buckets is -1.
func (s Since) Covers(slot expiry.Slot) bool {
	if slot == plainSlot {
		return s.Plain
	}
	return slot >= s.Slot
}

// Whole reports whether everything is vouched for.
func (s Since) Whole() bool { return s.Slot == 0 && s.Plain }

// covers reports whether s vouches for all that t does.
func (s Since) covers(t Since) bool { return s.Slot <= t.Slot && (s.Plain || !t.Plain) }

// A Since is kept as the note in the vnode's manifest. Integers are
// little-endian. No note is a vnode that vouches for everything. This is
// format 1.
//
//	offset  size  field
//	0       4     magic "MVSN"
//	4       4     format, 1
//	8       8     the first slot vouched for, 0 for all, 2^63-1 for none
//	16      1     1 if plain buckets are vouched for, else 0
//	17      7     zero
//	24      8     when the vnode was made, Unix seconds; 0 if that is not known
const (
	sinceMagic  = "MVSN"
	sinceFormat = 1
	sinceSize   = 32 // bytes
)

func appendSince(dst []byte, s Since) []byte {
	dst = append(dst, sinceMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, sinceFormat)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Slot))
	plain := byte(0)
	if s.Plain {
		plain = 1
	}
	dst = append(dst, plain, 0, 0, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint64(dst, uint64(s.Born))
}

// errSince: a vnode's note cannot be read.
var errSince = errors.New("the note in the vnode's manifest cannot be read")

func parseSince(b []byte) (Since, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < 8 || string(b[:4]) != sinceMagic:
		return Since{}, fmt.Errorf("%w: it is none of mayfly's", errSince)
	case le.Uint32(b[4:]) != sinceFormat:
		return Since{}, fmt.Errorf("%w: it has format %d: use the version of mayfly that wrote it", errSince, le.Uint32(b[4:]))
	case len(b) != sinceSize:
		return Since{}, fmt.Errorf("%w: %d bytes; %d are right", errSince, len(b), sinceSize)
	}
	s := Since{expiry.Slot(le.Uint64(b[8:])), b[16] == 1, int64(le.Uint64(b[24:]))}
	if s.Slot < 0 || s.Born < 0 || b[16] > 1 || [7]byte(b[17:24]) != [7]byte{} {
		return Since{}, fmt.Errorf("%w: it is damaged", errSince)
	}
	return s, nil
}

// sinceSkewSeconds is how far the clock of who was here before may have been
// ahead of this one.
const sinceSkewSeconds = 10

// firstSafe returns the first slot in which nobody can have had anything
// acknowledged at now: whatever was admitted was not further ahead.
func (s *Set) firstSafe(now time.Time) expiry.Slot {
	ahead := max(s.mostAhead(), 0)
	return expiry.SlotOf(now.Unix()+ahead+sinceSkewSeconds, s.cfg.SlotSeconds) + 1
}

// Open opens the vnodes of partitions, which this node owns, before it serves
// anything of them. One that is new vouches, durably when Open returns, for the
// slots from now's on in which nothing can have been acknowledged; one that is
// opened by its first use instead vouches for nothing until it is merged. One that
// this node held in no slot when the Set was made ([Config.Self]) it never
// acknowledged anything for: that vouches for everything from its first day on.
// What others acknowledged before it came it lacks all the same; but that the
// history tells, which calls it a newcomer there, and nobody asks it about slots in
// which it is none and no owner. So Open comes before the history that gives the
// node a partition is visible. Where
// this node holds the only replicas both vouch for everything, but only what Open
// has said of it lasts when others come to hold some too.
//
// An error names the partitions that cannot be opened; the others are.
func (s *Set) Open(now time.Time, partitions ...ring.Partition) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	vnodes := maps.Clone(*s.vnodes.Load())
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		faults []error
	)
	fault := func(p ring.Partition, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			faults = append(faults, openError(p, err))
			delete(vnodes, p)
		}
	}
	atOnce := make(chan struct{}, openAtOnce)
	for _, p := range partitions {
		mu.Lock()
		known := vnodes[p] != nil
		mu.Unlock()
		if known {
			continue
		}
		v, err := s.makeVnode(p)
		if err != nil {
			fault(p, err)
			continue
		}
		mu.Lock()
		vnodes[p] = v
		mu.Unlock()
		atOnce <- struct{}{}
		wg.Go(func() {
			fault(p, v.begin(Since{Slot: s.firstSafe(now), Born: now.Unix()}, s.neverHeld(p)))
			<-atOnce
		})
	}
	wg.Wait()
	s.vnodes.Store(&vnodes)
	return errors.Join(faults...)
}

// openAtOnce is how many new manifests are written at once: each waits for the
// disk, which syncs several for the price of one.
const openAtOnce = 16

// neverHeld reports whether this node was neither owner nor source of a partition
// when the Set was made. Who lost its disks is another node.
func (s *Set) neverHeld(p ring.Partition) bool {
	return !s.cfg.Self.IsZero() && !s.begun.Holds(s.cfg.Self, p)
}

// plainOf reports whether no plain data of the partition can be in another one on
// this node: of a ring with other partitions.
func (s *Set) plainOf(p ring.Partition) bool {
	for _, r := range s.cfg.History().All() {
		if r.Bits() != p.Bits {
			return false
		}
	}
	return true
}

// begin finds out what the vnode vouches for. A new one says so durably, before
// it acknowledges anything: that it vouches as new says or, if it is the first
// that this node has of its partition, for everything.
func (v *Vnode) begin(new Since, first bool) error {
	since := whole
	switch note := v.store.Note(); {
	case len(note) > 0:
		s, err := parseSince(note)
		if err != nil {
			s = Since{Slot: never} // whatever it said, merging brings it back
		}
		since = s
	case !v.store.Known() && !v.set.cfg.Shared():
		if new.Slot == never {
			break
		}
		since.Born = new.Born
		if err := v.store.SetNote(appendSince(nil, since)); err != nil {
			return err
		}
	case !v.store.Known():
		since = new
		if first && len(v.store.Doubts()) == 0 {
			since = Since{Plain: v.set.plainOf(v.partition), Born: new.Born}
		}
		if err := v.store.SetNote(appendSince(nil, since)); err != nil {
			return err
		}
		// What was lost with a manifest is in the slots before.
		for _, d := range v.store.Doubts() {
			if d.All && d.Reason == bitcask.ReasonManifestLost && new.Slot != never {
				if err := v.store.ClearDoubt(d); err != nil {
					return err
				}
			}
		}
	}
	v.since.Store(&since)
	return nil
}

// Since returns what the vnode vouches for.
func (v *Vnode) Since() Since { return *v.since.Load() }

// Vouch has the vnode vouch for more, durably: the caller has merged what lies
// between with replicas that had everything. One goroutine calls it at a time.
func (v *Vnode) Vouch(s Since) error {
	if !s.covers(v.Since()) {
		panic(fmt.Sprintf("vnode: BUG: partition %v vouches for %+v and then for %+v", v.partition, v.Since(), s))
	}
	s.Born = v.Since().Born
	if s == v.Since() {
		return nil
	}
	if err := v.store.SetNote(appendSince(nil, s)); err != nil {
		return err
	}
	v.since.Store(&s)
	return nil
}
