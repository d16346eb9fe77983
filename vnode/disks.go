package vnode

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// TTLs returns what bitcask.Config.TTL asks for: the TTL of a bucket, by id, in
// the present set. Those of undeclared buckets are 0: they keep things for ever.
func TTLs(present func() *bucket.Set) func(bucketID uint64) (seconds int64) {
	book := &rulebook{present: present}
	return func(id uint64) int64 {
		if r := book.current().byID[id]; r != nil {
			return r.TTLSeconds
		}
		return 0
	}
}

// OnDisks returns a node's disks as the Set sees them. A partition stays on the
// disk that has it; a new one goes to the disk with the fewest. They are the
// caller's to maintain and to close, the latter after the last use of the Set.
// At least one disk is needed.
func OnDisks(disks ...*bitcask.Disk) (Disks, error) { return OnSomeDisks(nil, disks...) }

// OnSomeDisks is [OnDisks] while others of the node's disks, which lost names, are
// not in use. A partition that none of the disks has may be on these: it is
// refused with CodeDisk, and not made anew as if there were nothing of it.
func OnSomeDisks(lost []string, disks ...*bitcask.Disk) (Disks, error) {
	if len(disks) == 0 {
		panic("vnode: BUG: a node without a disk")
	}
	d := &onDisks{disks: disks, lost: lost, where: make(map[ring.Partition]int), count: make([]int, len(disks))}
	for i, disk := range disks {
		partitions, err := disk.Partitions()
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			d.found(ring.Partition(p), i)
		}
	}
	return d, nil
}

// found notes that a disk has a partition. If two have it, one was away while the
// partition was made anew on the other: the one that was made later counts. The
// other one would vouch for what it has missed; it is left alone and serves
// nothing. One that cannot tell when it was made counts: it may be the later one, and
// vouches for nothing either way. Of two such the first one listed does.
func (d *onDisks) found(p ring.Partition, disk int) {
	before, known := d.where[p]
	switch {
	case !known:
		d.place(p, disk)
	case born(d.disks[disk], p) > born(d.disks[before], p):
		d.where[p] = disk
		d.count[before]--
		d.count[disk]++
	}
}

// born returns when a disk's vnode was made, 0 if it does not say so, and the greatest
// number if it cannot.
func born(disk *bitcask.Disk, p ring.Partition) int64 {
	store, err := disk.Store(bitcask.Partition(p))
	if err != nil {
		return math.MaxInt64
	}
	note := store.Note()
	since, fault := parseSince(note)
	switch {
	case fault == nil:
		return since.Born
	case len(note) == 0 && store.Known():
		return 0 // it was alone
	}
	return math.MaxInt64
}

type onDisks struct {
	disks []*bitcask.Disk
	lost  []string // disks that are not in use

	mu    sync.Mutex
	where map[ring.Partition]int // index of the partition's disk
	count []int                  // partitions on each disk
}

// place puts a partition on a disk, unless it is on one.
func (d *onDisks) place(p ring.Partition, disk int) {
	if _, known := d.where[p]; !known {
		d.where[p] = disk
		d.count[disk]++
	}
}

func (d *onDisks) Store(p ring.Partition) (Storage, error) {
	disk := d.diskOf(p)
	if disk == nil {
		return nil, object.Errorf(object.CodeDisk, object.NotDone,
			"it is on a disk that is not in use (%s), or was never made: other replicas have it; mend the disk and restart the node", strings.Join(d.lost, ", "))
	}
	return disk.Store(bitcask.Partition(p))
}

// diskOf returns the partition's disk, chosen now if it is new; nil if that cannot
// be told.
func (d *onDisks) diskOf(p ring.Partition) *bitcask.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.where[p]; !known {
		if len(d.lost) > 0 {
			return nil
		}
		fewest := 0
		for i, n := range d.count {
			if n < d.count[fewest] {
				fewest = i
			}
		}
		d.place(p, fewest)
	}
	return d.disks[d.where[p]]
}

func (d *onDisks) Partitions() ([]ring.Partition, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.where), ring.Partition.Compare), nil
}
