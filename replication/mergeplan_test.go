package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// describe tells a plan in a line.
func describe(tasks []MergeTask) string {
	var all []string
	for _, t := range tasks {
		var words []string
		for _, l := range t.Lanes {
			words = append(words, fmt.Sprint(l.Bucket, "@", l.Slot))
		}
		for _, d := range t.Clear {
			if d.All {
				words = append(words, "clear all")
			} else {
				words = append(words, fmt.Sprint("clear ", d.Slot))
			}
		}
		for _, h := range t.Horizons {
			words = append(words, fmt.Sprint("horizon ", h.Bucket, " ", h.Horizon))
		}
		if t.Vouch {
			words = append(words, fmt.Sprint("vouch ", t.Since, " ", t.Plain))
		}
		all = append(all, strings.Join(words, ", "))
	}
	return strings.Join(all, "; ")
}

// survey is what a node has in the bucket events, and in notes if it is said to.
func survey(since int64, plain bool, notes bool, slots ...int64) Survey {
	s := Survey{Since: since, Plain: plain}
	s.Buckets = append(s.Buckets, SurveyedBucket{Type: bucket.DefaultType, Name: bucket.Events, Timed: true, Slots: slots})
	if notes {
		s.Buckets = append(s.Buckets, SurveyedBucket{Type: bucket.DefaultType, Name: "notes", Slots: []int64{-1}})
	}
	return s
}

// planView is a view of three nodes' only partition, from the first's place, with
// the surveys of the others; nil is one that was not reached.
func planView(t *testing.T, own Survey, doubts []Doubt, others ...*Survey) *MergeView {
	nodes := []int{0}
	for i := range others {
		nodes = append(nodes, i+1)
	}
	h := testHistoryOf(t, 1, len(nodes), nodes...)
	owners := h.Newest().Owners(ring.Partition{})
	v := &MergeView{Self: owners[0], History: h, Own: own, Doubts: doubts, Others: map[ring.NodeID]*Survey{}, Buckets: bucket.DefaultSet(), Lost: nobodyLost}
	for i, s := range others {
		if s != nil {
			v.Others[owners[i+1]] = s
		}
	}
	return v
}

func nobodyLost(ring.NodeID) bool { return false }

// TestPlanAmongLost: who was declared lost is not waited for, nor asked. Two of three
// owners can be all that are left, one of them in doubt.
func TestPlanAmongLost(t *testing.T) {
	old := survey(0, true, false, 5)
	v := planView(t, survey(0, true, false, 5), []Doubt{{Bucket: uint64(bucket.IDOf(bucket.DefaultType, bucket.Events)), Slot: 5}}, &old, nil)
	lost := v.everyone()[1]
	if v.Others[lost] != nil {
		t.Fatal("the wrong one is lost")
	}
	lane := Lane{Type: bucket.DefaultType, Bucket: bucket.Events, Timed: true, Slot: 5}
	props := v.Buckets.Lookup(lane.Type, lane.Bucket)
	if p := v.party(&props, 5); p.regains(1<<1, 1<<1) {
		t.Error("one of two others is enough, and the second may come back")
	}
	v.Lost = func(id ring.NodeID) bool { return id == lost }
	if p := v.party(&props, 5); !p.regains(1<<1, 1<<1) || p.regains(0, 0) {
		t.Error("the only other owner that is not lost was asked, and this is not enough; or is not needed")
	}
	if got := v.everyone(); len(got) != 1 || got[0] == lost {
		t.Errorf("asked are %v, lost is %v", got, lost)
	}
	if !v.Reachable() {
		t.Error("not to be reached")
	}
}

