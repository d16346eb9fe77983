package peer

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// An Ask is what every request to a replica says.
type Ask = struct {
	Call     uint64       // given back to done
	Hash     uint64       // placement hash of the object or row
	History  ring.Version // of the history the owners were taken from
	Deadline time.Time    // after it, nobody waits for the answer
}

// Put has the peer store a record: a value, a tombstone, or a delta of the index.
// The record is sent from the Buffer it lies in, which is retained until it has
// left. A nil error says that the peer has it, as durable as its bucket's sync
// policy asks.
//
// CodeOverload and CodeUnavailable that say "not done" come at once when there is
// no room or no connection; what was sent and not answered is maybe done.
func (p *Peer) Put(ask Ask, rec object.Record, done func(call uint64, err *object.Error)) {
	p.put(wire.Ingest, ask, rec, done)
}

// Get has the peer read the greatest version of a key, tombstones included: the
// whole record, or, without body, one of which only Header and Buf are set. The
// use of its Buffer passes to done. Names and key are not used after Get has
// returned. CodeAbsent and CodeExpired are answers like others, and complete says
// whether they prove anything.
func (p *Peer) Get(ask Ask, bucketType, bucket, key []byte, body bool, done func(call uint64, rec object.Record, complete bool, err *object.Error)) {
	p.get(wire.Get, ask, bucketType, bucket, key, body, done)
}

// Row has the peer read an index row: empty if nothing was said of the second,
// CodeExpired if its time is over.
func (p *Peer) Row(ask Ask, key event.IndexKey, done func(call uint64, row index.Row, complete bool, err *object.Error)) {
	p.row(wire.Get, ask, key, done)
}

// A Repairer is the same replica for requests of repair: they are shed before
// others, and take the bulk connection. It is made by [Peer.Repair].
type Repairer struct{ p *Peer }

// Repair returns the Peer for requests of repair.
func (p *Peer) Repair() *Repairer { return &Repairer{p} }

// Put is [Peer.Put].
func (r *Repairer) Put(ask Ask, rec object.Record, done func(call uint64, err *object.Error)) {
	r.p.put(wire.Repair, ask, rec, done)
}

// Get is [Peer.Get].
func (r *Repairer) Get(ask Ask, bucketType, bucket, key []byte, body bool, done func(call uint64, rec object.Record, complete bool, err *object.Error)) {
	r.p.get(wire.Repair, ask, bucketType, bucket, key, body, done)
}

// Row is [Peer.Row].
func (r *Repairer) Row(ask Ask, key event.IndexKey, done func(call uint64, row index.Row, complete bool, err *object.Error)) {
	r.p.row(wire.Repair, ask, key, done)
}

func (p *Peer) put(class wire.Class, ask Ask, rec object.Record, done func(uint64, *object.Error)) {
	p.counters.puts.Add(1)
	q := newRequest(p, OpPut, ask)
	q.donePut = done
	q.begin(class, wire.Piece{Bytes: rec.Raw(), Buf: rec.Buf})
}

func (p *Peer) get(class wire.Class, ask Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	op := OpHead
	if body {
		op = OpGet
		p.counters.gets.Add(1)
	} else {
		p.counters.heads.Add(1)
	}
	q := newRequest(p, op, ask)
	q.doneGet = done
	if len(bucketType) > object.MaxNameBytes || len(bucket) > object.MaxNameBytes || len(key) > object.MaxKeyBytes {
		q.end(errLongName)
		return
	}
	q.meta = appendName(q.meta, bucketType, bucket, key)
	q.begin(class, wire.Piece{})
}

func (p *Peer) row(class wire.Class, ask Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	p.counters.rows.Add(1)
	q := newRequest(p, OpRow, ask)
	q.doneRow = done
	q.meta = key.AppendTo(q.meta)
	q.begin(class, wire.Piece{})
}
