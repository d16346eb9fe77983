package bitcask

import "sync/atomic"

// A gate counts the calls at work and, once shut, lets no more in: Close can
// wait for the last of them.
type gate struct {
	state atomic.Int64  // calls inside, plus gateShut
	empty chan struct{} // capacity 1; told when a shut gate becomes empty
}

const gateShut = 1 << 62

func (g *gate) init() { g.empty = make(chan struct{}, 1) }

// enter reports whether the gate is open; if so, leave must follow.
func (g *gate) enter() bool {
	if g.state.Add(1)&gateShut == 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.state.Add(-1) != gateShut {
		return
	}
	select {
	case g.empty <- struct{}{}:
	default:
	}
}

// shut closes the gate and waits until nobody is inside. It reports whether
// this call closed it.
func (g *gate) shut() bool {
	was := g.state.Or(gateShut)
	if was&gateShut != 0 {
		return false
	}
	if was != 0 {
		<-g.empty
	}
	return true
}
