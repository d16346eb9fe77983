package vnode

import (
	"context"
	"errors"
	"time"

	"github.com/mayflydb/mayfly/expiry"
)

// Recover is called once after a start, before or while requests are served. It
// opens the vnodes of which something is stored and adds, to the rows that lack
// them, the entries of blobs: of those in slots that are not sealed or are
// among the newest, and of those in slots where this node's part of the index
// may have lost records. It returns how many were added. An error says what
// could not be compared; sealing tries again.
func (s *Set) Recover(ctx context.Context, now time.Time, idx Index) (added int, err error) {
	partitions, err := s.disks.Partitions()
	if err != nil {
		return 0, err
	}
	var vnodes []*Vnode
	var faults []error
	for _, p := range partitions {
		v, err := s.Vnode(p)
		if err == nil {
			err = v.noteOpen()
			vnodes = append(vnodes, v)
		}
		faults = append(faults, err)
	}
	doubted := s.doubtedRows(vnodes)
	for _, v := range vnodes {
		n, err := v.recover(ctx, now, idx, doubted)
		added += n
		faults = append(faults, err)
	}
	s.counters.repairedEntries.Add(uint64(added))
	return added, errors.Join(faults...)
}

// doubtedRows tells in which slots the index of some of the vnodes may have lost
// records.
func (s *Set) doubtedRows(vnodes []*Vnode) func(expiry.Slot) bool {
	rows, all := s.rulebook.rows().engine.ID, false
	slots := make(map[expiry.Slot]bool)
	for _, v := range vnodes {
		all = all || !v.Since().Whole()
		for _, d := range v.store.Doubts() {
			all = all || d.All
			if d.Bucket == rows {
				slots[d.Slot] = true
			}
		}
	}
	return func(slot expiry.Slot) bool { return all || slots[slot] }
}

// Maintain does one round of upkeep: it packs rows that have settled, and seals
// the slots of the index and of what it indexes that are due, blobs before rows,
// so that entries found missing still go into a row that is not yet sealed. It
// takes as long as that takes, at the end of a slot, when all partitions are due
// at once, seconds; puts go on meanwhile.
//
// Call it every second or so, from one goroutine, after Recover, and each time
// before the disks' own Maintain with the same now: the engine seals what the
// vnodes leave, by the same rule if bitcask.Config.SealAfterSeconds is not less
// than ours. It reads no clock. An error names what failed, which will be tried again;
// when ctx ends, what is left is left for the next round.
func (s *Set) Maintain(ctx context.Context, now time.Time, idx Index) error {
	s.rows.tidy(func(key string) bool { return s.settled([]byte(key), now) })
	var faults []error
	for _, rows := range []bool{false, true} {
		for _, v := range s.Vnodes() {
			for _, id := range v.due(rows, now) {
				if ctx.Err() != nil {
					return errors.Join(faults...)
				}
				added, err := v.seal(ctx, now, id, idx)
				s.counters.repairedEntries.Add(uint64(added))
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}
