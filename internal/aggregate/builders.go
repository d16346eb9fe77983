package aggregate

import "github.com/mayflydb/mayfly/event"

// builders keeps emptied builders for later seconds, each for the names it was
// used for: sizes differ by a thousand from type to type, and a buffer that has
// grown to what its names need grows no more. What is kept is bounded in bytes
// and forgotten when its names have not come for a while.
type builders struct {
	young, old map[string]usedBuilder // by group.names
	size       int64                  // bytes, of both
	bound      int64                  // bytes
	ticks      int                    // since old was dropped
}

// A usedBuilder is a builder and the most it ever held, bytes.
type usedBuilder struct {
	*event.Builder
	most int64
}

// forgetAfter is for how many seconds at least a builder without events is kept.
const forgetAfter = 10

func newBuilders(bound int64) builders {
	return builders{young: make(map[string]usedBuilder), old: make(map[string]usedBuilder), bound: bound}
}

// get returns an empty builder for names.
func (p *builders) get(names string) usedBuilder {
	for _, kept := range []map[string]usedBuilder{p.young, p.old} {
		if b, ok := kept[names]; ok {
			delete(kept, names)
			p.size -= b.most
			return b
		}
	}
	return usedBuilder{Builder: new(event.Builder)}
}

// put takes a builder back that held size bytes for names and has been emptied.
func (p *builders) put(names string, b usedBuilder, size int64) {
	b.most = max(b.most, size)
	if p.size+b.most > p.bound || p.young[names].Builder != nil {
		return // to the garbage collector
	}
	p.size += b.most
	p.young[names] = b
}

// tick is called once a second.
func (p *builders) tick() {
	if p.ticks++; p.ticks < forgetAfter {
		return
	}
	p.ticks = 0
	for _, b := range p.old {
		p.size -= b.most
	}
	clear(p.old)
	p.young, p.old = p.old, p.young
}
