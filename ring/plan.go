package ring

import (
	"fmt"
	"math/bits"
	"slices"
)

// Wanted is the membership that an operator asks for.
type Wanted struct {
	Nodes []Node   // of the new ring: a member that is not among them leaves
	Bits  uint8    // of the new ring
	N     int      // owners of a partition
	From  int64    // the slot it shall count from; what is fixed may be later
	Lost  []NodeID // all that are declared lost, earlier ones as well
	// Swaps name newcomers that take all places of a member that is not among
	// Nodes, in the new ring and in those of the past.
	Swaps []Swap
	// Fill gives rings of the past, made with fewer nodes, N owners as well.
	Fill bool
	// AcceptLoss plans all the same what loses the last copy of something.
	AcceptLoss bool
}

// A Swap is one node in the place of another.
type Swap struct {
	Old NodeID `json:"old"`
	New NodeID `json:"new"`
}

// A Plan says what a change of the ring does, before anybody does it. It is
// made for one history, and is data: for a table, and for JSON.
type Plan struct {
	From         int64  `json:"from_slot"`          // the first slot the new ring counts for, if it is fixed there
	BalancedFrom int64  `json:"balanced_from_slot"` // from its beginning on, all timed data is the new ring's: the rest has expired
	PartitionsOf [2]int `json:"partitions"`         // of the ring before and the new one
	OwnersOf     [2]int `json:"owners"`             // of a partition, likewise

	Nodes   []NodePlan        `json:"nodes"`   // ascending by id
	Changes []PartitionChange `json:"changes"` // of owners, ascending; partitions that keep theirs are left out
	Past    []PastChange      `json:"past"`    // owners replaced in rings that count already

	// Bytes, each copy counted.
	PlainMoves uint64 `json:"plain_bytes_moved"` // plain data, to the new owners, now
	TimedMoves uint64 `json:"timed_bytes_moved"` // timed data of leaving or lost nodes, and of rings that are filled up, now
	TimedStays uint64 `json:"timed_bytes_kept"`  // timed data that never moves and expires where it is

	Short []Shortfall    `json:"shortfalls"`     // what cannot hold
	Loss  *LastCopyError `json:"loss,omitempty"` // what is lost, if that was accepted

	wanted Wanted
	oldest int64
	ring   *Ring
}

// A NodePlan is what a plan means for a node.
type NodePlan struct {
	ID     NodeID `json:"id"`
	Name   string `json:"name"`
	Zone   string `json:"zone"`
	Weight uint32 `json:"weight"`
	Fate   Fate   `json:"fate"`
	// Partitions it owns in the ring before and in the new one, each of its own
	// number of partitions, and its fair share in the new one, which a share that
	// was kept to a rule is: see Short.
	Before int     `json:"owns_before"`
	After  int     `json:"owns_after"`
	Fair   float64 `json:"fair_share"`
	// Bytes it has to take over now.
	PlainGets uint64 `json:"plain_bytes_to_get"`
	TimedGets uint64 `json:"timed_bytes_to_get"`
}

// A Fate is what becomes of a node.
type Fate string

// The fates.
const (
	Stays     Fate = "stays"
	Joins     Fate = "joins"
	Leaves    Fate = "leaves"
	IsLost    Fate = "lost"
	IsSwapped Fate = "replaced"
)

// A PartitionChange is who owns a partition before and after, in order of
// preference. Where rings differ in bits it is of the finer one.
type PartitionChange struct {
	Partition Partition `json:"partition"`
	Before    []NodeID  `json:"before"`
	After     []NodeID  `json:"after"`
}

// A PastChange is an amendment in a plan.
type PastChange struct {
	From       int64  `json:"from_slot"`
	Until      int64  `json:"until_slot"` // the first it is not for
	Reason     Reason `json:"reason"`
	Out        NodeID `json:"out"` // zero: a ring is filled up
	Partitions int    `json:"partitions"`
	Successors int    `json:"successors"`
}

