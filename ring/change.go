package ring

import (
	"fmt"
	"slices"
	"strings"
)

// A change of the ring is prepared before it counts. A boundary B, a slot ahead
// of every admissible epoch, is proposed. Each member that is not declared lost
// promises, durably, to admit nothing at or past B under the old ring, and says
// what the highest epoch is that it has admitted. If all have promised with
// less than B before B became admissible, the new ring counts from B on: the
// change is fixed. Otherwise the proposal is withdrawn and made again with a
// later B.
//
// Step is that part of it which is agreed: the driver feeds it events in one
// agreed order, and every node comes to the same Change. Preparer is a
// member's part.
//
// Invariants, over all members that are not declared lost:
//
//  1. When a change is fixed at B, each has promised B in the round that is
//     fixed, and has never admitted an epoch at or past B under the old ring.
//  2. It never will.
//  3. A change is fixed only while B is not admissible: nobody had to refuse an
//     epoch because of a promise before it could know what was agreed.
//  4. There is one proposal at a time, and rounds never come again.

// A Phase is how far a change has come.
type Phase uint8

// The phases.
const (
	Idle     Phase = iota // there is no change, or it was cancelled
	Proposed              // members are asked for their promises
	Fixed                 // the new ring counts from Boundary on
)

// String names the phase.
func (p Phase) String() string {
	switch p {
	case Idle:
		return "idle"
	case Proposed:
		return "proposed"
	case Fixed:
		return "fixed"
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// A Change is the state of the one change there may be. It is a value: Step
// returns another one. The zero Change is that of a new cluster.
type Change struct {
	Round    uint64   // grows with each proposal
	Phase    Phase    // of the round
	Boundary int64    // slot; of the last proposal
	Members  []NodeID // who has to promise, ascending; declared lost ones are not among them
	Waiting  []NodeID // those who have not yet
}

// Timing is what a boundary depends on. All nodes must have the same.
type Timing struct {
	SlotSeconds  int64
	AheadSeconds int64 // epochs further ahead of the clock than this are not admitted
	SkewSeconds  int64 // by how much a member's clock may be ahead of the agreed time
	LeadSeconds  int64 // how long members have at least for their promises
}

// admissible returns the highest epoch that some member may admit now.
func (t Timing) admissible(now int64) int64 { return now + t.AheadSeconds + t.SkewSeconds }

// Boundary returns the first slot that nobody can reach for LeadSeconds: ahead
// of every epoch that any member may admit until then.
func (t Timing) Boundary(now int64) int64 {
	return slotOf(t.admissible(now)+t.LeadSeconds, t.SlotSeconds) + 1
}

// reached reports whether some member may admit an epoch of the slot now.
func (t Timing) reached(slot, now int64) bool {
	return slotOf(t.admissible(now), t.SlotSeconds) >= slot
}

// A ChangeEvent is what Step is told. Now is the agreed time: the clock of the node
// that brings the event to agreement, seconds of Unix time.
type ChangeEvent struct {
	Kind    ChangeEventKind
	Now     int64
	Members []NodeID // Propose: all that are not declared lost, old ones and new ones
	From    int64    // Propose: the slot the change shall count from, or later; a ring after the newest
	Round   uint64   // Promised: the round
	Node    NodeID   // Promised, DeclaredLost: the member
	Highest int64    // Promised: the highest epoch it ever admitted, NoEpoch if none
}

// A ChangeEventKind says what happened.
type ChangeEventKind uint8

// The events.
const (
	Propose      ChangeEventKind = iota + 1 // the operator commits a plan
	Promised                                // a member has promised
	DeclaredLost                            // a member needs to promise no more
	Tick                                    // time has passed
	Cancel                                  // the operator gives the change up
)

// NoEpoch is the highest epoch of who never admitted any.
const NoEpoch = -1 << 63

// A ChangeAction is what the driver has to do.
type ChangeAction struct {
	Kind ChangeActionKind
	Node NodeID // Ask: whom
	Why  string // Refuse, Withdraw: a sentence for the operator
}

// A ChangeActionKind says what there is to do, with the round and the boundary of
// the Change that Step returned.
type ChangeActionKind uint8

// The actions.
const (
	Ask      ChangeActionKind = iota + 1 // show the Change to the member, and bring its promise
	Fix                                  // append the new ring from Boundary on
	Withdraw                             // tell the operator; another round has begun, or the change is idle
	Refuse                               // the event was not taken
)

// Step takes an event that was agreed, and returns the change after it and
// what is to be done, in this order. It changes nothing of c. What is asked
// for and not answered is asked for again at the next Tick.
func (c Change) Step(t Timing, e ChangeEvent) (Change, []ChangeAction) {
	if e.Kind == Propose {
		return c.propose(t, e)
	}
	if c.Phase != Proposed {
		return c, nil
	}
	switch e.Kind {
	case Cancel:
		c.Phase, c.Waiting = Idle, nil
		return c, []ChangeAction{{Kind: Withdraw, Why: "the change was given up"}}
	case DeclaredLost:
		c.Members, c.Waiting = without(c.Members, e.Node), without(c.Waiting, e.Node)
	case Promised:
		if e.Round != c.Round || !slices.Contains(c.Members, e.Node) {
			return c, nil
		}
		if highest := slotOf(e.Highest, t.SlotSeconds); highest >= c.Boundary {
			return c.again(t, e.Now, highest+1, fmt.Sprintf("node %v had admitted epoch %d, which is past the boundary, slot %d", e.Node, e.Highest, c.Boundary))
		}
		c.Waiting = without(c.Waiting, e.Node)
	}
	if t.reached(c.Boundary, e.Now) {
		return c.again(t, e.Now, c.Boundary+1, fmt.Sprintf("slot %d became admissible before all had promised: still waiting for %s", c.Boundary, c.WaitingFor(NodeID.String)))
	}
	if len(c.Waiting) == 0 {
		c.Phase = Fixed
		return c, []ChangeAction{{Kind: Fix}}
	}
	if e.Kind == Tick {
		return c, c.ask()
	}
	return c, nil
}

func (c Change) propose(t Timing, e ChangeEvent) (Change, []ChangeAction) {
	if c.Phase == Proposed {
		return c, []ChangeAction{{Kind: Refuse, Why: fmt.Sprintf(
			"a change is pending, for slot %d, and waits for %s; wait until it is fixed, or cancel it", c.Boundary, c.WaitingFor(NodeID.String))}}
	}
	members := slices.Compact(slices.SortedFunc(slices.Values(e.Members), NodeID.Compare))
	if len(members) == 0 {
		return c, []ChangeAction{{Kind: Refuse, Why: "a change needs a member to prepare it"}}
	}
	boundary := max(e.From, t.Boundary(e.Now))
	if c.Phase == Fixed {
		boundary = max(boundary, c.Boundary) // a ring has to be later; what else is changed need not
	}
	c = Change{c.Round + 1, Proposed, boundary, members, members}
	return c, c.ask()
}

// again withdraws the proposal and makes it again, not before the slot.
func (c Change) again(t Timing, now, slot int64, why string) (Change, []ChangeAction) {
	c = Change{c.Round + 1, Proposed, max(slot, t.Boundary(now)), c.Members, c.Members}
	return c, append([]ChangeAction{{Kind: Withdraw, Why: why}}, c.ask()...)
}

func (c Change) ask() (actions []ChangeAction) {
	for _, id := range c.Waiting {
		actions = append(actions, ChangeAction{Kind: Ask, Node: id})
	}
	return actions
}

// WaitingFor lists whose promises are missing, by name: a silent member holds
// a change up until it returns or is declared lost.
func (c Change) WaitingFor(name func(NodeID) string) string {
	if len(c.Waiting) == 0 {
		return "nobody"
	}
	var names []string
	for _, id := range c.Waiting {
		names = append(names, name(id))
	}
	return strings.Join(names, ", ")
}

func without(ids []NodeID, id NodeID) []NodeID {
	return slices.DeleteFunc(slices.Clone(ids), func(other NodeID) bool { return other == id })
}

// slotOf returns epoch / slotSeconds, rounded down.
func slotOf(epoch, slotSeconds int64) int64 {
	slot := epoch / slotSeconds
	if epoch < slot*slotSeconds {
		slot--
	}
	return slot
}
