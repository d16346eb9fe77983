package bitcask

import (
	"cmp"
	"slices"
)

const (
	mergeDeadPercent  = 50 // a segment of which as much is dead is mostly dead
	mergeSmallShare   = 16 // a segment is small if it is shorter than the bound divided by this
	mergeSmallCount   = 8  // as many small ones are merged although nothing in them is dead
	mergeMaxSources   = 16 // of one merge
	activeDeadPercent = 75 // an active segment of which as much is dead is sealed early
	activeDeadShare   = 32 // if that is more than the bound divided by this
)

// A mergeCandidate is a sealed segment as the choice sees it.
type mergeCandidate struct {
	sizeBytes int64
	deadBytes int64 // replaced, and tombstones that may go
	seq       uint32
}

// chooseMerge returns which of a lane's sealed segments are to be merged, by
// their index, the most worthwhile first: those that are mostly dead, and small
// ones if there are many. It is pure.
func chooseMerge(all []mergeCandidate, maxBytes int64) []int {
	var chosen, small []int
	for i, c := range all {
		switch {
		case c.deadBytes > 0 && c.deadBytes*100 >= c.sizeBytes*mergeDeadPercent:
			chosen = append(chosen, i)
		case c.sizeBytes < maxBytes/mergeSmallShare:
			small = append(small, i)
		}
	}
	slices.SortStableFunc(chosen, func(a, b int) int { // the least to copy for a byte won first
		return cmp.Or(cmp.Compare(all[b].deadBytes*all[a].sizeBytes, all[a].deadBytes*all[b].sizeBytes), cmp.Compare(all[a].seq, all[b].seq))
	})
	if len(chosen)+len(small) >= mergeSmallCount && len(small) > 1 {
		chosen = append(chosen, small...)
	}
	return chosen[:min(len(chosen), mergeMaxSources)]
}

// wasteful reports whether an active segment is to be sealed before it is full,
// so that it can be merged.
func wasteful(sizeBytes, deadBytes, maxBytes int64) bool {
	return deadBytes >= maxBytes/activeDeadShare && deadBytes*100 >= sizeBytes*activeDeadPercent
}
