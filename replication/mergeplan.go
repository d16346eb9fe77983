package replication

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// A Survey is what a node says of its part of a partition.
type Survey = struct {
	All     bool  // it doubts everything
	Since   int64 // it vouches for the slots of timed buckets from this one on; 0 all
	Plain   bool  // it vouches for plain buckets
	Born    int64 // when its vnode was made, Unix seconds by its own clock; 0: long ago
	Buckets []SurveyedBucket
}

// A SurveyedBucket is one bucket in a Survey: one that is declared, or of which
// something is stored.
type SurveyedBucket = struct {
	Type, Name string
	Timed      bool
	Horizon    int64   // drop horizon; 0 in a plain bucket
	Slots      []int64 // with something stored or in doubt, ascending; -1 in a plain bucket
}

// A Doubt is one slot for which a node's own replica is not complete, beyond
// what its Survey says.
type Doubt struct {
	Bucket uint64 // bucket id
	Slot   int64  // -1 in a plain bucket
	All    bool   // everything, instead
	Reason string
	Token  any // the storage's own, given back to clear it
}

// A MergeView is what is known when a partition is to be made complete.
type MergeView struct {
	Partition ring.Partition
	Self      ring.NodeID
	History   *ring.History
	Own       Survey
	Doubts    []Doubt
	Others    map[ring.NodeID]*Survey // of those that were reached
	Buckets   *bucket.Set
	Oldest    int64 // slot; what was before has expired

	// Lost reports whether a node was declared lost for good.
	Lost func(ring.NodeID) bool
}

// A MergeTask is one step on the way: when all its lanes are regained, its
// doubts may be cleared, and Since and Plain be vouched for.
type MergeTask struct {
	Lanes []Lane
	Clear []Doubt
	Vouch bool // for the two that follow
	Since int64
	Plain bool

	// Needed: nothing behind it may be vouched for unless this is done.
	Needed bool
	// Horizons of buckets that must be taken over first.
	Horizons []MergeHorizon
}

// A MergeHorizon is a drop horizon that another replica has.
type MergeHorizon struct {
	Type, Bucket string
	Horizon      int64
}

// nothingVouched is a Since that covers no slot.
const nothingVouched = int64(math.MaxInt64)

// Plan returns what is to be done to make this node's replica of the partition
// complete, in the order to do it, newest slots first: those readers wait for. It
// is pure. What too few other owners were reached for, or are complete for, is left
// out.
//
// Slots of which no owner has anything need no walk; that they may be vouched
// for follows from the same rule as for the others, see [Merge]: enough others
// vouch for them, or all others were reached. Who owns differs from slot to slot;
// of slots in which this node is neither owner nor source nobody asks it, and it
// vouches for them without further ado. Should an amendment give it a place there
// later, it is a newcomer by that.
func (v *MergeView) Plan() (tasks []MergeTask) {
	doubted := make(map[int64][]Doubt)
	var all []Doubt
	for _, d := range v.Doubts {
		if d.All {
			all = append(all, d)
			continue
		}
		doubted[d.Slot] = append(doubted[d.Slot], d)
	}
	since, plain := v.Own.Since, v.Own.Plain
	if len(all) > 0 {
		since, plain = nothingVouched, false
	}
	named := v.named()
	slots := v.slots(since)
	maps.DeleteFunc(slots, func(slot int64, _ bool) bool { return slot < v.Oldest })
	for slot := range doubted {
		if slot >= 0 {
			slots[slot] = true
		}
	}
	for slot := range v.spans() { // what is vouched for goes back over them, listed or not
		if slot < since {
			slots[slot] = true
		}
	}
	stepwise, blocked := len(all) == 0, false // after a doubt about everything nothing is vouched for before the end
	for _, slot := range slices.Backward(slices.Sorted(maps.Keys(slots))) {
		t := MergeTask{Clear: doubted[slot]}
		if slot < since && !blocked {
			blocked = !v.enough(slot, func(s *Survey) bool { return !s.All && s.Since <= slot })
		}
		if slot < since && !blocked {
			t.Lanes, t.Needed = v.lanes(slot), true
			t.Vouch, t.Since, t.Plain = stepwise, slot, v.Own.Plain
		}
		if len(t.Lanes)+len(t.Clear) > 0 {
			tasks = append(tasks, v.withDoubted(t, named))
		}
	}
	if !plain || len(doubted[-1]) > 0 {
		t := MergeTask{Clear: doubted[-1]}
		if !plain {
			t.Lanes, t.Needed = v.lanes(-1), true
		}
		tasks = append(tasks, v.withDoubted(t, named))
	}
	if since == 0 && plain {
		return tasks
	}
	if blocked || !v.enough(-1, func(s *Survey) bool { return !s.All && s.Plain }) {
		return tasks
	}
	return append(tasks, MergeTask{Clear: all, Vouch: true, Plain: true, Horizons: v.horizons()})
}

