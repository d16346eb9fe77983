package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// makeTestLog makes a log of ten entries of term 3, and a snapshot as of the sixth.
func makeTestLog(t *testing.T, dir string) {
	t.Helper()
	s, err := openLogStore(filepath.Join(dir, logName), logID(id("log")), id("disk"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []*raft.Log
	for i := uint64(3); i <= 10; i++ { // those before were cut off
		entries = append(entries, &raft.Log{Index: i, Term: 3, Data: []byte("data")})
	}
	err = errors.Join(s.StoreLogs(entries), s.SetUint64([]byte(currentTerm), 4), s.SetUint64([]byte(lastVoteTerm), 4), s.Close())
	snaps, err2 := raft.NewFileSnapshotStore(dir, snapshotsKept, io.Discard)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	_, nowhere := raft.NewInmemTransport("")
	sink, err := snaps.Create(1, 6, 3, raft.Configuration{}, 1, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot(goldenDocument(t)).Persist(sink); err != nil {
		t.Fatal(err)
	}
}

// inLog changes the file of a log whose node is stopped.
func inLog(dir string, change func(*bbolt.Tx) error) error {
	db, err := bbolt.Open(filepath.Join(dir, logName), 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(change), db.Close())
}

// What Raft needs of a log and its snapshots is there, or the log is not used:
// neither a term that was forgotten nor an entry that is missing is found out later.
func TestCheckLog(t *testing.T) {
	entry := func(index uint64, value func(b *bbolt.Bucket, key []byte) error) func(string) error {
		return func(dir string) error {
			return inLog(dir, func(tx *bbolt.Tx) error { return value(tx.Bucket(logBucket), indexKey(index)) })
		}
	}
	remove := func(b *bbolt.Bucket, key []byte) error { return b.Delete(key) }
	flip := func(b *bbolt.Bucket, key []byte) error {
		v := append([]byte(nil), b.Get(key)...)
		v[len(v)-5] ^= 1
		return b.Put(key, v)
	}
	number := func(name string, value ...byte) func(string) error {
		return func(dir string) error {
			return inLog(dir, func(tx *bbolt.Tx) error { return tx.Bucket(stableBucket).Put([]byte(name), value) })
		}
	}
	state := func(change func(name string) error) func(string) error {
		return func(dir string) error {
			found, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
			if len(found) != 1 {
				return errors.Join(err, fmt.Errorf("%d snapshots", len(found)))
			}
			return change(found[0])
		}
	}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		why    string // empty: the log is used
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"an entry that the snapshot has is damaged", entry(5, flip), ""},
		{"an entry that the snapshot has is missing", entry(5, remove), ""},
		{"an entry is damaged", entry(8, flip), "the CRC of entry 8"},
		{"the last entry is damaged", entry(10, flip), "the CRC of entry 10"},
		{"an entry is missing", entry(8, remove), "ends with entry 10, the newest snapshot with 6, and entry 8: log not found"},
		{"the entry after the snapshot is missing", entry(7, remove), "entry 7: log not found"},
		{"the snapshots are gone", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "snapshots")) }, "the newest snapshot with 0, and entry 1"},
		{"the snapshot is cut short", state(func(name string) error { return os.Truncate(name, 100) }), "CRC mismatch"},
		{"the snapshot is only begun", state(func(name string) error { return os.Rename(filepath.Dir(name), filepath.Dir(name)+".tmp") }), "the newest snapshot with 0, and entry 1"},
		{"a newer snapshot is only begun", state(func(name string) error { return os.Mkdir(filepath.Dir(name)+"-1.tmp", 0o755) }), ""},
		{"the term is damaged", number(currentTerm, 1, 2, 3), "3 bytes"},
		{"the term is that before the vote", number(currentTerm, 3, 0, 0, 0, 0, 0, 0, 0), "it has seen term 4, and knows of term 3 only"},
		{"the term is that before the entries", func(dir string) error {
			return errors.Join(number(lastVoteTerm, 1, 0, 0, 0, 0, 0, 0, 0)(dir), number(currentTerm, 2, 0, 0, 0, 0, 0, 0, 0)(dir))
		}, "it has seen term 3, and knows of term 2 only"},
		{"the vote is damaged", number(lastVoteTerm, 1), "1 bytes"},
	} {
		dir := t.TempDir()
		makeTestLog(t, dir)
		if err := c.damage(dir); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		why, err := checkLog(dir, Disk{ID: id("disk")})
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.why == "" && why != "":
			t.Errorf("%s: it is not used: %s", c.name, why)
		case c.why != "":
			says(t, errors.New(why), c.why)
		}
	}

	// What another version wrote is not damaged, and not given up.
	dir := t.TempDir()
	makeTestLog(t, dir)
	newer := appendEntry(nil, &raft.Log{Index: 10, Term: 3})
	newer[0] = entryFormat + 1
	newer = binary.LittleEndian.AppendUint32(newer[:len(newer)-4], entrySum(10, newer[:len(newer)-4]))
	if err := entry(10, func(b *bbolt.Bucket, key []byte) error { return b.Put(key, newer) })(dir); err != nil {
		t.Fatal(err)
	}
	_, err := checkLog(dir, Disk{ID: id("disk")})
	says(t, err, dir, "entry 10", "use the version of mayfly that wrote it")
}

