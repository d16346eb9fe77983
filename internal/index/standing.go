package index

// A Standing tells in which seconds readers expect a writer, and so whether it
// may say of a blob that its final counts it. Only what was acknowledged before
// a second began is sure to be seen by whoever judges that second (see
// [Expected]); what comes later, after an outage, may be seen of one writer and
// not of the other. In a second in which it has no standing a writer stores
// without its name, and says hello.
//
// The zero Standing is that of a writer nobody has heard of. It is not safe for
// concurrent use.
type Standing struct {
	before, present span
	gone            int64 // in no second up to this one
}

// A span is seconds: first and those after it, before end.
type span struct{ first, end int64 }

func (s span) has(second int64) bool { return s.first <= second && second < s.end }

// Acknowledged takes in that a hello or a final in the row of a second was
// acknowledged in second now, by the writer's clock.
func (s *Standing) Acknowledged(row, now int64) {
	a := span{max(row, now) + 1, row + ExpectedSeconds + 1}
	switch p := &s.present; {
	case a.first >= a.end: // it took so long that no second is left
	case a.first <= p.end && p.first <= a.end:
		*p = span{min(a.first, p.first), max(a.end, p.end)}
	default:
		s.before, *p = *p, a
	}
}

// Left takes in that a goodbye in the row of a second was sent.
func (s *Standing) Left(row int64) { s.gone = max(s.gone, row+ExpectedSeconds) }

// Holds tells whether readers expect the writer in a second. Once the second
// before has begun, the answer does not change any more.
func (s *Standing) Holds(second int64) bool {
	return second > s.gone && (s.present.has(second) || s.before.has(second))
}

// Lapses tells whether the writer is to say hello in second now: nobody will
// expect it in the next one, or in the first one in which it can be expected.
func (s *Standing) Lapses(now int64) bool {
	next := max(now, s.gone) + 1
	return next <= now+ExpectedSeconds && !s.Holds(next)
}
