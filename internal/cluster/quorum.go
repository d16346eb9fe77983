package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A quorum is this node's part in the Raft of one era. What it keeps lies in
// node/raft-ERA on one of the data directories: the log, and snapshots.
type quorum struct {
	era     uint32
	origin  ring.NodeID
	log     logID
	store   *logStore
	streams *raftStreams
	raft    *raft.Raft
	machine *machine
	dir     string // where it lies, for messages
}

const (
	logName = "log.db"
	asides  = 64 // logs that were set aside, of one era and directory

	// A snapshot is the document: it is cheap, and what follows it is replayed at
	// each start.
	snapshotThreshold = 256
	snapshotInterval  = 30 * time.Second
	trailingEntries   = 128
	snapshotsKept     = 2
)

func raftName(era uint32) string { return fmt.Sprintf("%s/raft-%d", nodeDir, era) }

// A logPlace is where the log of an era lies, or is to be made.
type logPlace struct {
	dir  *vfs.Dir
	disk Disk
	made bool // there is one already
}

// findLog returns where the log of an era lies, the first directory if there is
// none. A log that another disk's id is in was copied there, and one that is
// damaged can vote no more: both are set aside, and what is made in their place is
// another server.
func findLog(cfg Config, dirs []*vfs.Dir, era uint32) (logPlace, error) {
	place := logPlace{dirs[0], cfg.Disks[0], false}
	for i, d := range dirs {
		if _, err := d.Stat(raftName(era)); vfs.IsNotExist(err) {
			continue
		} else if err != nil {
			return logPlace{}, fmt.Errorf("the agreed state in %s: %w", d.Path(raftName(era)), err)
		}
		why := "there is another one already"
		if !place.made {
			var err error
			if why, err = checkLog(d.Path(raftName(era)), cfg.Disks[i]); err != nil {
				return logPlace{}, err
			}
		}
		if why == "" {
			place = logPlace{d, cfg.Disks[i], true}
			continue
		}
		to, err := setAside(d, era)
		if err != nil {
			return logPlace{}, err
		}
		cfg.Log.Error("a log of the agreed state is set aside: this node votes no more until the others have made it a voter again", "log", to, "reason", why)
	}
	return place, nil
}

// setAside keeps a log under another name.
func setAside(d *vfs.Dir, era uint32) (string, error) {
	for i := range asides {
		to := fmt.Sprintf("%s.old-%d", raftName(era), i+1)
		if _, err := d.Stat(to); err == nil {
			continue
		}
		err := d.Rename(raftName(era), to)
		if err == nil {
			err = d.SyncDir(nodeDir)
		}
		if err != nil {
			return "", fmt.Errorf("the log of the agreed state, %s, cannot be renamed: %w", d.Path(raftName(era)), err)
		}
		return d.Path(to), nil
	}
	return "", fmt.Errorf("the log of the agreed state was set aside %d times in %s: remove the old ones", asides, d.Path(nodeDir))
}

// setAsideOthers sets the logs of all other eras aside.
func setAsideOthers(dirs []*vfs.Dir, era uint32, log *slog.Logger) error {
	for _, d := range dirs {
		entries, err := d.ReadDir(nodeDir)
		if err != nil {
			return fmt.Errorf("the directory %s: %w", d.Path(nodeDir), err)
		}
		for _, e := range entries {
			var n uint32
			if _, err := fmt.Sscanf(e.Name, "raft-%d", &n); err != nil || !e.IsDir || e.Name != fmt.Sprintf("raft-%d", n) || n == era {
				continue
			}
			to, err := setAside(d, n)
			if err != nil {
				return err
			}
			log.Warn("the log of another era is set aside: it counts no more", "log", to, "era", n, "now", era)
		}
	}
	return nil
}

// openStore opens the log of a place, or makes it.
func (p logPlace) openStore(era uint32) (*logStore, error) {
	if err := p.dir.MkdirAll(raftName(era)); err != nil {
		return nil, fmt.Errorf("the directory of the agreed state: %w", err)
	}
	var id logID
	rand.Read(id[:])
	s, err := openLogStore(filepath.Join(p.dir.Path(raftName(era)), logName), id, p.disk.ID)
	if err != nil {
		return nil, err
	}
	if err := p.dir.SyncDir(raftName(era)); err != nil {
		return nil, errors.Join(fmt.Errorf("the directory of the agreed state: %w", err), s.Close())
	}
	return s, nil
}

// A quorumConfig is what a quorum is opened with.
type quorumConfig struct {
	Config
	dirs    []*vfs.Dir
	began   held // what the era begins with here
	found   bool // make this node the only voter, if the log is new
	lookup  lookup
	publish func(held)
	stats   *streamCounters
}

