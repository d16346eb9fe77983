package replication

import (
	"cmp"
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
	Self      int // this node's place among the owners
	Own       Survey
	Doubts    []Doubt
	Others    []*Survey // by place; nil: not reached, or this node
	Buckets   *bucket.Set
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
// complete, in the order to do it, newest slots first: those readers wait for. It is pure. What too few other owners were reached for, or are complete for,
// is left out.
//
// Slots of which no owner has anything need no walk; that they may be vouched
// for follows from the same rule as for the others, see [Merge]: n-w+1 other
// owners vouch for them, or all others were reached.
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
	for slot := range doubted {
		if slot >= 0 {
			slots[slot] = true
		}
	}
	stepwise, blocked := len(all) == 0, false // after a doubt about everything nothing is vouched for before the end
	for _, slot := range slices.Backward(slices.Sorted(maps.Keys(slots))) {
		t := MergeTask{Clear: doubted[slot]}
		if slot < since && !blocked {
			blocked = !v.enough(func(s *Survey) bool { return !s.All && s.Since <= slot })
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
	if blocked || !v.enough(func(s *Survey) bool { return !s.All && s.Since == 0 && s.Plain }) {
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
		for _, s := range append([]*Survey{&v.Own}, v.Others...) {
			if s == nil {
				continue
			}
			for i := range s.Buckets {
				if !yield(&s.Buckets[i]) {
					return
				}
			}
		}
	}
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

// lanes returns the lanes of a slot of which anybody has something.
func (v *MergeView) lanes(slot int64) (lanes []Lane) {
	for b := range v.buckets() {
		l := Lane{Type: b.Type, Bucket: b.Name, Timed: b.Timed, Partition: v.Partition, Slot: slot}
		if slices.Contains(b.Slots, slot) && !slices.Contains(lanes, l) {
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
		if known && !slices.Contains(t.Lanes, l) {
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

// enough applies the rule to what no owner listed, in every bucket there is or
// may be: enough others vouch for it, or all others were reached.
func (v *MergeView) enough(vouches func(*Survey) bool) bool {
	ok := func(p bucket.Properties) bool {
		n, need := mergeQuorum(&p, len(v.Others))
		if v.Self >= n {
			return true // not this node's
		}
		reached, complete := 0, 0
		for i, s := range v.Others[:n] {
			if i != v.Self && s != nil {
				reached++
				if vouches(s) {
					complete++
				}
			}
		}
		return complete >= need || reached == n-1
	}
	for p := range v.Buckets.All() {
		if !ok(p) {
			return false
		}
	}
	return ok(bucket.Plain(bucket.DefaultType, "any"))
}

// mergeQuorum returns how many of a partition's owners a bucket has, and how many
// complete others one of them needs.
func mergeQuorum(p *bucket.Properties, owners int) (n, need int) {
	n, _, _ = p.For(owners)
	return n, p.AbsentQuorum(owners)
}

// Reachable reports whether merging can succeed at all: whether enough other
// owners were reached.
func (v *MergeView) Reachable() bool {
	return v.enough(func(s *Survey) bool { return true })
}

// bootstrapSeconds is how long after its first start a cluster counts as new.
const bootstrapSeconds = 60

// Bootstrap reports whether all owners were made just now and none has anything:
// a cluster at its first start, in which nothing can have been acknowledged and
// lost.
func (v *MergeView) Bootstrap(nowSeconds int64) bool {
	for i, s := range v.Others {
		if i == v.Self {
			s = &v.Own
		}
		if s == nil || s.Born < nowSeconds-bootstrapSeconds || s.Born > nowSeconds+bootstrapSeconds {
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
