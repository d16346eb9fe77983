package ring

// A Promise is what a member must have on disk before it says so: under the
// ring that counts without the round, it admits nothing of slot Boundary or
// later. The zero Promise allows everything.
type Promise struct {
	Round    uint64
	Boundary int64
	Lifted   bool // the round was cancelled
	Fixed    bool // from Boundary on the new ring counts
}

// A Preparer is a member's part of a change: what it has promised, and the
// highest epoch it has admitted. It is a value; its methods return another
// one. The driver calls them one at a time: no epoch is admitted between
// Agreed and the sync of its promise.
type Preparer struct {
	Promise Promise
	// Highest is the highest epoch ever admitted, as a coordinator or as a
	// replica; after a restart, the highest that is stored: what else was
	// admitted died with the process, or is at a replica that has it stored.
	// NoEpoch if there is none.
	Highest int64
}

// A Reply is a promise given.
type Reply struct {
	Round   uint64
	Highest int64
}

// Agreed is told what has been agreed, in any order and any number of times:
// what is older than the promise has no effect. If persist is set, the driver
// syncs the promise of the Preparer returned to disk before anything else. If
// there is a reply, it is brought to agreement only after that.
func (p Preparer) Agreed(c Change) (next Preparer, persist bool, reply *Reply) {
	if c.Round < p.Promise.Round || c.Round == 0 {
		return p, false, nil
	}
	promise := Promise{Round: c.Round, Boundary: c.Boundary, Lifted: c.Phase == Idle, Fixed: c.Phase == Fixed}
	settled := p.Promise.Lifted || p.Promise.Fixed
	if c.Round > p.Promise.Round || promise != p.Promise && !settled { // a round once settled stays so
		p.Promise, persist = promise, true
	}
	if c.Phase == Proposed && p.Promise == promise {
		reply = &Reply{c.Round, p.Highest}
	}
	return p, persist, reply
}

// A Verdict says under which ring an epoch may be admitted.
type Verdict uint8

// The verdicts.
const (
	OldRing Verdict = iota + 1 // that which counts without the round promised
	NewRing                    // the round is fixed, and the epoch past its boundary
	NotYet                     // a promise forbids the old ring, and nothing is agreed yet: to be tried again
)

// Admit judges an epoch, which is admissible by the clock. Only if the verdict
// is OldRing or NewRing may it be taken, and the Preparer returned counts.
func (p Preparer) Admit(slotSeconds, epoch int64) (Preparer, Verdict) {
	verdict := OldRing
	if p.Promise.Round > 0 && !p.Promise.Lifted && slotOf(epoch, slotSeconds) >= p.Promise.Boundary {
		if !p.Promise.Fixed {
			return p, NotYet
		}
		verdict = NewRing
	}
	p.Highest = max(p.Highest, epoch)
	return p, verdict
}
