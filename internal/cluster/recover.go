package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Recover makes this node the only voter of a new era, for a cluster that has lost
// the majority of its voters for good. The node must not run. Its newest document, with
// what its log has after that, becomes the first of the era; what the voters that are
// gone had agreed on and this node has not heard of is lost. All nodes that hear of the new era follow it, old
// voters included: their logs count no more.
//
// Config needs Name, Cluster, Node, and Disks with their ids. To be called on one
// node only: the nodes of two that began the same era refuse each other, until one
// of them is recovered once more.
func Recover(cfg Config) (*agreed.Document, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dirs, disks, err := openDirs(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Disks = disks
	doc, err := recoverIn(cfg, dirs)
	return doc, errors.Join(err, closeDirs(dirs))
}

func recoverIn(cfg Config, dirs []*vfs.Dir) (*agreed.Document, error) {
	release, err := lockDirs(dirs)
	if err != nil {
		return nil, err
	}
	defer release()
	last, faults := readDocument(dirs)
	if last.doc == nil {
		return nil, errors.Join(errors.New("this node has no agreed document to recover with: choose another one"), errors.Join(faults...))
	}
	m, known := last.doc.Member(cfg.Node)
	switch {
	case last.doc.Name != cfg.Cluster:
		return nil, fmt.Errorf("this node belongs to cluster %q, the configuration says %q: check which data directory is named", last.doc.Name, cfg.Cluster)
	case !known || !m.State.Live():
		return nil, fmt.Errorf("node %v is no member of cluster %q any more: choose another one", cfg.Node, last.doc.Name)
	}
	last = withLog(cfg, dirs, last)
	next := held{last.doc.Recovered(), cfg.Node}
	if err := makeLog(cfg, dirs, next); err != nil {
		return nil, err
	}
	b, err := appendEnvelope(nil, next)
	if err != nil {
		return nil, err
	}
	// From here on the node follows the new era; before, nothing has changed: a log
	// without its document is set aside at the next start.
	if _, err := publish(dirs, agreedName, b); err != nil {
		return nil, err
	}
	return next.doc, setAsideOthers(dirs, next.version().Era, cfg.Log)
}

// withLog returns what a node's own log makes of its document: it has what was agreed
// in the last moments, and maybe what was only proposed, whose outcome nobody knows. A
// log that does not lead to the document, or not on from it, is not looked at: the
// document was agreed.
func withLog(cfg Config, dirs []*vfs.Dir, last held) held {
	era := last.version().Era
	for i, d := range dirs {
		if _, err := d.Stat(raftName(era)); err != nil {
			continue
		}
		dir := d.Path(raftName(era))
		why, err := checkLog(dir, cfg.Disks[i])
		if err == nil && why == "" {
			var h held
			if h, err = replay(dir, cfg.Disks[i], last); err == nil {
				return h
			}
		}
		cfg.Log.Warn("a log is of no use for the recovery: the document counts as it is", "log", dir, "reason", cmp.Or(why, fmt.Sprint(err)))
	}
	return last
}

// replay applies the entries of a log from its newest snapshot on. The error says that
// it does not lead from one document to another by way of last, or not past that.
func replay(dir string, disk Disk, last held) (at held, err error) {
	s, err := openLogStore(filepath.Join(dir, logName), logID{}, disk.ID)
	if err != nil {
		return at, err
	}
	defer s.Close()
	snaps, err := raft.NewFileSnapshotStore(dir, snapshotsKept, io.Discard)
	if err != nil {
		return at, err
	}
	meta, err := newestSnapshot(snaps)
	if err != nil {
		return at, err
	}
	if meta.Index > 0 {
		if at, err = openSnapshot(snaps, meta.ID); err != nil {
			return at, err
		}
	}
	end, err := s.LastIndex()
	if err != nil {
		return at, err
	}
	met := last.version().Before(at.version()) // a snapshot has only what was agreed
	for index := meta.Index; ; index++ {
		if at.version() == last.version() && !met {
			if met = equalHeld(at, last); !met {
				return at, fmt.Errorf("it has another document of version %v", at.version())
			}
		}
		if index >= end {
			break
		}
		var l raft.Log
		if err := s.GetLog(index+1, &l); err != nil {
			return at, err
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if at, _, err = applyEntry(at, l.Data); err != nil {
			return at, fmt.Errorf("entry %d: %w", l.Index, err)
		}
	}
	if !met || at.origin != last.origin || at.doc.Cluster != last.doc.Cluster {
		return at, fmt.Errorf("it ends with version %v", at.version())
	}
	return at, nil
}

// equalHeld reports whether two documents are the same, byte for byte.
func equalHeld(a, b held) bool {
	x, err1 := appendEnvelope(nil, a)
	y, err2 := appendEnvelope(nil, b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// makeLog makes the log of a new era, with this node as its only voter.
func makeLog(cfg Config, dirs []*vfs.Dir, h held) error {
	era := h.version().Era
	for _, d := range dirs {
		if _, err := d.Stat(raftName(era)); err == nil { // of a recovery that was interrupted
			if _, err := setAside(d, era); err != nil {
				return err
			}
		}
	}
	place := logPlace{dir: dirs[0], disk: cfg.Disks[0]}
	store, err := place.openStore(era)
	if err != nil {
		return err
	}
	lines := newLineLog(cfg.Log, "raft", cfg.Now)
	snaps, err := raft.NewFileSnapshotStore(place.dir.Path(raftName(era)), snapshotsKept, lines)
	if err == nil {
		_, nowhere := raft.NewInmemTransport("")
		err = raft.BootstrapCluster(raftConfig(cfg, store.id, lines), store, store, snaps, nowhere, alone(cfg.Node, store.id))
	}
	if err != nil {
		err = fmt.Errorf("the log of era %d cannot be made in %s: %w", era, place.dir.Path(raftName(era)), err)
	}
	return errors.Join(err, store.Close())
}

// Known returns the newest agreed document in the data directories of a node, which
// are only read: to look before [Recover] is called.
func Known(dirs ...*vfs.Dir) (*agreed.Document, error) {
	last, faults := readDocument(dirs)
	if last.doc == nil {
		return nil, errors.Join(append(faults, errors.New("there is no agreed document in the data directories: choose those of a member"))...)
	}
	return last.doc, nil
}
