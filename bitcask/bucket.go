package bitcask

import (
	"encoding/hex"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
)

// An ID names a cluster, a node or a disk: 16 random bytes.
type ID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A Partition is the range of placement hashes whose top Bits bits are Prefix.
// It has the shape of ring.Partition, so the one converts into the other.
type Partition struct {
	Bits   uint8  // 0..32
	Prefix uint32 // < 1<<Bits
}

// String returns the partition as its directories are named: "6-0a".
func (p Partition) String() string {
	return fmt.Sprintf("%d-%0*x", p.Bits, max(1, (int(p.Bits)+3)/4), p.Prefix)
}

// Holds reports whether a placement hash lies in the partition.
func (p Partition) Holds(hash uint64) bool {
	return p.Bits == 0 || hash>>(64-p.Bits) == uint64(p.Prefix)
}

func (p Partition) valid() bool { return p.Bits <= 32 && uint64(p.Prefix) < 1<<p.Bits }

// A Sync says when an appended record counts as done.
type Sync uint8

// The sync policies.
const (
	SyncNone     Sync = iota // appended; the kernel writes it when it likes, at the latest when its slot is sealed
	SyncInterval             // appended; synced within Config.SyncInterval
	SyncAlways               // synced
)

// String returns "none", "interval" or "always".
func (s Sync) String() string {
	switch s {
	case SyncNone:
		return "none"
	case SyncInterval:
		return "interval"
	case SyncAlways:
		return "always"
	}
	return fmt.Sprintf("sync %d", uint8(s))
}

// A Bucket is what the engine must know of a bucket. ID, Type, Name, Timed and
// KeepAll are fixed before the bucket's first put: its files say them, and a
// Bucket that contradicts them is refused. Sync may change from put to put.
type Bucket struct {
	ID         uint64 // names the bucket's directory; bucket.Properties.ID
	Type, Name string // 1..object.MaxNameBytes each
	Timed      bool   // an object's time is the epoch in its key: files by slot
	KeepAll    bool   // every record of a key stays (index deltas), not only the greatest version
	Sync       Sync
}

// An Action is what is to become of a record that is put.
type Action uint8

// The actions.
const (
	Append   Action = iota + 1 // write it
	Same                       // it is there already: acknowledge it as durably as if it were written now
	Conflict                   // refuse it
)

// String returns "append", "same" or "conflict".
func (a Action) String() string {
	switch a {
	case Append:
		return "append"
	case Same:
		return "same"
	case Conflict:
		return "conflict"
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// A Decide chooses what becomes of a record, given what is stored under its
// key. Between its call and the end of the put no other put of the key comes
// in between. It must be quick and must not call the Store.
//
// next is the record's header. old is nil if nothing readable is stored under
// the key, and otherwise the header of the greatest version; in a KeepAll
// bucket, of the record with the very version of next. old is valid only during
// the call.
type Decide func(old, next *object.Header) Action

// Newest is the Decide of ordinary buckets: the greatest version stays, and
// what does not exceed it is acknowledged without a record. A nil Decide is the
// same.
func Newest(old, next *object.Header) Action {
	if old != nil && next.Version().Compare(old.Version()) <= 0 {
		return Same
	}
	return Append
}
