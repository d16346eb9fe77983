package vnode

import (
	"sync"

	"github.com/mayflydb/mayfly/internal/index"
)

// A row is one index row in memory: the union of all its records. While the
// second changes it is an Accumulator, afterwards its encoding, which holds
// nothing the garbage collector must follow.
//
// A row is in the cache from before anything is read for it: whoever appends a
// record finds it there and adds the delta to it as soon as the record is
// written. So the row lacks nothing that was acknowledged, whether the reading
// met that record or not.
type row struct {
	key rowKey

	// Guarded by the cache.
	newer, older *row  // its neighbours in the list it is in
	list         *list // nil once it was forgotten
	users        int   // it is not forgotten while it has any
	cost         int64 // bytes, as last told

	loaded chan struct{} // closed when it was read, or could not be
	err    error         // why it could not be; set before loaded is closed

	mu          sync.Mutex
	changing    *index.Accumulator // nil: packed
	packed      []byte
	stampMicros int64 // the greatest of its records
	damaged     bool  // some record of it could not be read
	reserved    int   // bytes of deltas that are being written
}

// read returns the row as it is now.
func (r *row) read() (row index.Row, stampMicros int64, damaged bool) {
	r.mu.Lock()
	changing, packed := r.changing, r.packed
	stampMicros, damaged = r.stampMicros, r.damaged
	if changing != nil {
		row = changing.Row()
	}
	r.mu.Unlock()
	if changing == nil {
		row = unpack(packed)
	}
	return row, stampMicros, damaged
}

// reserve makes room for a delta that is to be written, or reports that the row
// would outgrow an object with it.
func (r *row) reserve(delta index.Row) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := delta.Size()
	if r.sizeLocked()+r.reserved+size > index.MaxRowBytes {
		return false
	}
	r.reserved += size
	return true
}

func (r *row) sizeLocked() int {
	if r.changing != nil {
		return r.changing.Size()
	}
	return len(r.packed)
}

// release takes back what was reserved for a delta that was not written.
func (r *row) release(delta index.Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= delta.Size()
}

// add merges a delta that was reserved for and is written now.
func (r *row) add(delta index.Row, stampMicros int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= delta.Size()
	if r.changing == nil {
		r.changing = new(index.Accumulator)
		r.changing.Add(unpack(r.packed))
		r.packed = nil
	}
	r.changing.Add(delta)
	r.stampMicros = max(r.stampMicros, stampMicros)
}

// pack encodes the row, for it is not expected to change soon.
func (r *row) pack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changing != nil {
		r.packed, r.changing = packed(r.changing.Row()), nil
	}
}

func (r *row) isDamaged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damaged
}

// estimate is what the row takes, bytes.
func (r *row) estimate() (cost int64, changing bool) {
	const (
		entryCost = 256 // in an Accumulator, and once more in the Row it made
		rowCost   = 512 // this struct, its key, its place in the cache
	)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changing == nil {
		return rowCost + int64(cap(r.packed)), false
	}
	return rowCost + int64(r.changing.Size()) + entryCost*int64(r.changing.Len()), true
}

func packed(r index.Row) []byte { return index.AppendRow(make([]byte, 0, r.Size()), r) }

// unpack decodes what packed has encoded.
func unpack(b []byte) index.Row {
	if b == nil {
		return index.Row{}
	}
	r, err := index.ParseRow(b)
	if err != nil {
		panic("vnode: BUG: a packed row does not parse: " + err.Error())
	}
	return r
}
