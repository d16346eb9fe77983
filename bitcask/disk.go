package bitcask

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Disk is one data directory in use by this process. Its methods may be
// called by any goroutine, except Maintain.
type Disk struct {
	fs       vfs.FS
	cfg      Config
	identity Identity
	lock     io.Closer
	handles  *handles
	hints    *hintCache
	gate     *gate // the first stripe's, for calls that come now and then
	stripes  stripes
	ops      sync.Pool // of *putOp; the Disk's own, as they hold channels
	space    space
	stats    counters
	merger   merger // Maintain's

	mu      sync.Mutex
	stores  map[Partition]*Store
	opening sync.Cond // on mu: a Store has been opened, or not

	syncs syncList
	stop  chan struct{}
	loop  sync.WaitGroup
}

// Identity returns whose the directory is.
func (d *Disk) Identity() Identity { return d.identity }

// Partitions returns the partitions with a manifest or data on the disk,
// ascending by name.
func (d *Disk) Partitions() ([]Partition, error) {
	if !d.gate.enter() {
		return nil, ErrStopping
	}
	defer d.gate.leave()
	return partitionsOn(d.fs)
}

func partitionsOn(fsys vfs.FS) ([]Partition, error) {
	dirs := []string{vnodeDir}
	buckets, err := bucketsOn(fsys)
	if err != nil {
		return nil, err
	}
	for _, id := range buckets {
		dirs = append(dirs, bucketDir(id))
	}
	found := map[Partition]bool{}
	for _, dir := range dirs {
		entries, err := fsys.ReadDir(dir)
		if err != nil && !vfs.IsNotExist(err) {
			return nil, diskError(object.NotDone, "reading directory "+fsys.Path(dir), err)
		}
		for _, e := range entries {
			if p, ok := parsePartition(strings.TrimSuffix(e.Name, ".damaged")); ok && (e.IsDir != (dir == vnodeDir)) {
				found[p] = true
			}
		}
	}
	var all []Partition
	for p := range found {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Partition) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// bucketsOn returns the ids of the buckets with a directory.
func bucketsOn(fsys vfs.FS) ([]uint64, error) {
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return nil, diskError(object.NotDone, "reading directory "+fsys.Path("."), err)
	}
	var ids []uint64
	for _, e := range entries {
		if id, ok := parseBucketDir(e.Name); ok && e.IsDir {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// bucketsOf returns the buckets that have a directory for the partition.
func (d *Disk) bucketsOf(p Partition) ([]uint64, error) {
	all, err := bucketsOn(d.fs)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, id := range all {
		_, err := d.fs.Stat(laneDir(id, p))
		switch {
		case err == nil:
			ids = append(ids, id)
		case !vfs.IsNotExist(err):
			return nil, diskError(object.NotDone, "looking for "+d.fs.Path(laneDir(id, p)), err)
		}
	}
	return ids, nil
}

// hasData reports whether the partition has segments.
func (d *Disk) hasData(p Partition) (bool, error) {
	buckets, err := d.bucketsOf(p)
	if err != nil {
		return false, err
	}
	for _, id := range buckets {
		entries, err := d.fs.ReadDir(laneDir(id, p))
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			// A segment that is just a header, or less, never took a record: the
			// manifest comes before the first.
			if !strings.HasSuffix(e.Name, segSuffix) {
				continue
			}
			if size, err := d.fileSize(laneDir(id, p) + "/" + e.Name); err != nil || size > segHeaderMax {
				return err == nil, err
			}
		}
	}
	return false, nil
}

// Store returns the partition's store, opening it if it is not open: that
// reads its manifest and nothing else. The same partition gives the same Store.
func (d *Disk) Store(p Partition) (*Store, error) {
	if !p.valid() {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "partition %d-%x is not possible", p.Bits, p.Prefix)
	}
	if !d.gate.enter() {
		return nil, ErrStopping
	}
	defer d.gate.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		s, ok := d.stores[p]
		if s != nil {
			return s, nil
		}
		if !ok {
			break
		}
		d.opening.Wait() // somebody is opening it
	}
	d.stores[p] = nil
	d.mu.Unlock()
	s, err := openStore(d, p)
	d.mu.Lock()
	d.opening.Broadcast()
	if err != nil {
		delete(d.stores, p)
		return nil, err
	}
	d.stores[p] = s
	return s, nil
}

// openStores returns the stores that are open now, in order.
func (d *Disk) openStores() []*Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*Store
	for _, s := range d.stores {
		if s != nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *Store) int { return strings.Compare(a.partition.String(), b.partition.String()) })
	return all
}

// Close waits for the calls at work, refuses further ones, syncs what was
// appended, says so in the manifests, and gives the directory back. Nothing is
// sealed. After an error it is closed too, and what is on the disk is what a
// killed process leaves.
func (d *Disk) Close() error {
	if !d.stripes.shut() {
		return nil
	}
	close(d.stop)
	d.loop.Wait()
	d.closeMerge()
	var faults []error
	for _, s := range d.openStores() {
		faults = append(faults, s.settle())
	}
	d.handles.closeIdle()
	return errors.Join(append(faults, d.lock.Close())...)
}

// settle syncs everything a store has appended and notes that it is clean.
func (s *Store) settle() error {
	var faults []error
	for _, l := range s.lanesWhere(anyLane) {
		faults = append(faults, l.clean())
	}
	faults = append(faults, s.publish("closing"))
	return errors.Join(faults...)
}

// createSegment makes the file of a segment with its header, durably.
func (d *Disk) createSegment(seg *segment, dir string, h *segHeader) error {
	if err := d.fs.MkdirAll(dir); err != nil {
		return err
	}
	f, err := d.fs.Create(seg.data.name)
	if err != nil {
		return err
	}
	_, err = f.WritevAt([][]byte{appendSegHeader(nil, h)}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.fs.SyncDir(dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), d.fs.Remove(seg.data.name))
	}
	if _, err := d.handles.adopt(&seg.data, f); err != nil {
		return err
	}
	d.handles.release(&seg.data)
	d.stats.segmentsMade.Add(1)
	return nil
}

// writev appends to a segment's file. The caller counts in t.
func (d *Disk) writev(t *stripe, seg *segment, bufs [][]byte, off int64) (int64, error) {
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return 0, err
	}
	n, err := f.WritevAt(bufs, off)
	d.handles.release(&seg.data)
	t.appends.Add(1)
	t.appendedBytes.Add(n)
	return n, err
}

// truncate cuts a segment's file, which gives back the blocks behind its new end. The
// caller has the role, or nothing is appended to the segment any more.
func (d *Disk) truncate(seg *segment, size int64) error {
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return err
	}
	defer d.handles.release(&seg.data)
	if err := f.Truncate(size); err != nil {
		return err
	}
	seg.allocated = min(seg.allocated, size)
	return nil
}

// syncFile makes a file's bytes durable.
func (d *Disk) syncFile(h *handle) error {
	f, err := d.handles.acquire(h)
	if err != nil {
		return err
	}
	defer d.handles.release(h)
	d.stats.syncs.Add(1)
	return f.Sync()
}
