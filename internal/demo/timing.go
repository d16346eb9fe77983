package demo

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A timing collects how long things took, each counted so many times.
type timing struct {
	mu    sync.Mutex
	took  []weighed
	total int64
}

type weighed struct {
	took   time.Duration
	weight int64
}

func (t *timing) add(took time.Duration, weight int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, weighed{took, weight})
	t.total += weight
}

// quantile returns the time that a share q of all did not exceed; 0 if there
// are none.
func (t *timing) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.took, func(a, b weighed) int { return cmp.Compare(a.took, b.took) })
	rank := int64(q * float64(t.total))
	for _, w := range t.took {
		if rank -= w.weight; rank < 0 {
			return w.took
		}
	}
	if len(t.took) == 0 {
		return 0
	}
	return t.took[len(t.took)-1].took
}
