package sim

import (
	"maps"
	"slices"
)

// Counts count things by kind.
type Counts map[string]int

func (c *Counts) add(kind string, n int) {
	if n == 0 {
		return
	}
	if *c == nil {
		*c = Counts{}
	}
	(*c)[kind] += n
}

// Merge adds all of other.
func (c *Counts) Merge(other Counts) {
	for kind, n := range other {
		c.add(kind, n)
	}
}

// Kinds returns the kinds in order.
func (c Counts) Kinds() []string { return slices.Sorted(maps.Keys(c)) }

// Total returns the sum of all kinds.
func (c Counts) Total() (n int) {
	for _, m := range c {
		n += m
	}
	return n
}
