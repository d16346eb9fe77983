package bitcask

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// OpenDisk takes a data directory into use and, unless cfg.Manual is set, starts
// the goroutine that syncs it; Close ends both. An empty directory is made the configuration's; one that
// is another cluster's or node's, of another format or slot length, in use by
// another process, read-only, or not empty and not mayfly's, is refused with an
// *IdentityError and left as it is. nowMicros is the caller's clock,
// microseconds since the Unix epoch. No data is read: the time this takes does
// not depend on how much there is.
func OpenDisk(fsys vfs.FS, cfg Config, nowMicros int64) (*Disk, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := CheckForeign(fsys); err != nil {
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
		fs: fsys, cfg: cfg, identity: id, lock: lock, handles: newHandles(fsys, cfg.MaxHandles), hints: newHintCache(cfg.HintCacheBytes),
		stores: map[Partition]*Store{}, stop: make(chan struct{}),
	}
	d.opening.L = &d.mu
	d.stripes.init()
	d.gate = &d.stripes.first().gate
	d.space.init(d)
	if !cfg.Manual {
		d.loop.Go(d.syncLoop)
	}
	return d, nil
}

// CheckForeign refuses a directory that holds what mayfly did not put there,
// before anything is written to it: a node may have files of its own to keep
// before it opens the directory as a disk. The error is an [IdentityError].
func CheckForeign(fsys vfs.FS) error {
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
		if !slices.Contains([]string{lockName, reserveName, identityName + vfs.TempSuffix, nodeDir, "lost+found"}, e.Name) {
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
	if id.Disk = cfg.Disk; id.Disk == (ID{}) {
		binary.LittleEndian.PutUint64(id.Disk[:8], cfg.Random())
		binary.LittleEndian.PutUint64(id.Disk[8:], cfg.Random())
	}
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
