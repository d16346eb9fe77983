package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"
)

// A logStore keeps the log of Raft, and what a server must not forget: its term
// and its vote. It is one file of bbolt. The bucket "log" maps an index, 8 bytes
// big-endian, to an entry; "stable" maps Raft's names to their values; "own" holds
// "log id", 16 bytes, made with the file, and "disk", the id of the disk it was
// made on.
//
// An entry is, little-endian:
//
//	offset  size  field
//	0       1     format, 1
//	1       1     type, see raft.LogType
//	2       6     zero
//	8       8     term
//	16      8     when the leader appended it, nanoseconds of Unix time; 0: unknown
//	24      4     length of the data, bytes
//	28      n     data
//	28+n    m     extensions
//	…       4     CRC-32C of the index, 8 bytes, and of every byte before it
//
// Methods may be called by any goroutine. After Close, all fail but those that
// store a term: see SetUint64.
type logStore struct {
	db   *bbolt.DB
	path string
	id   logID
	disk [16]byte
	stop chan struct{} // closed by Close

	// closed when a sync failed: what is on the disk is not what was read from it, and
	// the next sync that succeeds does not tell. Nothing is written any more.
	unsure chan struct{}

	closing, failing sync.Once
}

const (
	entryFormat    = 1
	entryFixedSize = 28
	entryMinSize   = entryFixedSize + 4
)

var (
	logBucket    = []byte("log")
	stableBucket = []byte("stable")
	ownBucket    = []byte("own")
	ownLogID     = []byte("log id")
	ownDisk      = []byte("disk")
)

// errNotFound is what Raft wants to hear of a name that is not there, to the
// letter.
var errNotFound = errors.New("not found")

// errInUse says that another process has the file open.
var errInUse = errors.New("in use by another process")

// lockWait is how long another process may take to close the file.
const lockWait = time.Second

// openLogStore opens the log, or makes it, with a new id, if there is none.
func openLogStore(path string, newID logID, disk [16]byte) (*logStore, error) {
	s := &logStore{path: path, stop: make(chan struct{}), unsure: make(chan struct{})}
	err := s.guard("open", func() (err error) {
		s.db, err = openBolt(path, 0o644, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		if s.db.View(s.readOwn) == nil {
			return nil // nothing is written, which a full disk might refuse
		}
		return s.db.Update(func(tx *bbolt.Tx) error { return s.prepare(tx, newID, disk) })
	})
	if err == nil {
		return s, nil
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if errors.Is(err, bberrors.ErrTimeout) {
		return nil, fmt.Errorf("the log of the agreed state, %s, is %w: stop that first", path, errInUse)
	}
	return nil, err
}

func (s *logStore) prepare(tx *bbolt.Tx, newID logID, disk [16]byte) error {
	for _, name := range [][]byte{logBucket, stableBucket, ownBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	own := tx.Bucket(ownBucket)
	if own.Get(ownLogID) == nil {
		if err := errors.Join(own.Put(ownLogID, newID[:]), own.Put(ownDisk, disk[:])); err != nil {
			return err
		}
	}
	return s.readOwn(tx)
}

// openBolt is replaced by tests.
var openBolt = bbolt.Open

// readOwn reads what was made with the file.
func (s *logStore) readOwn(tx *bbolt.Tx) error {
	for _, name := range [][]byte{logBucket, stableBucket, ownBucket} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it has no bucket %q", name)
		}
	}
	own := tx.Bucket(ownBucket)
	id, on := own.Get(ownLogID), own.Get(ownDisk)
	if len(id) != len(s.id) || len(on) != len(s.disk) {
		return fmt.Errorf("its own id is damaged")
	}
	s.id, s.disk = logID(id), [16]byte(on)
	return nil
}

// guard does something with the file. bbolt panics where pages are damaged, and the
// file is mapped: a disk that cannot read it would end the process. Both are errors
// like any other.
func (s *logStore) guard(what string, do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is damaged: %v", r)
		}
		if err != nil && !errors.Is(err, errNotFound) && !errors.Is(err, raft.ErrLogNotFound) {
			err = fmt.Errorf("the log of the agreed state, %s: %s: %w", s.path, what, err)
		}
	}()
	return do()
}

// Close closes the file.
func (s *logStore) Close() error {
	s.closing.Do(func() { close(s.stop) })
	return s.guard("close", s.db.Close)
}

func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func appendEntry(dst []byte, l *raft.Log) []byte {
	start := len(dst)
	dst = append(dst, entryFormat, byte(l.Type), 0, 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, l.Term)
	var nanos int64
	if !l.AppendedAt.IsZero() {
		nanos = l.AppendedAt.UnixNano()
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(nanos))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(l.Data)))
	dst = append(append(dst, l.Data...), l.Extensions...)
	return binary.LittleEndian.AppendUint32(dst, entrySum(l.Index, dst[start:]))
}

// entrySum is the CRC-32C of an entry, b being all of it but that.
func entrySum(index uint64, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(indexKey(index), castagnoli), castagnoli, b)
}

// parseEntry decodes the entry of an index. It copies what it keeps.
func parseEntry(index uint64, b []byte, l *raft.Log) error {
	n := len(b) - 4
	switch {
	case len(b) < entryMinSize:
		return fmt.Errorf("entry %d has %d bytes, too few", index, len(b))
	case entrySum(index, b[:n]) != binary.LittleEndian.Uint32(b[n:]):
		return fmt.Errorf("the CRC of entry %d does not match", index)
	case b[0] != entryFormat || [6]byte(b[2:8]) != [6]byte{}:
		return fmt.Errorf("entry %d: %w", index, errAnotherFormat)
	}
	size := binary.LittleEndian.Uint32(b[24:])
	if int64(size) > int64(n-entryFixedSize) {
		return fmt.Errorf("entry %d says that it holds %d bytes, and has %d", index, size, n-entryFixedSize)
	}
	*l = raft.Log{Index: index, Type: raft.LogType(b[1]), Term: binary.LittleEndian.Uint64(b[8:])}
	if nanos := int64(binary.LittleEndian.Uint64(b[16:])); nanos != 0 {
		l.AppendedAt = time.Unix(0, nanos).UTC()
	}
	data := append([]byte(nil), b[entryFixedSize:n]...)
	if l.Data = data[:size:size]; size == 0 {
		l.Data = nil
	}
	if uint32(len(data)) > size {
		l.Extensions = data[size:]
	}
	return nil
}