// A log that the system does not let this process open is whole, for all anybody
// knows: a full disk costs no vote. The node serves meanwhile, and votes when there is
// room.
func TestLogOnAFullDisk(t *testing.T) {
	n := newTestNode(t, "a").mustStart()
	n.touch(7)
	was := n.era().log
	n.stop()
	var full atomic.Bool
	full.Store(true)
	defer func(before func(string, os.FileMode, *bbolt.Options) (*bbolt.DB, error)) { openBolt = before }(openBolt)
	defer n.stop()
	openBolt = func(path string, mode os.FileMode, o *bbolt.Options) (*bbolt.DB, error) {
		if full.Load() {
			return nil, &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		return bbolt.Open(path, mode, o)
	}
	n.mustStart()
	if n.era() != nil || n.Document().Settings.LatenessSeconds != 7 {
		t.Error("it has a log, or no document")
	}
	if s := n.Status(); s.Role != "waiting" {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := n.Propose(ctx, touch(n.Document(), 8))
	says(t, err, "its disk is full")
	full.Store(false)
	n.touch(8)
	if n.era().log != was {
		t.Error("it is another log")
	}

	for err, system := range map[error]bool{
		&os.PathError{Err: syscall.ENOSPC}: true, &os.PathError{Err: syscall.EMFILE}: true, &os.PathError{Err: syscall.EROFS}: true,
		&os.PathError{Err: syscall.EIO}: false, &os.PathError{Err: syscall.ENOENT}: false, errors.New("damaged"): false,
	} {
		if refusedBySystem(err) != system {
			t.Errorf("%v: %v", err, !system)
		}
	}
}

// After a sync that failed nothing is added to a log until it is written anew: then it
// is the log it was, with its term and its vote.
func TestLogThatCannotBeSynced(t *testing.T) {
	var fail atomic.Bool
	defer func(before func(*bbolt.DB, func(*bbolt.Tx) error) error) { updateBolt = before }(updateBolt)
	updateBolt = func(db *bbolt.DB, change func(*bbolt.Tx) error) error {
		if fail.Swap(false) {
			return syscall.EIO
		}
		return db.Update(change)
	}
	n := newTestNode(t, "a").mustStart()
	defer n.stop()
	n.touch(7)
	file := filepath.Join(n.cfg.Disks[0].Path, "node", "raft-1", logName)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	was, store, term := n.era().log, n.era().store, n.era().raft.CurrentTerm()
	fail.Store(true)
	n.touch(8)
	says(t, store.Set([]byte("x"), nil), "the file is written anew")
	after, err := os.Stat(file)
	if err != nil || os.SameFile(before, after) {
		t.Errorf("it is the same file, %v", err)
	}
	if q := n.era(); q.log != was || q.raft.CurrentTerm() < term {
		t.Errorf("it is log %v in term %d, and was %v in term %d", q.log, q.raft.CurrentTerm(), was, term)
	}
	n.stop()
	n.mustStart()
	sees(t, 8, n)

	for err, failed := range map[error]bool{
		syscall.EIO: true, syscall.ENOSPC: true, &os.PathError{Err: syscall.EIO}: true, &os.PathError{Err: syscall.ENOSPC}: false, errors.New("x"): false,
	} {
		if syncFailed(err) != failed {
			t.Errorf("%v: %v", err, !failed)
		}
	}
}

// A node starts although its log is damaged, which is kept aside. Nobody else can
// make it a voter again where nobody else is: then it says what to do.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	n.touch(7)
	was := n.era().log
	n.stop()
	dir := filepath.Join(n.cfg.Disks[0].Path, "node", "raft-1")
	if err := inLog(dir, func(tx *bbolt.Tx) error { return tx.Bucket(logBucket).Delete(indexKey(2)) }); err != nil {
		t.Fatal(err)
	}
	n.mustStart()
	if n.era().log == was || n.Document().Settings.LatenessSeconds != 7 {
		t.Errorf("its log is %v, which was damaged; the document says %d", n.era().log, n.Document().Settings.LatenessSeconds)
	}
	if _, err := os.Stat(filepath.Join(dir+".old-1", logName)); err != nil {
		t.Errorf("the damaged log is not kept: %v", err)
	}
	says(t, n.noLeader(n.era()), "the log of what is agreed is lost", "stop this node and run 'mayfly cluster recover'")
	n.stop()
	if _, err := Recover(n.cfg); err != nil {
		t.Fatal(err)
	}
	n.mustStart()
	n.touch(8)
	sees(t, 8, n)
}
