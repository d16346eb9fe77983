package agreed

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Plan returns what a commit of what is staged would do, for people: from a
// slot on, or the earliest there can be if that is later. now is the caller's
// clock, seconds of Unix time. Of data, Oldest counts only if it is earlier than
// what the TTLs say, and TTLSeconds does not. Errors are *object.Error; where the
// last copy of something would go and that is not accepted, they wrap a
// *ring.LastCopyError.
func (d *Document) Plan(now int64, data ring.Data, from int64, acceptLoss bool) (*ring.Plan, error) {
	if len(d.Staged) == 0 {
		return nil, errNothingStaged()
	}
	if from > d.latest(now) {
		return nil, d.tooFar(from, now)
	}
	known := d.data(now, Commit{Oldest: data.Oldest, Gaps: data.Gaps})
	known.Timed, known.Plain = data.Timed, data.Plain
	return d.plan(d.Staged, known, max(from, d.earliest(now)), acceptLoss)
}

func errNothingStaged() error {
	return refuse(object.CodeBadRequest, "nothing is staged: ask for something first (a join, leave, replace or remove)")
}

// plan plans what is staged, the new ring to count from a slot on.
func (d *Document) plan(staged []Staged, data ring.Data, from int64, acceptLoss bool) (*ring.Plan, error) {
	w, err := d.wanted(staged)
	if err != nil {
		return nil, err
	}
	w.From, w.AcceptLoss = from, acceptLoss
	p, err := ring.NewPlan(d.History, w, data)
	if err != nil {
		return nil, refused(err)
	}
	return p, nil
}

// earliest returns the first slot that a ring committed now can count from.
func (d *Document) earliest(now int64) int64 {
	return max(d.nextBoundary(now), d.History.NewestFrom()+1)
}

// nextBoundary returns the first slot that a change proposed now can count from,
// as ring.Change has it.
func (d *Document) nextBoundary(now int64) int64 {
	slot := d.Timing().Boundary(now)
	if d.Change.Phase == ring.Fixed {
		slot = max(slot, d.Change.Boundary)
	}
	return slot
}

// wanted returns the membership that is wanted with all of what is staged.
func (d *Document) wanted(staged []Staged) (ring.Wanted, error) {
	w := ring.Wanted{Bits: d.History.Newest().Bits(), N: d.N(), Nodes: d.nodes(Valid)}
	for _, m := range d.Members {
		if m.State == Lost {
			w.Lost = append(w.Lost, m.ID)
		}
	}
	find := func(id ring.NodeID) int {
		return slices.IndexFunc(w.Nodes, func(n ring.Node) bool { return n.ID == id })
	}
	remove := func(id ring.NodeID) {
		w.Nodes = slices.DeleteFunc(w.Nodes, func(n ring.Node) bool { return n.ID == id })
	}
	add := func(id ring.NodeID) {
		m, _ := d.Member(id)
		w.Nodes = append(w.Nodes, m.Node())
	}
	for _, x := range staged {
		if err := d.checkStaged(x); err != nil {
			return ring.Wanted{}, err
		}
		switch x.Kind {
		case StageJoin:
			add(x.Node)
		case StageLeave:
			remove(x.Node)
		case StageReplace, StageLose:
			remove(x.Node)
			if x.Kind == StageLose {
				w.Lost = append(w.Lost, x.Node)
			}
			if !x.New.IsZero() {
				add(x.New)
				w.Swaps = append(w.Swaps, ring.Swap{Old: x.Node, New: x.New})
			}
		case StageFill:
			w.Fill = true
		case StagePartitions:
			w.Bits = x.Bits
		}
	}
	for _, x := range staged { // of those that stay
		if i := find(x.Node); i >= 0 && x.Kind == StageWeight {
			w.Nodes[i].Weight = x.Weight
		} else if i >= 0 && x.Kind == StageZone {
			w.Nodes[i].Zone = x.Zone
		}
	}
	if len(w.Nodes) == 0 {
		return ring.Wanted{}, refuse(object.CodeBadRequest, "nobody would be left: a cluster needs a member; let another node join first")
	}
	return w, nil
}

// data is what is known of the data: from when on there may be some, and who
// lacks what.
func (d *Document) data(now int64, c Commit) ring.Data {
	data := ring.Data{Gaps: c.Gaps}
	data.Oldest = d.oldest(now)
	if c.Oldest != 0 {
		data.Oldest = max(0, min(c.Oldest, data.Oldest))
	}
	data.TTLSeconds, _ = d.longestTTL()
	for _, m := range d.Members { // what went with who is lost already, no plan loses again
		if m.State == Lost {
			data.Gaps = append(slices.Clip(data.Gaps), ring.Gap{Node: m.ID, From: data.Oldest, Until: ring.Forever}, ring.Gap{Node: m.ID, Plain: true})
		}
	}
	return data
}

// oldest returns the first slot that may hold something that has not expired.
func (d *Document) oldest(now int64) int64 {
	oldest := max(0, d.Trimmed) // epochs before 1970 are not admitted
	if ttl, ends := d.longestTTL(); ends {
		oldest = max(oldest, d.History.SlotOf(now-d.Settings.SkewSeconds-ttl))
	}
	return oldest
}

// longestTTL returns the longest of all timed buckets, in seconds, and whether
// they all have one.
func (d *Document) longestTTL() (seconds int64, ends bool) {
	ends = true
	for p := range d.Buckets.All() {
		if p.Timed {
			seconds, ends = max(seconds, p.TTLSeconds), ends && p.TTLSeconds > 0
		}
	}
	if !ends {
		seconds = 0
	}
	return seconds, ends
}
