package main

import (
	"context"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/ring"
)

// A picture is the cluster at one moment: what is agreed, and what its members
// say of themselves.
type picture struct {
	doc     *agreed.Document
	reports map[ring.NodeID]memberReport // of members that may answer
	now     int64                        // by the clock of a member, seconds of Unix time
	most    map[dataPlace]uint64         // of stored; nil before it is asked for
}

func (r *clusterRun) look(ctx context.Context) (*picture, error) {
	d, err := r.document(ctx)
	if err != nil {
		return nil, err
	}
	return r.lookAt(ctx, d), nil
}

func (r *clusterRun) lookAt(ctx context.Context, d *agreed.Document) *picture {
	return newPicture(d, r.Reports(ctx, d), time.Now())
}

// newPicture returns a picture whose clock is the members' middle one: who looks
// may have any.
func newPicture(d *agreed.Document, reports map[ring.NodeID]memberReport, now time.Time) *picture {
	p := &picture{doc: d, reports: reports, now: now.Unix()}
	var clocks []int64
	for _, r := range reports {
		if r.err == nil {
			clocks = append(clocks, r.NowMicros/1e6)
		}
	}
	if slices.Sort(clocks); len(clocks) > 0 {
		p.now = clocks[len(clocks)/2]
	}
	return p
}

// answers tells whether a member said how it is.
func (p *picture) answers(id ring.NodeID) bool {
	r, asked := p.reports[id]
	return asked && r.err == nil
}