// NewPlan plans a change of the newest ring of h. The same arguments, nodes in
// any order, give the same plan everywhere. Errors wrap ErrRing, or are a
// *LastCopyError: the change would lose the last copy of something.
func NewPlan(h *History, w Wanted, d Data) (*Plan, error) {
	if last := h.entries[len(h.entries)-1].from; w.From <= last {
		return nil, fmt.Errorf("plan: from slot %d, the newest ring counts from slot %d: %w", w.From, last, ErrRing)
	}
	if err := d.validate(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	w.Nodes = sortedNodes(w.Nodes)
	w.Lost = slices.SortedFunc(slices.Values(w.Lost), NodeID.Compare)
	w.Swaps = slices.Clone(w.Swaps)
	slices.SortFunc(w.Swaps, func(a, b Swap) int { return a.Old.Compare(b.Old) })
	if err := w.validate(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	before := h.Newest()
	after, short, err := Claim(w.Nodes, w.Bits, w.N, before.swapped(w.Swaps, w.Nodes))
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p := &Plan{From: w.From, Short: short, wanted: w, oldest: d.Oldest, ring: after,
		PartitionsOf: [2]int{1 << before.bits, 1 << after.bits}, OwnersOf: [2]int{before.n, after.n}}
	next, past, err := p.commit(h, w.From)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p.Short = append(p.Short, past...)
	if loss := next.lastCopies(h, w, d); loss != nil {
		if !w.AcceptLoss {
			return nil, fmt.Errorf("plan: %w", loss)
		}
		p.Loss = loss
	}
	p.describe(h, next, d)
	return p, nil
}

func (w *Wanted) validate() error {
	index := indexOf(w.Nodes)
	for i, s := range w.Swaps {
		_, oldStays := index[s.Old]
		if _, newThere := index[s.New]; oldStays || !newThere || i > 0 && w.Swaps[i-1].Old == s.Old {
			return fmt.Errorf("node %v is to be replaced by %v: the first must leave, once, and the second be a member: %w", s.Old, s.New, ErrRing)
		}
	}
	for _, id := range w.Lost {
		if _, stays := index[id]; stays {
			return fmt.Errorf("node %v is declared lost and wanted as a member: %w", id, ErrRing)
		}
	}
	return nil
}

// swapped returns the ring with nodes in the places of others, for a claim
// that follows it.
func (r *Ring) swapped(swaps []Swap, nodes []Node) *Ring {
	if len(swaps) == 0 {
		return r
	}
	into := map[NodeID]NodeID{}
	for _, s := range swaps {
		if _, member := r.Node(s.New); !member { // it has its own places already
			into[s.Old] = s.New
		}
	}
	s := &Ring{bits: r.bits, n: r.n}
	for _, node := range r.nodes {
		if id, found := into[node.ID]; found {
			i, _ := slices.BinarySearchFunc(nodes, id, func(n Node, id NodeID) int { return n.ID.Compare(id) })
			node = nodes[i]
		}
		s.nodes = append(s.nodes, node)
	}
	s.nodes = sortedNodes(s.nodes)
	for _, block := range r.blocks {
		block = slices.Clone(block)
		for i, id := range block {
			if other, found := into[id]; found {
				block[i] = other
			}
		}
		s.blocks = append(s.blocks, block)
	}
	return s
}

// Commit returns a later history, of version v, in which the plan is carried
// out and the new ring counts from a slot on: the boundary that was fixed. h
// must be the history the plan was made for, amendments since then aside.
// Errors wrap ErrRing.
func (p *Plan) Commit(h *History, v Version, from int64) (*History, error) {
	if from < p.From {
		return nil, fmt.Errorf("commit: from slot %d, planned from slot %d: %w", from, p.From, ErrRing)
	}
	if !h.version.Before(v) {
		return nil, fmt.Errorf("commit: version %v after %v: %w", v, h.version, ErrRing)
	}
	next, _, err := p.commit(h, from)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	done := *next
	done.version = v
	return &done, nil
}

// commit is Commit with any version that is later.
func (p *Plan) commit(h *History, from int64) (next *History, short []Shortfall, err error) {
	next = h
	for _, out := range p.gone(h) {
		if p.oldest >= from {
			break
		}
		r := Replacement{Out: out, Reason: Leaving, From: p.oldest, Until: from, Unwritten: from, Candidates: p.ring.nodes}
		if i := slices.IndexFunc(p.wanted.Swaps, func(s Swap) bool { return s.Old == out }); i >= 0 {
			r.Reason, r.First = Replaced, p.wanted.Swaps[i].New
		}
		if slices.Contains(p.wanted.Lost, out) {
			r.Reason = Lost
		}
		var more []Shortfall
		if next, more, err = next.Replace(next.version.next(), r); err != nil {
			return nil, nil, err
		}
		short = append(short, more...)
	}
	if p.wanted.Fill && p.oldest < from {
		var more []Shortfall
		if next, more, err = next.Fill(next.version.next(), p.ring.n, p.oldest, from, from, p.ring.nodes); err != nil {
			return nil, nil, err
		}
		short = append(short, more...)
	}
	if next, err = next.Append(next.version.next(), from, p.ring, p.wanted.Lost...); err != nil {
		return nil, nil, err
	}
	return next, short, nil
}

// gone returns who owns anything that has not expired, and is no member of the
// new ring, ascending.
func (p *Plan) gone(h *History) (ids []NodeID) {
	for i, s := range h.spans {
		if i+1 < len(h.spans) && h.spans[i+1].from <= p.oldest {
			continue
		}
		for _, node := range s.ring.nodes {
			if _, stays := p.ring.Node(node.ID); !stays {
				ids = append(ids, node.ID)
			}
		}
	}
	slices.SortFunc(ids, NodeID.Compare)
	return slices.Compact(ids)
}

// next returns some later version.
func (v Version) next() Version { return Version{v.Era, v.Index + 1} }

// describe fills in what the operator is told.
func (p *Plan) describe(h, next *History, d Data) {
	p.BalancedFrom = p.From
	if p.oldest < p.From && d.TTLSeconds > 0 {
		p.BalancedFrom = max(p.From, h.SlotOf(p.From*h.slotSeconds-1+d.TTLSeconds)+1)
	}
	p.Changes, p.Past, p.Short = []PartitionChange{}, []PastChange{}, append([]Shortfall{}, p.Short...) // JSON has no null
	gets := map[NodeID]*NodePlan{}
	p.describeNodes(h, gets)
	before, after := h.Newest(), p.ring
	width := max(before.bits, after.bits)
	for piece := range uint32(1) << width {
		was, is := before.row(piece>>(width-before.bits)), after.row(piece>>(width-after.bits))
		if !slices.Equal(was, is) {
			p.Changes = append(p.Changes, PartitionChange{Partition{width, piece}, was, is})
		}
	}
	for _, b := range d.Plain {
		b.each(width, func(piece uint32, bytes uint64) {
			was, is := before.row(piece>>(width-before.bits)), after.row(piece>>(width-after.bits))
			for _, id := range is {
				if !slices.Contains(was, id) {
					p.PlainMoves += bytes
					gets[id].PlainGets += bytes
				}
			}
		})
	}
	for _, b := range d.Timed {
		if b.Slot < d.Oldest {
			continue
		}
		was, is := h.At(b.Slot), next.At(b.Slot)
		if b.Slot >= p.From {
			was = is
		}
		b.each(is.bits, func(piece uint32, bytes uint64) {
			for _, id := range is.row(piece) {
				if was == is || slices.Contains(was.row(piece), id) {
					p.TimedStays += bytes
					continue
				}
				p.TimedMoves += bytes
				gets[id].TimedGets += bytes
			}
		})
	}
	kept := 0 // amendments from the new ring's beginning on ended with the one before
	for _, a := range h.amendments {
		if a.From < p.From {
			kept++
		}
	}
	for _, a := range next.amendments[kept:] {
		p.Past = append(p.Past, PastChange{a.From, a.Until, a.Reason, a.Out, len(a.Moves), len(a.Nodes)})
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		n.PlainGets, n.TimedGets = gets[n.ID].PlainGets, gets[n.ID].TimedGets
	}
}

// describeNodes lists the members before and after, and those that still hold
// something.
func (p *Plan) describeNodes(h *History, gets map[NodeID]*NodePlan) {
	before, after := h.Newest(), p.ring
	add := func(node Node) {
		if gets[node.ID] == nil {
			gets[node.ID] = &NodePlan{ID: node.ID, Name: node.Name, Zone: node.Zone, Weight: node.Weight, Fate: p.fate(h, node.ID)}
		}
	}
	for _, node := range after.nodes {
		add(node)
	}
	for _, node := range before.nodes {
		add(node)
	}
	for _, s := range h.spans {
		for _, node := range s.ring.nodes {
			add(node)
		}
	}
	for _, ring := range []struct {
		r     *Ring
		count func(*NodePlan) *int
	}{{before, func(n *NodePlan) *int { return &n.Before }}, {after, func(n *NodePlan) *int { return &n.After }}} {
		for _, block := range ring.r.blocks {
			for _, id := range block {
				*ring.count(gets[id])++
			}
		}
	}
	s := newShares(after.nodes, after.bits, after.n, make([]int, len(after.nodes)))
	for i, fair := range s.fair() {
		gets[after.nodes[i].ID].Fair = fair
	}
	for _, n := range gets {
		p.Nodes = append(p.Nodes, *n)
	}
	slices.SortFunc(p.Nodes, func(a, b NodePlan) int { return a.ID.Compare(b.ID) })
}

func (p *Plan) fate(h *History, id NodeID) Fate {
	_, before := h.Newest().Node(id)
	_, after := p.ring.Node(id)
	switch {
	case slices.Contains(p.wanted.Lost, id):
		return IsLost
	case slices.ContainsFunc(p.wanted.Swaps, func(s Swap) bool { return s.Old == id }):
		return IsSwapped
	case !after:
		return Leaves
	case !before:
		return Joins
	}
	return Stays
}

// Data is what a caller knows of the data that a change is about. Bytes are of
// one copy.
type Data struct {
	Oldest     int64 // the first slot that has not expired
	TTLSeconds int64 // the longest of all timed buckets
	Timed      []Bytes
	Plain      []Bytes
	Gaps       []Gap // what owners and sources are known to lack
}

// Bytes is how much data there is in a partition: of any bits, taken to be
// spread evenly over what it is cut into.
type Bytes struct {
	Slot      int64 // of timed data
	Partition Partition
	Bytes     uint64
}

// A Gap is what a node may lack: it is not counted as a copy there.
type Gap struct {
	Node      NodeID
	Partition Partition
	Plain     bool
	From      int64 // slots of timed data: the first, and the first not meant
	Until     int64
}

func (d *Data) validate() error {
	for _, b := range slices.Concat(d.Timed, d.Plain) {
		if b.Partition.Bits > MaxBits || b.Partition.Prefix>>b.Partition.Bits != 0 {
			return fmt.Errorf("bytes of a partition of %d bits with prefix %x: %w", b.Partition.Bits, b.Partition.Prefix, ErrRing)
		}
	}
	for _, g := range d.Gaps {
		if g.Partition.Bits > MaxBits || g.Partition.Prefix>>g.Partition.Bits != 0 {
			return fmt.Errorf("a gap in a partition of %d bits with prefix %x: %w", g.Partition.Bits, g.Partition.Prefix, ErrRing)
		}
	}
	return nil
}

// each yields the bytes of each partition of a ring with these bits. Their sum
// is that of all.
func (b Bytes) each(width uint8, yield func(piece uint32, bytes uint64)) {
	if b.Partition.Bits >= width {
		yield(b.Partition.Prefix>>(b.Partition.Bits-width), b.Bytes)
		return
	}
	k := width - b.Partition.Bits
	upTo := func(i uint64) uint64 { // bytes of the first i pieces
		high, low := bits.Mul64(b.Bytes, i)
		return high<<(64-k) | low>>k
	}
	for i := range uint64(1) << k {
		yield(b.Partition.Prefix<<k|uint32(i), upTo(i+1)-upTo(i))
	}
}