func TestPlan(t *testing.T) {
	events := uint64(bucket.IDOf(bucket.DefaultType, bucket.Events))
	doubt := func(slot int64) Doubt { return Doubt{Bucket: events, Slot: slot} }
	for _, c := range []struct {
		claim  string
		own    Survey
		doubts []Doubt
		a, b   *Survey // the others; nil: not reached
		want   string
	}{
		{"nothing in doubt, nothing to do", survey(0, true, true, 5), nil, new(survey(0, true, true, 5)), nil, ""},
		{"one doubted slot is merged and cleared", survey(0, true, false, 5), []Doubt{doubt(5)}, new(survey(0, true, false)), new(survey(0, true, false)), "events@5, clear 5"},
		{"whether it can be, its merge will tell", survey(0, true, false), []Doubt{doubt(5)}, nil, nil, "events@5, clear 5"},
		{"a new node takes the newest slot first, then vouches for it", survey(9, false, false, 8), nil, new(survey(0, true, true, 3, 7)), new(survey(0, true, false, 7)),
			"events@8, vouch 8 false; events@7, vouch 7 false; events@3, vouch 3 false; notes@-1; vouch 0 true"},
		{"slots it vouches for already are left alone", survey(7, false, false, 8), nil, new(survey(0, true, false, 7, 9)), new(survey(0, true, false)), "; vouch 0 true"},
		{"a doubted one before its time is merged once", survey(9, true, false, 8), []Doubt{doubt(8)}, new(survey(0, true, false)), new(survey(0, true, false)), "events@8, clear 8, vouch 8 true; vouch 0 true"},
		{"with one of two away nothing is vouched for", survey(9, false, false, 8), nil, new(survey(0, true, false, 7)), nil, ""},
		{"with one of two away, the other's word counts as far as it goes", survey(9, true, false), []Doubt{doubt(12)}, new(survey(0, true, false, 7)), nil, "events@12, clear 12"},
		{"two that vouch for nothing are all there are", survey(9, true, false), nil, new(survey(9, false, false, 4)), new(survey(9, false, false)), "events@4, vouch 4 true; vouch 0 true"},
		{"after a doubt about everything nothing is vouched for before the end", survey(0, true, true, 5), []Doubt{{All: true}}, new(survey(0, true, false, 4)), new(survey(0, true, false)),
			"events@5; events@4; notes@-1; clear all, vouch 0 true"},
		{"a bucket that nobody can name stays in doubt", survey(0, true, false), []Doubt{{Bucket: 1, Slot: 5}}, new(survey(0, true, false)), new(survey(0, true, false)), ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			v := planView(t, c.own, c.doubts, c.a, c.b)
			if got := describe(v.Plan()); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
		})
	}
}

// TestPlanNeedsEnoughForWhatIsNotListed: slots of which nobody has anything are
// vouched for by the same rule.
func TestPlanNeedsEnoughForWhatIsNotListed(t *testing.T) {
	set, err := bucket.DefaultSet().Declare(bucket.Declaration{Name: bucket.Events, N: new(5), W: new(3)}, bucket.Declaration{Name: bucket.Epochs, N: new(5), W: new(3)})
	if err != nil {
		t.Skip(err) // the set has other rules
	}
	whole, late := survey(0, true, false, 5), survey(6, true, false, 5)
	for _, c := range []struct {
		claim  string
		others []*Survey
		want   string
	}{
		{"three of four vouch, one is away", []*Survey{nil, &whole, &whole, &whole, nil}, "events@5, vouch 5 true; vouch 0 true"},
		{"two of four vouch, one is away", []*Survey{nil, &whole, &whole, &late, nil}, ""},
		{"two of four vouch, all are there", []*Survey{nil, &whole, &whole, &late, &late}, "events@5, vouch 5 true; vouch 0 true"},
	} {
		v := planView(t, survey(9, true, false), nil, c.others[1:]...)
		v.Buckets = set
		if got := describe(v.Plan()); got != c.want {
			t.Errorf("%s: plan %q, want %q", c.claim, got, c.want)
		}
	}
}

