package vnode

import (
	"context"
	"errors"
	"time"

	"github.com/mayflydb/mayfly/expiry"
)

// sealsARound bounds the slots sealed by one call of Maintain: at the end of a
// slot all partitions are due at once, and puts of the next one are under way.
const sealsARound = 8

// Recover is called once after a start, before or while requests are served. It
// opens the vnodes of which something is stored and adds, to the rows that lack
// them, the entries of blobs: of those in slots that are not sealed, and of
// those in slots where this node's part of the index may have lost records. It
// returns how many were added. An error says what could not be compared; sealing
// tries again.
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
// some of the slots that are due, blobs before rows, so that entries found
// missing still go into a row that is not yet sealed. Call it every second or
// so, from one goroutine, before the disks' own Maintain. It touches no clock;
// an error names what failed, which will be tried again.
func (s *Set) Maintain(ctx context.Context, now time.Time, idx Index) error {
	s.rows.tidy(func(key string) bool { return s.settled([]byte(key), now) })
	var faults []error
	left := sealsARound
	for _, rows := range []bool{false, true} {
		for _, v := range s.Vnodes() {
			for _, id := range v.due(rows, now) {
				if left == 0 || ctx.Err() != nil {
					return errors.Join(faults...)
				}
				left--
				added, err := v.seal(ctx, now, id, idx)
				s.counters.repairedEntries.Add(uint64(added))
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}
