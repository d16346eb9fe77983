package agreed

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/ring"
)

// A Gate admits the epochs of timed puts, or refuses them because of a promise:
// a member's part in preparing a change of the ring (see ring.Preparer). All
// methods may be called at once.
//
// Admit raises the highest epoch and then looks at the promise; Agreed changes
// the promise and then looks at the highest epoch. One of the two sees the
// other: an epoch past the boundary is either refused, or reported with the
// promise.
type Gate struct {
	slotSeconds int64
	highest     atomic.Int64
	rule        atomic.Pointer[rule]

	mu        sync.Mutex // held by Agreed
	promise   ring.Promise
	persisted ring.Promise // what is on disk for certain
}

// A rule is what a promise means for an epoch. It is immutable.
type rule struct {
	first int64        // the first epoch that may not be admitted under the old ring
	then  ring.Verdict // of first and later ones
}

// NewGate returns the gate of a node that starts. stored is the promise it has
// on disk, zero if none; highest the highest epoch of a timed object it has
// stored, ring.NoEpoch if none. Slots are of so many seconds, at least one.
func NewGate(slotSeconds int64, stored ring.Promise, highest int64) *Gate {
	g := &Gate{slotSeconds: slotSeconds, promise: stored, persisted: stored}
	g.highest.Store(highest)
	g.rule.Store(g.ruleOf(stored))
	return g
}

// Admit judges an epoch, which is admissible by the clock: to be called for
// each timed put by who coordinates it and by each replica, before anything is
// stored or sent. With OldRing and NewRing it may be taken; the caller looks up
// the history only after Admit, for the one it holds may be older than the
// verdict. With NotYet it is refused for now: retryable, not done. Admit does
// not lock or allocate.
func (g *Gate) Admit(epoch int64) ring.Verdict {
	if r := g.rule.Load(); epoch >= r.first && r.then == ring.NotYet {
		return ring.NotYet // and not admitted: it does not count as the highest
	}
	for highest := g.highest.Load(); epoch > highest; highest = g.highest.Load() {
		if g.highest.CompareAndSwap(highest, epoch) {
			break
		}
	}
	// Whoever promises after this sees the epoch; whoever did before is seen here.
	// Then the epoch counts as the highest although it is refused: at worst the
	// change is proposed once more, for a later slot.
	if r := g.rule.Load(); epoch >= r.first {
		return r.then
	}
	return ring.OldRing
}

// Vouches reports whether this node knows who owns the epoch. Where a promise
// forbids the old ring and nothing is agreed yet it does not: others may
// acknowledge under the new ring already, and what a replica does not have is
// not absent for certain. It raises nothing.
func (g *Gate) Vouches(epoch int64) bool {
	r := g.rule.Load()
	return epoch < r.first || r.then != ring.NotYet
}

// Highest returns the highest epoch admitted, ring.NoEpoch if none.
func (g *Gate) Highest() int64 { return g.highest.Load() }

// Promise returns what has been promised: what Agreed was told last, as far as
// it was not older.
func (g *Gate) Promise() ring.Promise {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promise
}

// Agreed is told what has been agreed, in any order and any number of times;
// the history agreed with it must be visible before. If there is a promise to
// give, it is in force before persist is called, which makes it durable before
// it returns. The reply, if there is one, is to be brought to agreement: with
// the Promised command of the member. If persist fails there is no reply, the
// promise stays in force, and the next call tries again.
func (g *Gate) Agreed(c ring.Change, persist func(ring.Promise) error) (*ring.Reply, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next, _, reply := ring.Preparer{Promise: g.promise}.Agreed(c)
	if next.Promise != g.promise {
		g.promise = next.Promise
		g.rule.Store(g.ruleOf(g.promise))
	}
	if reply != nil {
		reply.Highest = g.highest.Load()
	}
	if g.promise != g.persisted {
		if err := persist(g.promise); err != nil {
			return nil, err
		}
		g.persisted = g.promise
	}
	return reply, nil
}

func (g *Gate) ruleOf(p ring.Promise) *rule {
	switch {
	case p.Round == 0 || p.Lifted:
		return &rule{first: math.MaxInt64, then: ring.OldRing}
	case p.Fixed:
		return &rule{first: g.firstOf(p.Boundary), then: ring.NewRing}
	}
	return &rule{first: g.firstOf(p.Boundary), then: ring.NotYet}
}

// firstOf returns the first epoch of a slot, as far as there is one.
func (g *Gate) firstOf(slot int64) int64 {
	switch {
	case slot > math.MaxInt64/g.slotSeconds:
		return math.MaxInt64
	case slot < math.MinInt64/g.slotSeconds:
		return math.MinInt64
	}
	return slot * g.slotSeconds
}
