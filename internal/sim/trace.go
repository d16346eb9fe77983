package sim

import (
	"fmt"
	"time"
)

// A trace is what happened, as a hash: two runs with the same one did the same.
// Where somebody listens it is also told in lines.
type trace struct {
	hash uint64
	tell func(line string) // nil: nobody listens
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// note adds one thing that happened: at a node (-1: none in particular), about a
// key ("" if none), with a figure.
func (t *trace) note(now time.Duration, node int, what, key string, figure int64) {
	h := t.hash
	for _, v := range [3]uint64{uint64(now), uint64(node), uint64(figure)} {
		h = (h ^ v) * fnvPrime
		h ^= h >> 29
	}
	for _, text := range [2]string{what, key} {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * fnvPrime
		}
		h = (h ^ 0xff) * fnvPrime
	}
	t.hash = h
	if t.tell != nil {
		who := "  "
		if node >= 0 {
			who = fmt.Sprintf("n%d", node)
		}
		t.tell(fmt.Sprintf("%11.6f %s %s %s %d", now.Seconds(), who, what, key, figure))
	}
}
