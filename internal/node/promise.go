package node

import (
	"errors"
	"fmt"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// What a node has promised while a change of the ring is prepared is in a file on
// each of its disks, as ring.Promise encodes it: a disk that is lost must not take
// the promise with it.
const (
	promiseName     = nodeDir + "/promise"
	maxPromiseBytes = 1 << 10
)

var errNotYet = &object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone,
	Message: "who owns the second is being agreed upon: send it again a little later"}

// admit lets the epoch of a timed put pass, or not: the clock first, then what this
// node has promised. What a clock does not admit must not count as admitted.
func (n *Node) admit(epoch int64) error {
	ahead := n.document().Settings.AheadSeconds
	if now := n.cfg.Now().Unix(); epoch > now+ahead {
		return object.Errorf(object.CodeTooFarAhead, object.NotDone, "second %d is %d seconds ahead of this node's clock; at most %d are taken: set the clocks right", epoch, epoch-now, ahead)
	}
	if n.gate.Admit(epoch) == ring.NotYet {
		return errNotYet
	}
	return nil
}

// aheadSeconds is the agreed bound as the vnodes take it, who would take 0 for none.
func (n *Node) aheadSeconds() int64 {
	if ahead := n.document().Settings.AheadSeconds; ahead > 0 {
		return ahead
	}
	return -1
}

// vouches reports whether this node knows who owns an epoch. While it has promised,
// and does not know what came of it, others may acknowledge under the new ring what
// is not here.
func (n *Node) vouches(epoch int64) bool {
	return n.gate.Vouches(epoch)
}

// readPromise returns the latest promise that any of the disks has: that of the
// greatest round, as it was settled. One that is damaged is in the way if no other
// disk has one: what it said binds this node. A disk that was added since may have
// none.
func readPromise(disks []vfs.FS) (latest ring.Promise, err error) {
	var faults []error
	found := false
	for _, disk := range disks {
		b, err := vfs.ReadFile(disk, promiseName, maxPromiseBytes)
		if vfs.IsNotExist(err) {
			continue
		}
		var p ring.Promise
		if err == nil {
			p, err = ring.UnmarshalPromise(b)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", disk.Path(promiseName), err))
			continue
		}
		found = true
		if p.Round > latest.Round || p.Round == latest.Round && (p.Lifted || p.Fixed) {
			latest = p
		}
	}
	if len(faults) > 0 && !found {
		return latest, fmt.Errorf("%w: restore it from a copy, or empty the directory and let the replicas fill it", errors.Join(faults...))
	}
	return latest, nil
}

// spreadPromise writes a promise to the disks that do not have it: those that were
// added since it was given, or have a damaged one. It is on one of them already.
func (n *Node) spreadPromise(p ring.Promise) {
	for _, disk := range n.homes {
		b, err := vfs.ReadFile(disk, promiseName, maxPromiseBytes)
		if have, faulty := ring.UnmarshalPromise(b); err == nil && faulty == nil && have == p {
			continue
		}
		if err := writePromise([]vfs.FS{disk}, p); err != nil {
			n.cfg.Log.Error("a disk has not what this node has promised; others have", "error", err)
		}
	}
}

// writePromise makes a promise durable on all disks in use.
func writePromise(disks []vfs.FS, p ring.Promise) error {
	b, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("keep the promise: %w", err)
	}
	for _, disk := range disks {
		if err := disk.MkdirAll(nodeDir); err != nil {
			return fmt.Errorf("keep the promise on %s: %w", disk.Path("."), err)
		}
		if err := vfs.PublishBytes(disk, promiseName, b); err != nil {
			return fmt.Errorf("keep the promise on %s: %w", disk.Path("."), err)
		}
	}
	return nil
}

// highestStored returns an epoch that is not before any of a timed object stored
// here, ring.NoEpoch if there is none: the last second of the newest slot that a
// manifest lists. A change of the ring asks no more of it than its slot. Where a
// partition cannot be read it is the last second that could have been admitted by
// now.
func (n *Node) highestStored() int64 {
	newest := int64(ring.NoEpoch)
	err := n.eachTimedSlot(func(slots []expiry.Slot) {
		newest = max(newest, slots[len(slots)-1].Start(n.cfg.SlotSeconds)+n.cfg.SlotSeconds-1)
	})
	if err != nil {
		n.cfg.Log.Warn("the newest slot is not known for certain", "error", err)
		newest = max(newest, n.cfg.Now().Unix()+n.cfg.AheadSeconds)
	}
	return newest
}

// newestEpoch returns the greatest epoch the disks are known to hold data for, 0
// if there is none: what the clock is measured against.
func (n *Node) newestEpoch() int64 {
	newest := int64(0)
	err := n.eachTimedSlot(func(slots []expiry.Slot) {
		newest = max(newest, slots[len(slots)-1].Start(n.cfg.SlotSeconds))
	})
	if err != nil {
		n.cfg.Log.Warn("the newest slot is not known for certain", "error", err)
	}
	return newest
}

// eachTimedSlot calls f with the slots, ascending, of every timed bucket of every
// partition that has any.
func (n *Node) eachTimedSlot(f func(slots []expiry.Slot)) error {
	return n.eachStore(func(_ bitcask.Partition, store *bitcask.Store) error {
		buckets, err := store.Buckets()
		for _, b := range buckets {
			slots, slotsErr := store.Slots(b)
			err = errors.Join(err, slotsErr)
			if len(slots) > 0 && b.Timed {
				f(slots)
			}
		}
		return err
	})
}
