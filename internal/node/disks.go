package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A node goes on without a disk that fails, and must not take the loss of one for
// emptiness: what lies on a disk that is not there is unknown, not absent. So
// each disk keeps a list of the ids of all the node's disks, and while one of
// these is missing, partitions that are on none of the others are refused. The
// node's own small files are copied to all disks at each start.
const (
	disksName     = nodeDir + "/disks" // ids in hexadecimal, one a line, ascending
	maxDisksBytes = 64 << 10
)

// A failedDisk is a configured data directory that is not in use.
type failedDisk struct {
	path string
	err  error
}

// A dataDir is a data directory that can be read.
type dataDir struct {
	path    string
	fs      vfs.FS
	disk    bitcask.ID // zero while it is nobody's
	cluster bitcask.ID // the same
	becomes bitcask.ID // of one that is nobody's: the id it gets; zero: any
}

// openDisks opens the data directories that can be opened; at least one must be,
// and must be this node's already if another one fails. It sets n.id, n.disks,
// n.paths, n.failed and n.missing, and returns the directory in which the node's
// own files are kept. A directory that is somebody else's, or does not go with the
// configuration, is no failure but a mistake: it is an error.
func (n *Node) openDisks(ctx context.Context) (home vfs.FS, err error) {
	var dirs []dataDir
	for _, path := range n.cfg.Data {
		dir, err := readDataDir(path)
		if isDiskFault(err) {
			n.fail(path, err)
		} else if err != nil {
			return nil, err
		} else {
			dirs = append(dirs, dir)
		}
	}
	if !slices.ContainsFunc(dirs, func(d dataDir) bool { return d.disk != bitcask.ID{} }) && len(n.failed) > 0 {
		return nil, n.failed[0].err // nothing vouches for the node without it
	}
	if n.id, err = whoAmI(filesystems(dirs), n.cfg); err != nil {
		return nil, err
	}
	known := knownDisks(dirs)
	n.missing = missingDisks(known, dirs)
	dirs = slices.DeleteFunc(dirs, func(dir dataDir) bool {
		lost := dir.disk == bitcask.ID{} && len(n.missing) > 0
		if lost {
			n.fail(dir.path, fmt.Errorf("the directory is empty, and disk %s of this node is missing: is it mounted? If the disk was replaced, remove %s from the other data directories", n.missing[0], disksName))
		}
		return lost
	})
	if a := n.cfg.agreement; a != nil {
		n.agreement, n.cluster = a, wire.ID(a.Document().Cluster)
	} else if len(dirs) > 0 {
		if err := n.introduce(ctx, dirs); err != nil {
			return nil, err
		}
	}
	var inUse []dataDir
	for _, dir := range dirs {
		d, err := n.openDisk(dir)
		if isDiskFault(err) && (len(n.disks) > 0 || dir.path != dirs[len(dirs)-1].path) {
			n.fail(dir.path, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		n.disks, n.paths = append(n.disks, d), append(n.paths, dir.path)
		dir.disk = d.Identity().Disk
		known[dir.disk] = true
		inUse = append(inUse, dir)
	}
	if len(inUse) == 0 {
		return nil, n.failed[0].err
	}
	for _, f := range n.failed {
		n.cfg.Log.Error("a disk cannot be used: what it holds is refused here, other disks are served; mend it and restart the node", "disk", f.path, "error", f.err)
	}
	for _, id := range n.missing {
		n.cfg.Log.Error("a disk of this node is missing: what it holds is refused here until it is back", "disk_id", id)
	}
	n.away = awayDisks(known, n.disks)
	home = inUse[0].fs
	if err := home.MkdirAll(nodeDir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", home.Path("."), err)
	}
	n.spread(home, inUse, known)
	return home, nil
}

// openDisk opens a directory as a disk whose partitions can be listed.
func (n *Node) openDisk(dir dataDir) (*bitcask.Disk, error) {
	cfg := n.engineConfig()
	cfg.Disk = dir.becomes
	d, err := bitcask.OpenDisk(dir.fs, cfg, n.cfg.Now().UnixMicro())
	if err != nil {
		return nil, err
	}
	if _, err := d.Partitions(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (n *Node) fail(path string, err error) {
	n.failed = append(n.failed, failedDisk{path, err})
}

func readDataDir(path string) (dataDir, error) {
	fsys, err := vfs.MakeDir(path)
	if err != nil {
		return dataDir{}, fmt.Errorf("data directory %s: %w", path, err)
	}
	id, err := bitcask.ReadIdentity(fsys)
	if err != nil && !vfs.IsNotExist(errors.Unwrap(err)) {
		return dataDir{}, err
	}
	return dataDir{path: path, fs: fsys, disk: id.Disk, cluster: id.Cluster}, nil
}

// isDiskFault reports whether an error is the disk's, and not a directory that is
// another's, in use, or does not go with the configuration.
func isDiskFault(err error) bool {
	if err == nil || errors.Is(err, vfs.ErrLocked) {
		return false
	}
	refused, ok := errors.AsType[*bitcask.IdentityError](err)
	return !ok || refused.Cause != nil
}

func filesystems(dirs []dataDir) (all []vfs.FS) {
	for _, d := range dirs {
		all = append(all, d.fs)
	}
	return all
}

// knownDisks returns the ids of the node's disks as the directories remember them.
func knownDisks(dirs []dataDir) map[bitcask.ID]bool {
	known := make(map[bitcask.ID]bool)
	for _, d := range dirs {
		b, err := vfs.ReadFile(d.fs, disksName, maxDisksBytes)
		if err != nil {
			continue // another one has it, or nobody does yet
		}
		for line := range strings.Lines(string(b)) {
			id, err := hex.DecodeString(strings.TrimSuffix(line, "\n"))
			if err == nil && len(id) == len(bitcask.ID{}) {
				known[bitcask.ID(id)] = true
			}
		}
	}
	return known
}

// awayDisks returns those of the known disks that are not in use: they failed, or are
// missing, and may come back.
func awayDisks(known map[bitcask.ID]bool, inUse []*bitcask.Disk) (away []bitcask.ID) {
	for id := range known {
		if !slices.ContainsFunc(inUse, func(d *bitcask.Disk) bool { return d.Identity().Disk == id }) {
			away = append(away, id)
		}
	}
	return away
}

// missingDisks returns those of the known disks that none of the directories is.
func missingDisks(known map[bitcask.ID]bool, dirs []dataDir) (missing []string) {
	for id := range known {
		if !slices.ContainsFunc(dirs, func(d dataDir) bool { return d.disk == id }) {
			missing = append(missing, id.String())
		}
	}
	slices.Sort(missing)
	return missing
}

// spread writes the list of disks to all of them.
func (n *Node) spread(home vfs.FS, dirs []dataDir, known map[bitcask.ID]bool) {
	var lines strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(known), func(a, b bitcask.ID) int { return strings.Compare(a.String(), b.String()) }) {
		lines.WriteString(id.String() + "\n")
	}
	n.homes = append(n.homes, home)
	for _, d := range dirs {
		n.keepCopy(d.fs, disksName, []byte(lines.String()))
		if d.fs != home {
			n.mirrors, n.homes = append(n.mirrors, d.fs), append(n.homes, d.fs)
		}
	}
}

// mirror copies the list of data centres from home to the other disks.
func (n *Node) mirror(home vfs.FS) {
	b, err := vfs.ReadFile(home, dcsName, maxDCsBytes)
	if err != nil {
		return // it is not there yet, or its reader has told
	}
	for _, to := range n.mirrors {
		n.keepCopy(to, dcsName, b)
	}
}

// keepCopy writes a file unless it is there as it is to be.
func (n *Node) keepCopy(to vfs.FS, name string, data []byte) {
	have, err := vfs.ReadFile(to, name, int64(len(data)))
	if err == nil && string(have) == string(data) {
		return
	}
	if err = to.MkdirAll(nodeDir); err == nil {
		err = vfs.PublishBytes(to, name, data)
	}
	if err != nil {
		n.cfg.Log.Warn("a copy of one of the node's own files could not be written", "file", to.Path(name), "error", err)
	}
}

// lostDisks names the disks that are not in use.
func (n *Node) lostDisks() (lost []string) {
	for _, f := range n.failed {
		lost = append(lost, f.path)
	}
	return append(lost, n.missing...)
}
