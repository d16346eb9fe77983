package replication

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Replica is what one node has of the objects it owns: its own vnodes, or a
// peer's over the wire.
//
// Each method begins a request and returns; done is called exactly once, by any
// goroutine, perhaps before the method returns, and no later than shortly after
// the deadline. It gets the Call of the Ask and must not be called with the
// Replica's locks held: it may begin further requests. A request the Replica has
// no room for is answered at once with CodeOverload, never queued without bound.
//
// Errors are those of package object. A replica that owns the object under the
// history of the Ask, but not under its own, or the other way round, answers
// CodeWrongOwner, after it has made the newer history known to its own side.
type Replica interface {
	// Put stores a record: a value, a tombstone, or a delta of the index, by its
	// Kind. A nil error says that the replica has it, as durable as its bucket's
	// sync policy asks. The record is the coordinator's: who needs it after Put
	// has returned retains it.
	Put(ask Ask, rec object.Record, done func(call uint64, err *object.Error))

	// Get reads the greatest version of a key, tombstones included: the whole
	// record, or, without body, a record of which only Header and Buf are set. The
	// use of its Buffer passes to done. Names and key are valid until Get returns.
	//
	// CodeAbsent and CodeExpired are answers like others. complete says that the
	// replica vouches for having every record it ever acknowledged for the bucket
	// and the time of the key.
	Get(ask Ask, bucketType, bucket, key []byte, body bool, done func(call uint64, rec object.Record, complete bool, err *object.Error))

	// Row reads an index row: empty if nothing was said of the second, CodeExpired
	// if its time is over. The row is shared and not modified. complete is as for
	// Get.
	Row(ask Ask, key event.IndexKey, done func(call uint64, row index.Row, complete bool, err *object.Error))
}

// An Ask is what every request to a replica says. It is an alias, so that a
// package below this one can spell the same type.
type Ask = struct {
	Call     uint64       // given back to done
	Hash     uint64       // placement hash of the object or row
	History  ring.Version // of the history the owners were taken from
	Deadline time.Time    // after it, nobody waits for the answer
}