// openQuorum starts Raft. The log is made if there is none: without found it waits
// until others make it a server of theirs.
func openQuorum(cfg quorumConfig) (*quorum, error) {
	era := cfg.began.version().Era
	if err := setAsideOthers(cfg.dirs, era, cfg.Log); err != nil {
		return nil, err
	}
	place, err := findLog(cfg.Config, cfg.dirs, era)
	if err != nil {
		return nil, err
	}
	store, err := place.openStore(era)
	if err != nil {
		return nil, err
	}
	q := &quorum{
		era: era, origin: cfg.began.origin, log: store.id, store: store, dir: place.dir.Path(raftName(era)),
		machine: &machine{publish: cfg.publish},
	}
	if err := q.start(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("the agreed state in %s: %w", q.dir, err), store.Close())
	}
	return q, nil
}

func (q *quorum) start(cfg quorumConfig) error {
	lines := newLineLog(cfg.Log, "raft", cfg.Now)
	snaps, err := raft.NewFileSnapshotStore(q.dir, snapshotsKept, lines)
	if err != nil {
		return fmt.Errorf("snapshots cannot be kept: %w", err)
	}
	me := func() identity {
		return identity{Cluster: cfg.began.doc.Cluster, Era: q.era, Origin: q.origin, Node: cfg.Node, Log: q.log}
	}
	q.streams = newRaftStreams(me, cfg.lookup, cfg.stats)
	trans := newGuardedTransport(onePerTime{raft.NewNetworkTransport(q.streams, 3, cfg.Timing.Ask, lines)}, func() (uint64, error) { return q.store.number(currentTerm) },
		func() { cfg.stats.garbled.Add(1) })
	if err := q.run(cfg, trans, snaps, lines); err != nil {
		return errors.Join(err, trans.Close())
	}
	return nil
}

// A onePerTime has one question under way to each server. Raft can have more, and
// then its sender waits for ever when a follower refuses one while the next is on its
// way (1.8.0); the document changes too seldom for that to be worth anything.
type onePerTime struct{ *raft.NetworkTransport }

// AppendEntriesPipeline implements [raft.Transport].
func (onePerTime) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (q *quorum) run(cfg quorumConfig, trans raft.Transport, snaps raft.SnapshotStore, lines *lineLog) error {
	rc := raftConfig(cfg.Config, q.log, lines)
	has, err := raft.HasExistingState(q.store, q.store, snaps)
	if err != nil {
		return err
	}
	if !has && cfg.found {
		if err := raft.BootstrapCluster(rc, q.store, q.store, snaps, trans, alone(cfg.Node, q.log)); err != nil {
			return err
		}
	}
	q.raft, err = raft.NewRaft(rc, q.machine, q.store, q.store, snaps, trans)
	return err
}

// alone is the configuration of which one server is all.
func alone(node ring.NodeID, log logID) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: serverID(log), Address: serverAddress(node, log)}}}
}

func raftConfig(cfg Config, log logID, lines *lineLog) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = serverID(log)
	rc.HeartbeatTimeout, rc.ElectionTimeout = cfg.Timing.Election, cfg.Timing.Election
	rc.LeaderLeaseTimeout = cfg.Timing.Election / 2
	rc.CommitTimeout = cfg.Timing.Commit
	rc.SnapshotThreshold, rc.SnapshotInterval, rc.TrailingLogs = snapshotThreshold, snapshotInterval, trailingEntries
	if n := cfg.snapshotEvery; n > 0 {
		rc.SnapshotThreshold, rc.SnapshotInterval, rc.TrailingLogs = n, cfg.Timing.Upkeep, 1
	}
	rc.MaxAppendEntries = maxAppend
	rc.ShutdownOnRemove = false // it is a server again when the leader has seen that it is here
	rc.NoLegacyTelemetry = true
	rc.LogOutput, rc.LogLevel = lines, "INFO"
	return rc
}

// close ends Raft and closes the log. It waits for what is under way, which ends at
// once, for its connections do.
func (q *quorum) close() error {
	q.store.abandon()
	done := q.raft.Shutdown()
	q.streams.cut() // what waits for others ends; Raft closes the rest
	err := done.Error()
	q.streams.in.wait(time.Second)
	q.streams.out.wait(time.Second)
	return errors.Join(err, q.store.Close())
}

// leader returns the leader's node, zero if there is none that is known.
func (q *quorum) leader() ring.NodeID {
	address, _ := q.raft.LeaderWithID()
	if address == "" {
		return ring.NodeID{}
	}
	node, _, err := parseServer(address)
	if err != nil {
		return ring.NodeID{}
	}
	return node
}

func (q *quorum) leads() bool { return q.raft.State() == raft.Leader }

// A server is one of the configuration.
type server struct {
	Node  ring.NodeID
	Log   logID
	Voter bool
}

// servers returns the newest configuration known here.
func (q *quorum) servers() ([]server, error) {
	f := q.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, err
	}
	var all []server
	for _, s := range f.Configuration().Servers {
		node, log, err := parseServer(s.Address)
		if err != nil {
			return nil, err
		}
		all = append(all, server{Node: node, Log: log, Voter: s.Suffrage == raft.Voter})
	}
	return all, nil
}
