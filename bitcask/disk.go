package bitcask

import (
	"crypto/rand"
	"errors"
	"fmt"
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
	gate     *gate
	ops      sync.Pool // of *putOp; the Disk's own, as they hold channels
	space    space
	stats    counters

	mu      sync.Mutex
	stores  map[Partition]*Store
	opening sync.Cond // on mu: a Store has been opened, or not

	syncs syncList
	stop  chan struct{}
	loop  sync.WaitGroup
}

// OpenDisk takes a data directory into use and starts the goroutine that syncs
// it; Close ends both. An empty directory is made the configuration's; one that
// is another cluster's or node's, of another format or slot length, in use by
// another process, read-only, or not empty and not mayfly's, is refused with an
// *IdentityError and left as it is. nowMicros is the caller's clock, microseconds since
// the Unix epoch. No data is read: the time this takes does not depend on how
// much there is.
func OpenDisk(fsys vfs.FS, cfg Config, nowMicros int64) (*Disk, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := checkForeign(fsys); err != nil {
		return nil, err
	}
	lock, err := lockDir(fsys)
	if err != nil {
		return nil, err
	}
	id, err := adopt(fsys, cfg, nowMicros)
	if err == nil {
		err = makeVnodeDir(fsys)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d := &Disk{
		fs: fsys, cfg: cfg, identity: id, lock: lock, handles: newHandles(fsys, cfg.MaxHandles), gate: newGate(),
		stores: map[Partition]*Store{}, stop: make(chan struct{}),
	}
	d.opening.L = &d.mu
	d.space.init(d)
	d.loop.Go(d.syncLoop)
	return d, nil
}

// checkForeign refuses a directory that holds what mayfly did not put there,
// before anything is written to it.
func checkForeign(fsys vfs.FS) error {
	refuse := func(reason string, cause error) error {
		return &IdentityError{Path: fsys.Path("."), Reason: reason, Cause: cause}
	}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return refuse("the directory cannot be read: "+err.Error(), err)
	}
	if slices.ContainsFunc(entries, func(e vfs.Entry) bool { return e.Name == identityName }) {
		return nil
	}
	for _, e := range entries {
		if _, isBucket := parseBucketDir(e.Name); e.IsDir && (e.Name == vnodeDir || isBucket) {
			return refuse("the directory holds data of mayfly but not the file "+identityName+": restore that file from a copy, or use an empty directory and let the replicas fill it", nil)
		}
	}
	for _, e := range entries {
		if !slices.Contains([]string{lockName, reserveName, identityName + vfs.TempSuffix, "lost+found"}, e.Name) {
			return refuse(fmt.Sprintf("the directory is not empty (%q is in it) and not a data directory of mayfly: name an empty one", e.Name), nil)
		}
	}
	return nil
}

func lockDir(fsys vfs.FS) (io.Closer, error) {
	lock, err := fsys.Lock(lockName)
	if err != nil {
		return nil, lockFault(fsys, err)
	}
	return lock, nil
}

// lockFault explains why a directory could not be locked.
func lockFault(fsys vfs.FS, err error) error {
	reason := "the directory cannot be used: " + err.Error()
	switch {
	case errors.Is(err, vfs.ErrLocked):
		reason = "the directory is in use (" + err.Error() + "): stop that process first, or name another directory"
	case vfs.IsReadOnly(err):
		reason = "the directory is read-only, or not writable for this user: mount it for writing, or set its owner right"
	case vfs.IsNoSpace(err):
		reason = "the disk is full to the last byte: free some space and start again"
	}
	return &IdentityError{Path: fsys.Path("."), Reason: reason, Cause: err}
}

// adopt reads the identity of a locked directory, or gives one to an empty one.
func adopt(fsys vfs.FS, cfg Config, nowMicros int64) (Identity, error) {
	id, err := ReadIdentity(fsys)
	if err == nil {
		return id, checkOwner(fsys, id, cfg)
	}
	if !vfs.IsNotExist(err) {
		return Identity{}, err
	}
	id = Identity{Cluster: cfg.Cluster, Node: cfg.Node, SlotSeconds: cfg.SlotSeconds, CreatedMicros: nowMicros}
	rand.Read(id.Disk[:])
	if err := vfs.PublishBytes(fsys, identityName, appendIdentity(nil, id)); err != nil {
		return Identity{}, &IdentityError{Path: fsys.Path(identityName), Reason: "the file cannot be written: " + err.Error(), Cause: err}
	}
	return id, nil
}

func makeVnodeDir(fsys vfs.FS) error {
	if err := fsys.MkdirAll(vnodeDir); err != nil {
		return &IdentityError{Path: fsys.Path(vnodeDir), Reason: "the directory cannot be made: " + err.Error(), Cause: err}
	}
	return nil
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
			if strings.HasSuffix(e.Name, segSuffix) && e.SizeBytes > segHeaderMax {
				return true, nil
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
// appended, says so in the manifests, and gives the directory back. Nothing is sealed. After an error it
// is closed too, and what is on the disk is what a killed process leaves.
func (d *Disk) Close() error {
	if !d.gate.shut() {
		return nil
	}
	close(d.stop)
	d.loop.Wait()
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

// writev appends to a segment's file.
func (d *Disk) writev(seg *segment, bufs [][]byte, off int64) (int64, error) {
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return 0, err
	}
	n, err := f.WritevAt(bufs, off)
	d.handles.release(&seg.data)
	d.stats.appendedBytes.Add(n)
	return n, err
}

func (d *Disk) truncate(seg *segment, size int64) error {
	f, err := d.handles.acquire(&seg.data)
	if err != nil {
		return err
	}
	defer d.handles.release(&seg.data)
	return f.Truncate(size)
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