// TestPlanTakesHorizons: a newcomer takes the greatest drop horizon of each
// bucket before it vouches for what is below it.
func TestPlanTakesHorizons(t *testing.T) {
	a, b := survey(0, true, false), survey(0, true, false)
	a.Buckets[0].Horizon, b.Buckets[0].Horizon = 7200, 3600
	v := planView(t, survey(9, true, false), nil, &a, &b)
	if got := describe(v.Plan()); got != "horizon events 7200, vouch 0 true" {
		t.Errorf("plan %q", got)
	}
	w := newSyncWorld(t)
	w.fill("all", 1, 2)
	w.nodes[0].wipe(9_999) // all slots with data but the oldest are after it
	w.nodes[1].horizons[bucket.Events] = 7200
	delete(w.nodes[1].lanes, Lane{Type: bucket.DefaultType, Bucket: bucket.Events, Timed: true, Slot: 9_998})
	w.rounds(w.merger(0))
	if n := w.nodes[0]; n.InDoubt(ring.Partition{}) || n.disk.horizons[bucket.Events] != 7200 {
		t.Errorf("since %d, horizon %d", n.since, n.disk.horizons[bucket.Events])
	}
}

// TestFailedSlotIsNotVouchedFor: what could not be merged stays out, and so does
// what lies behind it; doubts of their own are cleared all the same.
func TestFailedSlotIsNotVouchedFor(t *testing.T) {
	for _, all := range []bool{false, true} {
		w := newSyncWorld(t)
		w.fill("all", 1, 2)
		n := w.nodes[0]
		if n.wipe(10_002); all {
			n.since, n.plain, n.doubts = 0, true, []Doubt{{All: true}}
		}
		n.refuses = func(l Lane) *object.Error {
			if l.Slot == 9_999 {
				return object.Errorf(object.CodeDisk, object.NotDone, "a bad sector")
			}
			return nil
		}
		m := w.merger(0)
		w.rounds(m)
		switch {
		case all && len(n.doubts) != 1:
			t.Error("a doubt about everything was cleared although one slot failed")
		case !all && n.since != 10_000:
			t.Errorf("it vouches from slot %d on", n.since)
		}
		if m.Stats().LanesFailed == 0 {
			t.Errorf("%+v", m.Stats())
		}
		n.refuses = nil
		w.rounds(m)
		if n.InDoubt(ring.Partition{}) {
			t.Errorf("all %v: in doubt after the disk was mended: since %d, plain %v, %v", all, n.since, n.plain, n.doubts)
		}
	}
}

// TestPlanAcrossRings: what is vouched for goes back over the slots of each ring only
// if enough of its owners vouch for them.
func TestPlanAcrossRings(t *testing.T) {
	h := testHistory(t, 1, 0, 1, 2)
	self := nodeID(0)
	var nodes []ring.Node
	for _, i := range []int{0, 3, 4} {
		nodes = append(nodes, ring.Node{ID: nodeID(i), Name: fmt.Sprint("n", i), Weight: 1})
	}
	r, _, err := ring.Claim(nodes, 0, 3, h.Newest())
	if err != nil {
		t.Fatal(err)
	}
	if h, err = h.Append(ring.Version{Index: 2}, 10, r); err != nil {
		t.Fatal(err)
	}
	if h, err = h.Complete(ring.Version{Index: 3}, ring.Completion{Node: nodeID(3), Plain: true}, ring.Completion{Node: nodeID(4), Plain: true}); err != nil {
		t.Fatal(err)
	}
	older, newer := survey(0, true, false, 5), survey(0, true, false, 12)
	late := survey(11, true, false, 12)
	for _, c := range []struct {
		claim  string
		others map[ring.NodeID]*Survey
		want   string
	}{
		{"all are there", map[ring.NodeID]*Survey{nodeID(1): &older, nodeID(2): &older, nodeID(3): &newer, nodeID(4): &newer}, "events@12, vouch 12 true; events@5, vouch 5 true; vouch 0 true"},
		{"those of the older ring are away", map[ring.NodeID]*Survey{nodeID(3): &newer, nodeID(4): &newer}, "events@12, vouch 12 true"},
		{"those of the newer ring are away", map[ring.NodeID]*Survey{nodeID(1): &older, nodeID(2): &older}, ""},
		{"one of the newer ring is away", map[ring.NodeID]*Survey{nodeID(1): &older, nodeID(2): &older, nodeID(3): &newer}, ""},
		{"one of the newer ring is away, the other vouches from later on", map[ring.NodeID]*Survey{nodeID(1): &older, nodeID(2): &older, nodeID(3): &late}, ""},
		{"one of the older ring is away", map[ring.NodeID]*Survey{nodeID(1): &older, nodeID(3): &newer, nodeID(4): &newer}, "events@12, vouch 12 true"},
	} {
		v := &MergeView{Self: self, History: h, Own: survey(20, true, false), Others: c.others, Buckets: bucket.DefaultSet(), Lost: nobodyLost}
		if got := describe(v.Plan()); got != c.want {
			t.Errorf("%s: plan %q, want %q", c.claim, got, c.want)
		}
	}
}

