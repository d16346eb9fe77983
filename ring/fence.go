package ring

import (
	"fmt"
	"slices"
)

// FenceHistories is how many histories a Fence knows. A request under an older
// one is refused, which costs it one more attempt.
const FenceHistories = 16

// A Fence judges requests by the history that they were sent under. It knows the
// history that counts for this node, and some before it. It is immutable: any
// number of goroutines may use one.
type Fence struct {
	known []*History // ascending by version, at least one; the last counts
}

// NewFence returns the Fence of a node that knows one history.
func NewFence(h *History) *Fence { return &Fence{[]*History{h}} }

// Adopt returns the Fence of the node once it has taken over h, which is later
// than the one before. f stays as it is.
func (f *Fence) Adopt(h *History) *Fence {
	if before := f.History().Version(); !before.Before(h.Version()) {
		panic(fmt.Sprintf("ring: BUG: history %v adopted after %v", h.Version(), before))
	}
	keep := f.known[max(0, len(f.known)+1-FenceHistories):]
	return &Fence{append(slices.Clone(keep), h)}
}

// History returns the history that counts.
func (f *Fence) History() *History { return f.known[len(f.known)-1] }

// A Placed is an object as its placement depends on it.
type Placed struct {
	Timed bool
	Hash  uint64
	Epoch int64 // of an object of a timed bucket
	N     int   // owners that its bucket has, at most
}

// owners returns the nodes that own the object under the history, and the ring and
// the partition that they are of.
func (o *Placed) owners(h *History) ([]NodeID, Partition) {
	r, p := h.For(o.Timed, o.Hash, o.Epoch)
	owners := r.Owners(p)
	return owners[:min(o.N, len(owners))], p
}

// A Standing is what a request for an object comes to at a node.
type Standing uint8

// The standings.
const (
	IsOwner  Standing = iota + 1 // the node owns the object, and both histories name the same owners
	IsSource                     // the same, but that it is a source of it: to be read from
	IsBehind                     // the request's history is newer: the node has to catch up before it can tell
	HasMoved                     // the request's history is another one, and names other owners, or the node has no part in the object
)

// Judge tells what a request that was sent under the history of that version, for
// an object of this placement, comes to at the node. It does not allocate.
func (f *Fence) Judge(node NodeID, theirs Version, o Placed) Standing {
	ours := f.History()
	owners, p := o.owners(ours)
	if theirs != ours.version {
		if ours.version.Before(theirs) {
			return IsBehind
		}
		old := f.find(theirs)
		if old == nil {
			return HasMoved
		}
		if before, _ := o.owners(old); !sameNodes(before, owners) {
			return HasMoved
		}
	}
	switch {
	case slices.Contains(owners, node):
		return IsOwner
	case o.Timed && slices.Contains(ours.Sources(ours.SlotOf(o.Epoch), p), node),
		!o.Timed && ours.plain.sourceOf(node, o.Hash):
		return IsSource
	}
	return HasMoved
}

// find returns the history of that version, nil if it is not known.
func (f *Fence) find(v Version) *History {
	for i := len(f.known) - 1; i >= 0; i-- {
		if f.known[i].version == v {
			return f.known[i]
		}
	}
	return nil
}

// sourceOf reports whether the node is a source of plain data at that place.
func (h *handover) sourceOf(node NodeID, hash uint64) bool {
	i, found := slices.BinarySearchFunc(h.sources, node, func(s holding, id NodeID) int { return s.node.Compare(id) })
	if !found {
		return false
	}
	_, found = slices.BinarySearch(h.sources[i].prefixes, PartitionOf(hash, h.bits).Prefix)
	return found
}

// sameNodes reports whether two lists, in which no node is twice, name the same.
func sameNodes(a, b []NodeID) bool {
	if len(a) != len(b) {
		return false
	}
	for _, id := range a {
		if !slices.Contains(b, id) {
			return false
		}
	}
	return true
}
