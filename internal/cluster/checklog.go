package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
)

// checkLog says why a log cannot be used: it is another disk's, it was never
// finished, or something is missing or damaged. The error is that of a log that is
// not to be given up: another version wrote it, or the system does not let this
// process open it now.
func checkLog(dir string, disk Disk) (why string, err error) {
	s, err := openLogStore(filepath.Join(dir, logName), logID{}, disk.ID)
	switch {
	case errors.Is(err, errInUse):
		return "", nil // the next to open it tells
	case refusedBySystem(err):
		return "", err
	case err != nil:
		return err.Error(), nil
	}
	defer s.Close()
	switch {
	case s.disk != disk.ID:
		return fmt.Sprintf("it was made on disk %x, this is disk %x", s.disk, disk.ID), nil
	case s.id == logID{}:
		return "it was never finished", nil
	}
	snaps, err := raft.NewFileSnapshotStore(dir, snapshotsKept, io.Discard)
	if err != nil {
		return "", fmt.Errorf("snapshots cannot be kept in %s: free space, or mend the disk: %w", dir, err)
	}
	err = s.check(snaps)
	switch {
	case errors.Is(err, errAnotherFormat) || errors.Is(err, agreed.ErrFormat) || refusedBySystem(err):
		return "", err
	case err != nil:
		return err.Error(), nil
	}
	return "", nil
}

// refusedBySystem reports whether an error says nothing of what is in a file: the disk
// is full, or may not be written, or this process has too many files open. What the
// disk cannot read is lost.
func refusedBySystem(err error) bool {
	_, system := errors.AsType[syscall.Errno](err)
	return system && !errors.Is(err, syscall.EIO) && !errors.Is(err, fs.ErrNotExist)
}

// check reads all that Raft needs of the log and of its snapshots. What is missing
// or damaged there would end the process, at the start or when it is applied. A term
// before that of an entry or of a vote was taken back by the disk: votes may have
// been forgotten.
func (s *logStore) check(snaps raft.SnapshotStore) error {
	term, err := s.number(currentTerm)
	if err != nil {
		return err
	}
	voted, err := s.number(lastVoteTerm)
	if err != nil {
		return err
	}
	newest, err := newestSnapshot(snaps)
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	highest := max(voted, newest.Term)
	for index := min(newest.Index+1, max(last, 1)); index <= last; index++ {
		var l raft.Log
		if err := s.GetLog(index, &l); err != nil {
			return fmt.Errorf("it ends with entry %d, the newest snapshot with %d, and entry %d: %w", last, newest.Index, index, err)
		}
		if err := checkEntry(&l); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		highest = max(highest, l.Term)
	}
	if term < highest {
		return fmt.Errorf("it has seen term %d, and knows of term %d only", highest, term)
	}
	return nil
}

// number is GetUint64, but what is not there is 0.
func (s *logStore) number(name string) (uint64, error) {
	v, err := s.GetUint64([]byte(name))
	if errors.Is(err, errNotFound) {
		return 0, nil
	}
	return v, err
}

// newestSnapshot returns the newest snapshot that can be restored, the zero value if
// there is none at all.
func newestSnapshot(snaps raft.SnapshotStore) (raft.SnapshotMeta, error) {
	all, err := snaps.List()
	if err != nil {
		return raft.SnapshotMeta{}, fmt.Errorf("its snapshots: %w", err)
	}
	var faults []error
	for _, meta := range all {
		_, err := openSnapshot(snaps, meta.ID)
		if err == nil {
			return *meta, nil
		}
		faults = append(faults, fmt.Errorf("snapshot %s: %w", meta.ID, err))
	}
	return raft.SnapshotMeta{}, errors.Join(faults...)
}

// openSnapshot returns the document of a snapshot.
func openSnapshot(snaps raft.SnapshotStore, id string) (held, error) {
	_, r, err := snaps.Open(id)
	if err != nil {
		return held{}, err
	}
	defer r.Close()
	return readSnapshot(r)
}

// readSnapshot reads the document that a snapshot is.
func readSnapshot(r io.Reader) (held, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, maxEnvelopeBytes+1)); err != nil {
		return held{}, err
	}
	return parseEnvelope(b.Bytes())
}
