package generate

import "math/rand/v2"

// A Generator makes web, cron and load-balancer events without end, in about the
// shares and sizes of a large web site: nested maps of 150 to 1,500 bytes of
// msgpack, whose members come and go. The same seed gives the same events on
// every machine: only integer arithmetic decides, no clock, no map order. It
// allocates nothing per event.
type Generator struct {
	random *rand.Rand
	pack   packer
}

// NewGenerator returns a Generator. Generators of different seeds give different
// events.
func NewGenerator(seed uint64) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, 0x6d6179666c79))} // "mayfly"
}

// The kinds of events, and how many of a hundred are of each.
const (
	webShare      = 68
	balancerShare = 26
	// the rest are cron
)

// Next implements [Source]; it never fails.
func (g *Generator) Next() (Event, error) {
	g.pack.b = g.pack.b[:0]
	var ev Event
	switch share := g.random.IntN(100); {
	case share < webShare:
		ev = g.web()
	case share < webShare+balancerShare:
		ev = g.balancer()
	default:
		ev = g.cron()
	}
	ev.Body = g.pack.b
	return ev, nil
}

// one picks one of several, evenly.
func one[T any](g *Generator, of []T) T { return of[g.random.IntN(len(of))] }

// skewed picks one of several, the first ones far more often: as host names,
// pages and error messages are.
func skewed[T any](g *Generator, of []T) T {
	return of[min(g.random.IntN(len(of)), g.random.IntN(len(of)))]
}

// chance is true in percent of a hundred cases.
func (g *Generator) chance(percent int) bool { return g.random.IntN(100) < percent }

// micros is a duration with a long tail, microseconds: usually near typical, one
// in fifty up to sixteen times as long.
func (g *Generator) micros(typical int64) int64 {
	d := typical/2 + g.random.Int64N(typical)
	if g.chance(2) {
		d += g.random.Int64N(15 * typical)
	}
	return d
}

// millis is micros in milliseconds, with a fraction.
func (g *Generator) millis(typicalMicros int64) float64 {
	return float64(g.micros(typicalMicros)) / 1000
}