// named returns the buckets that anybody can name, by id.
func (v *MergeView) named() map[uint64]SurveyedBucket {
	named := make(map[uint64]SurveyedBucket)
	for p := range v.Buckets.All() {
		named[uint64(p.ID())] = SurveyedBucket{Type: p.Type, Name: p.Name, Timed: p.Timed}
	}
	for b := range v.buckets() {
		named[uint64(bucket.IDOf(b.Type, b.Name))] = *b
	}
	return named
}

// buckets yields the buckets of all surveys.
func (v *MergeView) buckets() func(yield func(*SurveyedBucket) bool) {
	return func(yield func(*SurveyedBucket) bool) {
		for _, s := range v.surveys() {
			for i := range s.Buckets {
				if !yield(&s.Buckets[i]) {
					return
				}
			}
		}
	}
}

// surveys returns all that there are, this node's first.
func (v *MergeView) surveys() []*Survey {
	all := []*Survey{&v.Own}
	for _, id := range slices.SortedFunc(maps.Keys(v.Others), ring.NodeID.Compare) {
		all = append(all, v.Others[id])
	}
	return all
}

// slots returns the slots before since of which anybody has something.
func (v *MergeView) slots(since int64) map[int64]bool {
	slots := make(map[int64]bool)
	for b := range v.buckets() {
		for _, slot := range b.Slots {
			if b.Timed && slot < since {
				slots[slot] = true
			}
		}
	}
	return slots
}

// lanes returns the lanes of a slot of which anybody has something, and which are
// this node's affair.
func (v *MergeView) lanes(slot int64) (lanes []Lane) {
	for b := range v.buckets() {
		l := Lane{Type: b.Type, Bucket: b.Name, Timed: b.Timed, Partition: v.Partition, Slot: slot}
		if slices.Contains(b.Slots, slot) && !slices.Contains(lanes, l) && v.concerns(l) {
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, compareLanes)
	return lanes
}

// allLanes returns the lanes of several slots, newest first.
func (v *MergeView) allLanes(slots map[int64]bool) (lanes []Lane) {
	for _, slot := range slices.Backward(slices.Sorted(maps.Keys(slots))) {
		lanes = append(lanes, v.lanes(slot)...)
	}
	return lanes
}

// withDoubted adds the lanes of a task's doubts. A doubt about a bucket that
// nobody can name stays.
func (v *MergeView) withDoubted(t MergeTask, named map[uint64]SurveyedBucket) MergeTask {
	t.Clear = slices.Clone(t.Clear)
	t.Clear = slices.DeleteFunc(t.Clear, func(d Doubt) bool {
		b, known := named[d.Bucket]
		l := Lane{Type: b.Type, Bucket: b.Name, Timed: b.Timed, Partition: v.Partition, Slot: d.Slot}
		if known && !slices.Contains(t.Lanes, l) && v.concerns(l) {
			t.Lanes = append(t.Lanes, l)
		}
		return !known
	})
	return t
}

// horizons returns the greatest drop horizon of each bucket.
func (v *MergeView) horizons() (all []MergeHorizon) {
	for b := range v.buckets() {
		if b.Horizon == 0 {
			continue
		}
		i := slices.IndexFunc(all, func(h MergeHorizon) bool { return h.Type == b.Type && h.Bucket == b.Name })
		if i < 0 {
			all = append(all, MergeHorizon{b.Type, b.Name, b.Horizon})
			continue
		}
		all[i].Horizon = max(all[i].Horizon, b.Horizon)
	}
	slices.SortFunc(all, func(a, b MergeHorizon) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Bucket, b.Bucket))
	})
	return all
}