// TestMoreSourcesThanCanBeAsked: where more nodes have something than can be asked
// at once, to have asked all that can be is not to have asked all there are.
func TestMoreSourcesThanCanBeAsked(t *testing.T) {
	props := bucket.Plain(bucket.DefaultType, "notes")
	for _, rings := range []int{8, 9} {
		h := testHistory(t, 0, 0, 1, 2)
		for i := 1; i < rings; i++ {
			var nodes []ring.Node
			for j := range 3 {
				nodes = append(nodes, ring.Node{ID: nodeID(3*i + j), Name: fmt.Sprint("n", 3*i+j), Weight: 1})
			}
			r, _, err := ring.Claim(nodes, 0, 3, h.Newest())
			if err != nil {
				t.Fatal(err)
			}
			if h, err = h.Append(ring.Version{Index: uint64(1 + i)}, int64(10*i), r); err != nil {
				t.Fatal(err)
			}
		}
		c := castOf(h, &props, ring.Partition{}, 0)
		p := c.partyOf(h.Newest().Owners(ring.Partition{})[0], nobodyLost)
		all := uint32(2)<<len(p.others) - 2
		if want := 3*rings <= maxAsked; p.regains(all, 0) != want || p.suffices(all, 0, true) != want {
			t.Errorf("%d of %d nodes asked: regains %v, suffices %v", 1+len(p.others), 3*rings, p.regains(all, 0), p.suffices(all, 0, true))
		}
	}
}

// TestTwoPlaces: A left a slot, D taking its place, and came back in the place of B
// and took over from it. In the row before D it answers for both places.
func TestTwoPlaces(t *testing.T) {
	props := bucket.Properties{Type: "t", Name: "b", Timed: true, N: 3, R: 3, W: 1, SmallestW: 1}
	h := testHistory(t, 0, 0, 1, 2)
	first := slices.Clone(h.Newest().Owners(ring.Partition{}))
	index := uint64(0)
	replace := func(out, in ring.NodeID) {
		t.Helper()
		index++
		var err error
		if h, _, err = h.Replace(ring.Version{Index: index}, ring.Replacement{Out: out, Reason: ring.Leaving, Until: 9, Unwritten: 9,
			Candidates: []ring.Node{{ID: in, Name: "n", Weight: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	replace(first[0], nodeID(3))
	replace(first[1], first[0])
	h, err := h.Complete(ring.Version{Index: index + 1}, ring.Completion{Node: first[0], Until: 9})
	if err != nil {
		t.Fatal(err)
	}
	c := castOf(h, &props, ring.Partition{}, 5)
	all := uint32(1)<<len(c.nodes) - 1
	if want := []ring.NodeID{nodeID(3), first[0], first[2]}; !slices.Equal(c.nodes, want) || len(c.earlier) != 1 {
		t.Fatalf("asked are %v, want %v, under %d rows before", c.nodes, want, len(c.earlier))
	}
	if !c.proves(all) || !c.earlier[0].reads(all, 0) {
		t.Error("all of them prove nothing")
	}
	for i := range c.nodes[1:] {
		if without := all &^ (2 << i); c.proves(without) || c.earlier[0].reads(without, 0) {
			t.Errorf("without %v an absence is proved", c.nodes[1+i])
		}
	}
}
