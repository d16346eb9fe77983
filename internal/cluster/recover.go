package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// Recover makes this node the only voter of a new era, for a cluster that has lost
// the majority of its voters for good. The node must not run. Its newest document
// becomes the first of the era; what the voters that are gone had agreed on and this
// node has not heard of is lost. All nodes that hear of the new era follow it, old
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