// enough applies the rule to what no owner listed of a slot, or of plain data if
// that is -1, in every bucket there is or may be: enough others vouch for it, or
// all others were reached.
func (v *MergeView) enough(slot int64, vouches func(*Survey) bool) bool {
	return v.every(slot, func(p *party) bool {
		if !p.member {
			return true // not this node's
		}
		reached, complete := v.heard(p, vouches)
		return p.regains(reached, complete)
	})
}

// every reports whether something holds for the party of each bucket that may have
// the slot, or plain data if that is -1.
func (v *MergeView) every(slot int64, holds func(*party) bool) bool {
	for props := range v.Buckets.All() {
		if props.Timed != (slot >= 0) {
			continue
		}
		if p := v.party(&props, slot); !holds(&p) {
			return false
		}
	}
	if slot >= 0 {
		return true
	}
	undeclared := bucket.Plain(bucket.DefaultType, "any")
	p := v.party(&undeclared, slot)
	return holds(&p)
}

// heard returns the sides of a party that were reached, and of them those that
// vouch.
func (v *MergeView) heard(p *party, vouches func(*Survey) bool) (reached, complete uint32) {
	for i, id := range p.others {
		if s := v.Others[id]; s != nil {
			reached |= 2 << i
			if vouches(s) {
				complete |= 2 << i
			}
		}
	}
	return reached, complete
}

// party returns whom this node is one of in a slot of a bucket, or of a plain
// bucket.
func (v *MergeView) party(props *bucket.Properties, slot int64) party {
	r := v.History.Newest()
	if props.Timed {
		r = v.History.At(slot)
	}
	if r.Bits() != v.Partition.Bits {
		return party{quorums: make([]Quorum, 1)} // the slot has other partitions
	}
	c := castOf(v.History, props, v.Partition, slot)
	p := c.partyOf(v.Self, v.Lost)
	p.never = !props.Timed && c.earlier != nil && v.otherSizes()
	return p
}

// otherSizes reports whether some ring has partitions of another size. Plain data is
// not handed over between such.
func (v *MergeView) otherSizes() bool {
	for _, r := range v.History.All() {
		if r.Bits() != v.Partition.Bits {
			return true
		}
	}
	return false
}

// concerns reports whether this node is owner or source of a lane.
func (v *MergeView) concerns(l Lane) bool {
	props := v.Buckets.Lookup(l.Type, l.Bucket)
	if props.Timed != l.Timed {
		return false
	}
	p := v.party(&props, l.Slot)
	return p.member
}

// spans yields a slot of each stretch with the same owners, as far as it has not
// expired.
func (v *MergeView) spans() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		at, have := v.Oldest, false
		for from := range v.History.All() {
			if from > v.Oldest {
				if have && !yield(at) {
					return
				}
				at = from
			}
			have = true
		}
		yield(at)
	}
}

// everyone returns the other nodes that are owners or sources of the partition in
// some slot that has not expired, or of plain data, and not lost.
func (v *MergeView) everyone() (ids []ring.NodeID) {
	add := func(nodes []ring.NodeID) {
		for _, id := range nodes {
			if id != v.Self && !slices.Contains(ids, id) && !v.Lost(id) {
				ids = append(ids, id)
			}
		}
	}
	if r := v.History.Newest(); r.Bits() == v.Partition.Bits {
		add(r.Owners(v.Partition))
		add(v.History.PlainSources(v.Partition))
	}
	for slot := range v.spans() {
		if r := v.History.At(slot); r.Bits() == v.Partition.Bits {
			add(r.Owners(v.Partition))
			add(v.History.Sources(slot, v.Partition))
		}
	}
	return ids
}

