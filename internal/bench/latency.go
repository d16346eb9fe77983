package bench

import (
	"math"
	"slices"
	"time"
)

// A Latency holds how long each of many operations took. The zero Latency is
// empty. One goroutine uses it.
type Latency struct{ took []time.Duration }

// Add notes one operation.
func (l *Latency) Add(took time.Duration) { l.took = append(l.took, took) }

// Join adds the operations of another.
func (l *Latency) Join(other *Latency) { l.took = append(l.took, other.took...) }

// Millis returns the least time within which the share q of the operations
// ended, in milliseconds; 0 if there are none.
func (l *Latency) Millis(q float64) float64 {
	if len(l.took) == 0 {
		return 0
	}
	if !slices.IsSorted(l.took) {
		slices.Sort(l.took)
	}
	i := int(math.Ceil(q*float64(len(l.took)))) - 1
	return float64(l.took[max(i, 0)].Nanoseconds()) / 1e6
}
