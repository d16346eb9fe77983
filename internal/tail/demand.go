package tail

import (
	"slices"
	"strings"
)

// A Demand is what a hub's subscriptions want, taken together: what is worth
// telling it.
type Demand struct {
	Tails  int      // that are open; without any, nothing is wanted
	DCs    []string // wanted by name, ascending; none: all, or some by a pattern
	Bodies bool     // some want bodies
}

// Demand returns what is wanted now.
func (h *Hub) Demand() Demand {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.core.demand()
}

// OnDemand has f called whenever a subscription has come or gone. f must not
// block, nor call the hub. It is set once, before the first subscription.
func (h *Hub) OnDemand(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.core.demanded = f
}

func (c *core) demand() (d Demand) {
	all := false
	for _, f := range c.feeds {
		d.Tails++
		d.Bodies = d.Bodies || !f.withoutBodies
		if f.dc == nil || slices.ContainsFunc(f.dc, func(glob string) bool { return strings.Contains(glob, "*") }) {
			all = true
		}
		d.DCs = append(d.DCs, f.dc...)
	}
	if all {
		d.DCs = nil
	}
	slices.Sort(d.DCs)
	d.DCs = slices.Compact(d.DCs)
	return d
}