// doubted reports whether this node may have lost something of a lane.
func (v *MergeView) doubted(l Lane) bool {
	id := uint64(bucket.IDOf(l.Type, l.Bucket))
	return slices.ContainsFunc(v.Doubts, func(d Doubt) bool { return d.All || d.Bucket == id && d.Slot == l.Slot })
}

// lanesOf returns the lanes of what this node is a newcomer of, newest slot first.
func (v *MergeView) lanesOf(c *ring.Completion) []Lane {
	if c.Plain {
		return v.lanes(-1)
	}
	slots := v.slots(c.Until)
	maps.DeleteFunc(slots, func(slot int64, _ bool) bool { return slot < max(c.From, v.Oldest) })
	return v.allLanes(slots)
}

// takenOver reports whether, all lanes that anybody listed being merged, this node
// has everything of what it is a newcomer of: whether those that were reached
// suffice for what nobody listed, and it has lost nothing of it itself.
func (v *MergeView) takenOver(c *ring.Completion) bool {
	holds := func(slot int64, vouches func(*Survey) bool) bool {
		return !v.Own.All && vouches(&v.Own) && v.every(slot, func(p *party) bool {
			reached, complete := v.heard(p, vouches)
			return !p.member || p.suffices(reached, complete, true)
		})
	}
	if c.Plain {
		return !v.doubtsAny(func(slot int64) bool { return slot < 0 }) &&
			holds(-1, func(s *Survey) bool { return !s.All && s.Plain })
	}
	if v.doubtsAny(func(slot int64) bool { return c.From <= slot && slot < c.Until }) {
		return false
	}
	first := max(c.From, v.Oldest)
	for at := range v.spans() {
		slot := max(at, first)
		if slot < c.Until && v.History.SpanEnd(at) > first && !holds(slot, func(s *Survey) bool { return !s.All && s.Since <= slot }) {
			return false
		}
	}
	return true
}

func (v *MergeView) doubtsAny(within func(slot int64) bool) bool {
	return slices.ContainsFunc(v.Doubts, func(d Doubt) bool { return d.All || within(d.Slot) })
}

// Reachable reports whether merging can succeed at all, of some slot or of plain
// data: whether enough others were reached.
func (v *MergeView) Reachable() bool {
	may := func(slot int64) bool {
		concerned := false
		ok := v.every(slot, func(p *party) bool {
			concerned = concerned || p.member
			reached, _ := v.heard(p, func(*Survey) bool { return true })
			return !p.member || p.suffices(reached, reached, true)
		})
		return ok && concerned
	}
	if may(-1) {
		return true
	}
	for slot := range v.spans() {
		if may(slot) {
			return true
		}
	}
	return !v.History.Holds(v.Self, v.Partition) // what nobody asks about is nobody's affair
}

// bootstrapSeconds is how long after its first start a cluster counts as new.
const bootstrapSeconds = 60

// Bootstrap reports whether all owners were made just now and none has anything:
// a cluster at its first start, in which nothing can have been acknowledged and
// lost.
func (v *MergeView) Bootstrap(nowSeconds int64) bool {
	if v.History.Len() > 1 || v.History.AmendmentCount() > 0 || len(v.Others) < len(v.everyone()) {
		return false
	}
	for _, s := range v.surveys() {
		if s.Born < nowSeconds-bootstrapSeconds || s.Born > nowSeconds+bootstrapSeconds {
			return false
		}
	}
	for b := range v.buckets() {
		if len(b.Slots) > 0 {
			return false
		}
	}
	return true
}
