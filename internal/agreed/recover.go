package agreed

import "github.com/mayflydb/mayfly/ring"

// Rounds that a lost majority may have begun, and this document not heard of,
// are fewer.
const roundsOfAnEra = 1 << 32

// Recovered returns the document with which agreement is recovered by hand: the
// first of the next era, its history too. A change that was under way is given
// up, what it was made of is staged again; promises of the era before are lifted
// by its round.
func (d *Document) Recovered() *Document {
	next := *d
	next.Version = ring.Version{Era: d.Version.Era + 1, Index: 1}
	s := &step{d: &next}
	s.move(d.History)
	if next.Pending != nil {
		s.unstage()
	}
	next.Change = ring.Change{Round: d.Change.Round + roundsOfAnEra, Phase: ring.Idle, Boundary: d.Change.Boundary}
	return &next
}