// FirstIndex implements [raft.LogStore].
func (s *logStore) FirstIndex() (uint64, error) { return s.edge("first index", (*bbolt.Cursor).First) }

// LastIndex implements [raft.LogStore].
func (s *logStore) LastIndex() (uint64, error) { return s.edge("last index", (*bbolt.Cursor).Last) }

func (s *logStore) edge(what string, seek func(*bbolt.Cursor) (key, value []byte)) (index uint64, err error) {
	err = s.guard(what, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			key, _ := seek(tx.Bucket(logBucket).Cursor())
			switch len(key) {
			case 0:
			case 8:
				index = binary.BigEndian.Uint64(key)
			default:
				return fmt.Errorf("it holds an index of %d bytes", len(key))
			}
			return nil
		})
	})
	return index, err
}

// GetLog implements [raft.LogStore].
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	return s.guard("read", func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(logBucket).Get(indexKey(index))
			if b == nil {
				return raft.ErrLogNotFound
			}
			return parseEntry(index, b, l)
		})
	})
}

// StoreLog implements [raft.LogStore].
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements [raft.LogStore]. The entries are durable when it returns.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	return s.update("write", func(tx *bbolt.Tx) error {
		b := tx.Bucket(logBucket)
		for _, l := range logs {
			if int64(len(l.Data)) > math.MaxUint32 {
				return fmt.Errorf("entry %d has %d bytes, too many", l.Index, len(l.Data))
			}
			if err := b.Put(indexKey(l.Index), appendEntry(nil, l)); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteRange implements [raft.LogStore]. Both ends are deleted too.
func (s *logStore) DeleteRange(first, last uint64) error {
	return s.update("delete", func(tx *bbolt.Tx) error {
		var keys [][]byte // deleting moves the cursor
		c := tx.Bucket(logBucket).Cursor()
		for k, _ := c.Seek(indexKey(first)); k != nil && binary.BigEndian.Uint64(k) <= last; k, _ = c.Next() {
			keys = append(keys, k)
		}
		for _, k := range keys {
			if err := tx.Bucket(logBucket).Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set implements [raft.StableStore].
func (s *logStore) Set(key, value []byte) error {
	return s.update("write", func(tx *bbolt.Tx) error { return tx.Bucket(stableBucket).Put(key, value) })
}

// update changes the file, durably.
func (s *logStore) update(what string, change func(*bbolt.Tx) error) error {
	return s.guard(what, func() error {
		select {
		case <-s.unsure:
			return errors.New("the disk could not make an earlier change durable; the file is written anew")
		default:
		}
		err := updateBolt(s.db, change)
		if syncFailed(err) {
			s.failing.Do(func() { close(s.unsure) })
		}
		return err
	})
}

// updateBolt is replaced by tests.
var updateBolt = (*bbolt.DB).Update

// syncFailed reports whether an error is that of a sync, or of a disk that cannot
// write: bbolt wraps those of writes, which say what was written to.
func syncFailed(err error) bool {
	_, system := errors.AsType[syscall.Errno](err)
	_, write := errors.AsType[*fs.PathError](err)
	return system && !write || errors.Is(err, syscall.EIO)
}

// rewriteLog writes a log to another file, from what the system has of it in memory,
// and puts that into its place. After a sync that failed this makes it durable, which
// one more sync would not: the system does not write again what it could not write.
func rewriteLog(path string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is damaged: %v", r)
		}
	}()
	db, err := bbolt.Open(path, 0o644, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return err
	}
	defer db.Close()
	next, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(next)
		return err
	})
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Get implements [raft.StableStore].
func (s *logStore) Get(key []byte) (value []byte, err error) {
	err = s.guard("read", func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			v := tx.Bucket(stableBucket).Get(key)
			if v == nil {
				return errNotFound
			}
			value = append([]byte(nil), v...)
			return nil
		})
	})
	return value, err
}

// Under which names Raft keeps its term, and that of its last vote.
const (
	currentTerm  = "CurrentTerm"
	lastVoteTerm = "LastVoteTerm"
)

// termPause is how long the store waits before it tries again to store a term.
const termPause = 250 * time.Millisecond

// SetUint64 implements [raft.StableStore].
//
// Raft ends the process if it cannot store its term. A disk that is full or
// failing must not take the data down with it, so a term is tried again and
// again: until it is stored this server says nothing, and the others elect one of
// them. Once the store is closed the term is given up with no error: no vote can
// be stored any more, so none is given in a term that would be forgotten.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	for {
		err := s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
		if err == nil || string(key) != currentTerm {
			return err
		}
		select {
		case <-s.stop:
			return nil
		case <-time.After(termPause):
		}
	}
}

// abandon ends the wait for a term that cannot be stored: to be called before
// Raft is shut down.
func (s *logStore) abandon() { s.closing.Do(func() { close(s.stop) }) }

// GetUint64 implements [raft.StableStore].
func (s *logStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	switch {
	case err != nil:
		return 0, err
	case len(b) != 8:
		return 0, fmt.Errorf("the log of the agreed state, %s: %q has %d bytes, 8 are right", s.path, key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}
