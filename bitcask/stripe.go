package bitcask

import "sync/atomic"

// A stripe is a part of what every call of a Disk counts, in cache lines of its own: two
// processors that count in one place spend more time on handing it to each other than
// on a lookup. A call counts in the stripe of its putOp, of which the pool hands a
// processor the one it used last.
type stripe struct {
	gate gate

	appends, appendedBytes, records atomic.Int64
	gets, heads, hintLookups        atomic.Int64

	_ [64]byte
}

const stripeCount = 32

// A stripes is all of a Disk's.
type stripes struct {
	all  [stripeCount]stripe
	last atomic.Uint32
}

func (t *stripes) init() {
	for i := range t.all {
		t.all[i].gate.init()
	}
}

// first returns the one of calls that come now and then.
func (t *stripes) first() *stripe { return &t.all[0] }

// next returns them in turn.
func (t *stripes) next() *stripe { return &t.all[t.last.Add(1)%stripeCount] }

// shut closes every gate and waits until nobody is inside. It reports whether this
// call closed them.
func (t *stripes) shut() bool {
	if !t.first().gate.shut() {
		return false
	}
	for i := range t.all[1:] {
		t.all[1+i].gate.shut()
	}
	return true
}

// sum adds up one of the counts.
func (t *stripes) sum(count func(*stripe) *atomic.Int64) (total int64) {
	for i := range t.all {
		total += count(&t.all[i]).Load()
	}
	return total
}
