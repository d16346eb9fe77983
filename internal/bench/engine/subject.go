package engine

import (
	"errors"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A subject is a disk of the engine with all partitions of a ring on it.
type subject struct {
	dir    *vfs.Dir
	disk   *bitcask.Disk
	stores []*bitcask.Store
	bits   uint8
	bucket bitcask.Bucket
}

// openSubject opens, or makes, a disk in dir. wrap may put something between the
// engine and the file system.
func openSubject(dir string, bits uint8, policy bitcask.Sync, wrap func(vfs.FS) vfs.FS, change func(*bitcask.Config)) (*subject, error) {
	fsys, err := vfs.MakeDir(dir)
	if err != nil {
		return nil, err
	}
	cfg := bitcask.Config{
		Cluster: bitcask.ID{1}, Node: bitcask.ID{2}, SlotSeconds: slotSeconds, Hash: ring.HashBytes, BootID: vfs.BootID(),
	}
	if change != nil {
		change(&cfg)
	}
	var used vfs.FS = fsys
	if wrap != nil {
		used = wrap(fsys)
	}
	d, err := bitcask.OpenDisk(used, cfg, firstEpoch*1e6)
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	s := &subject{dir: fsys, disk: d, bits: bits, bucket: bitcask.Bucket{ID: 0xe1, Type: string(typeName), Name: string(bucketName), Timed: true, Sync: policy}}
	for prefix := range uint32(1) << bits {
		store, err := d.Store(bitcask.Partition{Bits: bits, Prefix: prefix})
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.stores = append(s.stores, store)
	}
	return s, nil
}

func (s *subject) close() error { return errors.Join(s.disk.Close(), s.dir.Close()) }

func (s *subject) store(hash uint64) *bitcask.Store {
	if s.bits == 0 {
		return s.stores[0]
	}
	return s.stores[hash>>(64-s.bits)]
}

func (s *subject) put(hash uint64, rec *object.Record) error {
	return s.putAt(hash, firstEpoch, firstEpoch, rec)
}

func (s *subject) putAt(hash uint64, epoch, now int64, rec *object.Record) error {
	_, err := s.store(hash).Put(s.bucket, hash, epoch, now, *rec, nil)
	return err
}

// get reads a record and gives its buffer back.
func (s *subject) get(hash uint64, key []byte, verify bool) error {
	rec, err := s.store(hash).Get(s.bucket, hash, firstEpoch, firstEpoch, key)
	if err != nil {
		return err
	}
	if verify {
		err = rec.Verify()
	}
	rec.Release()
	return err
}

// seal seals the slot of an epoch everywhere.
func (s *subject) seal(epoch int64) error {
	for _, store := range s.stores {
		if err := store.Seal(s.bucket, expiry.SlotOf(epoch, slotSeconds)); err != nil {
			return err
		}
	}
	return nil
}
