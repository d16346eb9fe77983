package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// What a node has promised while a change of the ring is prepared is in a file on
// each of its disks: a disk that is lost must not take the promise with it.
// Integers are little-endian. This is format 1.
//
//	offset  size  field
//	0       8     magic "MAYFLYPR"
//	8       4     format, 1
//	12      1     flags: 1 lifted, 2 fixed
//	13      3     zero
//	16      8     round
//	24      8     boundary, a slot
//	32      4     CRC-32C of every byte before it
const (
	promiseName   = nodeDir + "/promise"
	promiseMagic  = "MAYFLYPR"
	promiseFormat = 1
	promiseSize   = 36 // bytes

	promiseLifted = 1 << 0
	promiseFixed  = 1 << 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendPromise(dst []byte, p ring.Promise) []byte {
	start := len(dst)
	flags := byte(0)
	if p.Lifted {
		flags |= promiseLifted
	}
	if p.Fixed {
		flags |= promiseFixed
	}
	dst = append(dst, promiseMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, promiseFormat)
	dst = append(dst, flags, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, p.Round)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Boundary))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

var errPromise = errors.New("the node's promise cannot be read")

func parsePromise(b []byte) (ring.Promise, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < 12 || string(b[:8]) != promiseMagic:
		return ring.Promise{}, fmt.Errorf("%w: it is none of mayfly's", errPromise)
	case le.Uint32(b[8:]) != promiseFormat:
		return ring.Promise{}, fmt.Errorf("%w: it has format %d: use the version of mayfly that wrote it", errPromise, le.Uint32(b[8:]))
	case len(b) != promiseSize || crc32.Checksum(b[:32], castagnoli) != le.Uint32(b[32:]):
		return ring.Promise{}, fmt.Errorf("%w: it is damaged", errPromise)
	}
	p := ring.Promise{Round: le.Uint64(b[16:]), Boundary: int64(le.Uint64(b[24:])), Lifted: b[12]&promiseLifted != 0, Fixed: b[12]&promiseFixed != 0}
	if b[12]&^(promiseLifted|promiseFixed) != 0 || [3]byte(b[13:16]) != [3]byte{} || p.Lifted && p.Fixed {
		return ring.Promise{}, fmt.Errorf("%w: it says what no promise says", errPromise)
	}
	return p, nil
}

// readPromise returns the latest promise that any of the disks has: that of the
// greatest round, as it was settled. One that is damaged is in the way: what it
// said binds this node.
func readPromise(disks []vfs.FS) (latest ring.Promise, err error) {
	var faults []error
	for _, disk := range disks {
		b, err := vfs.ReadFile(disk, promiseName, promiseSize+1)
		if vfs.IsNotExist(err) {
			continue
		}
		var p ring.Promise
		if err == nil {
			p, err = parsePromise(b)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", disk.Path(promiseName), err))
			continue
		}
		if p.Round > latest.Round || p.Round == latest.Round && (p.Lifted || p.Fixed) {
			latest = p
		}
	}
	if len(faults) > 0 && len(faults) == len(disks) {
		return latest, fmt.Errorf("%w: restore it from a copy, or empty the directory and let the replicas fill it", errors.Join(faults...))
	}
	return latest, nil
}

// writePromise makes a promise durable on all disks in use.
func writePromise(disks []vfs.FS, p ring.Promise) error {
	for _, disk := range disks {
		if err := vfs.PublishBytes(disk, promiseName, appendPromise(nil, p)); err != nil {
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