// unheard names the members that do not answer, and take part.
func (p *picture) unheard() (names []string) {
	for _, m := range p.doc.Members {
		if m.State.Live() && !p.answers(m.ID) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// longest returns the longest TTL of all timed buckets; forever, and no number,
// if one of them keeps everything.
func (p *picture) longest() (seconds int64, forever bool) {
	for b := range p.doc.Buckets.All() {
		if b.Timed {
			seconds, forever = max(seconds, b.TTLSeconds), forever || b.TTLSeconds == 0
		}
	}
	if forever {
		seconds = 0
	}
	return seconds, forever
}

// oldest returns the first slot that has not expired.
func (p *picture) oldest() int64 {
	ttl, forever := p.longest()
	if forever {
		return p.doc.Trimmed
	}
	return max(p.doc.Trimmed, p.doc.History.SlotOf(p.now-ttl))
}

// A dataPlace is some data: a slot's, or without timed the plain data, of a
// partition.
type dataPlace struct {
	partition ring.Partition
	timed     bool
	slot      int64
}

// stored returns how much data there is, one copy: what the member that has most
// of it says, for all should have the same.
func (p *picture) stored() map[dataPlace]uint64 {
	if p.most == nil {
		p.most = map[dataPlace]uint64{}
		for _, r := range p.reports {
			addStored(p.most, r.Stored, p.oldest())
		}
	}
	return p.most
}

// addStored raises what is in each place to what a member stores there.
func addStored(most map[dataPlace]uint64, stored []proto.Stored, oldest int64) {
	for _, s := range stored {
		if s.Plain > 0 {
			at := dataPlace{partition: s.Partition}
			most[at] = max(most[at], s.Plain)
		}
		for _, t := range s.Timed {
			if t.Slot >= oldest {
				at := dataPlace{s.Partition, true, t.Slot}
				most[at] = max(most[at], t.Bytes)
			}
		}
	}
}

// maxPlanGaps bounds what a commit tells of gaps: it has to fit a frame.
const maxPlanGaps = 8192

// data returns what is known of the data, for a plan. What a member cannot be
// asked about it is taken to lack: nothing rests upon who does not answer. Of one
// that is to be declared lost it is taken to have it: that is what goes.
func (p *picture) data() ring.Data {
	d := ring.Data{Oldest: p.oldest()}
	d.TTLSeconds, _ = p.longest()
	for at, bytes := range p.stored() {
		b := ring.Bytes{Slot: at.slot, Partition: at.partition, Bytes: bytes}
		if at.timed {
			d.Timed = append(d.Timed, b)
		} else {
			d.Plain = append(d.Plain, b)
		}
	}
	for _, list := range [][]ring.Bytes{d.Timed, d.Plain} {
		slices.SortFunc(list, func(a, b ring.Bytes) int {
			if a.Slot != b.Slot {
				return int(max(-1, min(1, a.Slot-b.Slot)))
			}
			return a.Partition.Compare(b.Partition)
		})
	}
	for _, m := range p.doc.Members {
		switch r := p.reports[m.ID]; {
		case !m.State.Live():
		case !p.answers(m.ID) && slices.ContainsFunc(p.doc.Staged, func(s agreed.Staged) bool { return s.Kind == agreed.StageLose && s.Node == m.ID }):
		case !p.answers(m.ID):
			d.Gaps = append(d.Gaps, everything(m.ID, d.Oldest)...)
		default:
			for _, g := range r.Gaps {
				d.Gaps = append(d.Gaps, ring.Gap{Node: m.ID, Partition: g.Partition, Plain: g.Plain, From: g.From, Until: g.Until})
			}
		}
	}
	d.Gaps = coarse(d.Gaps, d.Oldest)
	return d
}

// everything is gaps of a node that has nothing for certain.
func everything(node ring.NodeID, oldest int64) []ring.Gap {
	return []ring.Gap{{Node: node, From: oldest, Until: ring.Forever}, {Node: node, Plain: true}}
}

// coarse returns gaps that hold all of these and are not too many: the nodes with
// the most are said to lack everything.
func coarse(gaps []ring.Gap, oldest int64) []ring.Gap {
	for len(gaps) > maxPlanGaps {
		count, worst := map[ring.NodeID]int{}, ring.NodeID{}
		for _, g := range gaps {
			if count[g.Node]++; count[g.Node] > count[worst] {
				worst = g.Node
			}
		}
		if count[worst] <= 2 {
			break
		}
		gaps = slices.DeleteFunc(slices.Clone(gaps), func(g ring.Gap) bool { return g.Node == worst })
		gaps = append(gaps, everything(worst, oldest)...)
	}
	return gaps
}

// A shortage is data of which there are fewer copies than wanted: what is whole on
// a member that answers counts.
type shortage struct {
	Partitions int    `json:"partitions"` // each counted once for all slots
	Slots      int    `json:"slots"`      // of timed data, each counted once for all partitions
	Bytes      uint64 `json:"bytes"`      // of one copy, as far as known
}

// shortages returns what has fewer copies than wanted, and of that, what has
// none that is known to be whole.
func (p *picture) shortages() (short, none shortage) {
	type seen struct {
		partitions map[ring.Partition]bool
		slots      map[int64]bool
	}
	sets := [2]seen{{map[ring.Partition]bool{}, map[int64]bool{}}, {map[ring.Partition]bool{}, map[int64]bool{}}}
	count := func(s *shortage, set seen, at dataPlace, bytes uint64) {
		set.partitions[at.partition] = true
		if at.timed {
			set.slots[at.slot] = true
		}
		s.Partitions, s.Slots, s.Bytes = len(set.partitions), len(set.slots), s.Bytes+bytes
	}
	for at, bytes := range p.stored() {
		switch copies, wanted := p.copies(at); {
		case copies >= wanted:
		case copies == 0:
			count(&none, sets[1], at, bytes)
			fallthrough
		default:
			count(&short, sets[0], at, bytes)
		}
	}
	return short, none
}

// A silence is partitions of which too few owners answer, of the ring of now.
type silence struct {
	Most int `json:"no_majority"` // partitions of which most owners do not answer
	All  int `json:"no_owner"`    // of these: none answers
}

// silence counts the partitions whose owners do not answer.
func (p *picture) silence() (s silence) {
	r := p.doc.History.At(p.doc.History.SlotOf(p.now))
	for part := range r.Partitions() {
		up := 0
		for _, id := range r.Owners(part) {
			if p.answers(id) {
				up++
			}
		}
		if up <= r.N()/2 {
			s.Most++
		}
		if up == 0 {
			s.All++
		}
	}
	return s
}

// copies returns how many members that answer have all of some data for certain,
// and how many should.
func (p *picture) copies(at dataPlace) (have, wanted int) {
	h := p.doc.History
	r, piece := p.ringOf(at)
	var newcomers, sources []ring.NodeID
	if at.timed {
		newcomers, sources = h.Newcomers(at.slot, piece), h.Sources(at.slot, piece)
	} else {
		newcomers, sources = h.PlainNewcomers(piece), h.PlainSources(piece)
	}
	for _, id := range append(slices.Clone(r.Owners(piece)), sources...) {
		if !slices.Contains(newcomers, id) && p.whole(id, at) {
			have++
		}
	}
	return have, r.N()
}

// whole tells whether a member answers and lacks nothing of some data.
func (p *picture) whole(id ring.NodeID, at dataPlace) bool {
	if !p.answers(id) {
		return false
	}
	for _, g := range p.reports[id].Gaps {
		if g.Plain != at.timed && g.Partition.Overlaps(at.partition) && (g.Plain || g.From <= at.slot && at.slot < g.Until) {
			return false
		}
	}
	return true
}

// toGet returns how much a member has still to get: as it says itself, or else what
// others have of where it is new, or has a gap, and it has not.
func (p *picture) toGet(id ring.NodeID) (bytes uint64) {
	if !p.answers(id) {
		return 0
	}
	if said := p.reports[id].Merging.BytesToGet; said > 0 {
		return said
	}
	has := map[dataPlace]uint64{}
	addStored(has, p.reports[id].Stored, p.oldest())
	for at, most := range p.stored() {
		if own := has[at]; own < most && p.needs(id, at) {
			bytes += most - own
		}
	}
	return bytes
}

// needs tells whether a member is an owner of some data that may lack some of it.
func (p *picture) needs(id ring.NodeID, at dataPlace) bool {
	r, piece := p.ringOf(at)
	if !r.Owns(id, piece) {
		return false
	}
	newcomers := p.doc.History.PlainNewcomers(piece)
	if at.timed {
		newcomers = p.doc.History.Newcomers(at.slot, piece)
	}
	return slices.Contains(newcomers, id) || !p.whole(id, at)
}

// ringOf returns the ring that some data belongs to, and its partition there: it
// was stored under another number of partitions if that is not the ring's.
func (p *picture) ringOf(at dataPlace) (*ring.Ring, ring.Partition) {
	r := p.doc.History.Newest()
	if at.timed {
		r = p.doc.History.At(at.slot)
	}
	if at.partition.Bits == r.Bits() {
		return r, at.partition
	}
	first, _ := at.partition.Range()
	return r, r.PartitionOf(first)
}

// A handing is what has still to be copied before nobody is needed any more who
// is no owner.
type handing struct {
	Moves   int      `json:"partitions"`   // partitions of rings and amendments, and of plain data, not known to be whole on a new owner
	ToGet   uint64   `json:"bytes_to_get"` // by all members, as far as they know
	Rate    uint64   `json:"bytes_per_second"`
	Leaving []string `json:"leaving"`
}

// handing returns what is still to be copied.
func (p *picture) handing() (h handing) {
	h.Leaving = []string{}
	oldest := p.oldest()
	for a := range p.doc.History.Amendments() {
		if a.Until <= oldest {
			continue
		}
		for _, m := range a.Moves {
			if m.Pending {
				h.Moves++
			}
		}
	}
	for part := range p.doc.History.Newest().Partitions() {
		h.Moves += len(p.doc.History.PlainNewcomers(part))
	}
	for id, r := range p.reports {
		if r.err == nil {
			h.ToGet += p.toGet(id)
			h.Rate += r.Merging.BytesPerSecond
		}
	}
	for _, m := range p.doc.Members {
		if m.State == agreed.Leaving {
			h.Leaving = append(h.Leaving, m.Name)
		}
	}
	return h
}

// done tells whether nothing is to be copied and nobody is leaving.
func (h handing) done() bool { return h.Moves == 0 && h.ToGet == 0 && len(h.Leaving) == 0 }
