package vnode

import (
	"iter"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Storage keeps the records of one partition. A *bitcask.Store is one; its
// methods say what each guarantees. Epochs and now are Unix seconds.
type Storage interface {
	Put(b bitcask.Bucket, hash uint64, epoch, now int64, rec object.Record, decide bitcask.Decide) (bitcask.Action, error)
	Get(b bitcask.Bucket, hash uint64, epoch, now int64, key []byte) (object.Record, error)
	Head(b bitcask.Bucket, hash uint64, epoch, now int64, key []byte) (bitcask.Head, error)
	Each(b bitcask.Bucket, hash uint64, epoch, now int64, key []byte) iter.Seq2[object.Record, error]
	Walk(b bitcask.Bucket, slot expiry.Slot, now int64) iter.Seq2[bitcask.Head, error]
	Slots(b bitcask.Bucket) ([]expiry.Slot, error)
	Sealed(b bitcask.Bucket, slot expiry.Slot) (bool, error)
	Seal(b bitcask.Bucket, slot expiry.Slot) error
	Digests(b bitcask.Bucket, slot expiry.Slot) ([]bitcask.MinuteDigest, error)
	Horizon(b bitcask.Bucket) expiry.Horizon
	Doubts() []bitcask.Doubt
	ClearDoubt(d bitcask.Doubt) error

	// For merging with other replicas.
	Buckets() ([]bitcask.Bucket, error)
	Page(b bitcask.Bucket, slot expiry.Slot, now int64, from uint64, visit func(bitcask.Head, error) (more bool)) (next uint64, err error)
	Recheck(b bitcask.Bucket, hash uint64, epoch, now int64, key []byte, copied object.Version) (setAside int, err error)
	Sync(b bitcask.Bucket, slot expiry.Slot) error
	RaiseHorizon(b bitcask.Bucket, to expiry.Horizon) error
	Known() bool
	Note() []byte
	SetNote(note []byte) error
}

// Disks are where a node's partitions are stored; see [OnDisks].
type Disks interface {
	// Store returns the storage of a partition, opening or making it. It is
	// called once a partition, never for two at a time.
	Store(p ring.Partition) (Storage, error)

	// Partitions returns those of which something is stored.
	Partitions() ([]ring.Partition, error)
}
