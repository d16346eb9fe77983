package index

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ExpectedSeconds is how many seconds before T decide who is expected in T.
const ExpectedSeconds = 10

// A State is what can be said of a second of a dc.
type State uint8

const (
	// Pending: not complete yet, and the lateness bound is not reached.
	Pending State = iota + 1
	// Complete: the entries at hand reproduce every expected final. A second that
	// is complete stays so.
	Complete
	// Incomplete: the lateness bound has passed and something is missing. It may
	// become complete while the second is still open.
	Incomplete
	// Unknown: the lateness bound has passed and not enough indexes were read to
	// tell.
	Unknown
	// NoWriters: the lateness bound has passed, nobody was expected and nobody
	// sent a final. It never means complete.
	NoWriters
)

var stateNames = [...]string{
	Pending: "pending", Complete: "complete", Incomplete: "incomplete", Unknown: "unknown", NoWriters: "no writers",
}

// String returns the state's name, in words.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Reason says why a writer's part of a second is missing.
type Reason uint8

const (
	// Silent: there is nothing of the writer in the second.
	Silent Reason = iota + 1
	// NoFinal: there are entries, but no final.
	NoFinal
	// Fewer: there are fewer entries than the final counts.
	Fewer
	// Different: there are as many entries as the final counts, or more, but they
	// are not those it was made of.
	Different
)

// A Missing is one expected writer whose part of a second is not borne out.
type Missing struct {
	Writer     Writer
	Reason     Reason
	Have, Want uint32 // entries at hand; entries the final counts, 0 without one
}

// String returns a clause such as "agg-1/00000000000000aa sent no final".
func (m Missing) String() string {
	switch m.Reason {
	case Silent:
		return fmt.Sprintf("%v is silent", m.Writer)
	case NoFinal:
		return fmt.Sprintf("%v sent no final (%d blobs at hand)", m.Writer, m.Have)
	case Fewer:
		return fmt.Sprintf("of %v %d of %d blobs are at hand", m.Writer, m.Have, m.Want)
	default:
		return fmt.Sprintf("of %v %d blobs are at hand, but not the %d of its final", m.Writer, m.Have, m.Want)
	}
}

// A Verdict is the watermark of one second of one dc.
type Verdict struct {
	State   State
	Missing []Missing // ascending by writer; whom Pending waits for, and what Incomplete lacks
}

// String returns the state, and what is missing if anything is.
func (v Verdict) String() string {
	if len(v.Missing) == 0 {
		return v.State.String()
	}
	clauses := make([]string, len(v.Missing))
	for i, m := range v.Missing {
		clauses[i] = m.String()
	}
	return v.State.String() + ": " + strings.Join(clauses, "; ")
}

// A Presence is what one row says about who is there: all that [Expected] needs
// of a row, without its entries.
type Presence struct {
	Here []Writer // wrote an entry that counts, a final or hello
	Gone []Writer // said goodbye or was succeeded
}

// PresenceOf returns the presence of a row. Late entries make nobody present:
// they tell of the past.
func PresenceOf(r Row) Presence {
	var p Presence
	for i := range r.Sections {
		s := &r.Sections[i]
		if s.Writer.Anonymous() {
			continue
		}
		if s.Hello || s.Final != nil || slices.ContainsFunc(s.Entries, func(e Entry) bool { return e.counts() }) {
			p.Here = append(p.Here, s.Writer)
		}
		if s.Goodbye {
			p.Gone = append(p.Gone, s.Writer)
		}
		p.Gone = append(p.Gone, s.Succeeds...)
	}
	return p
}

// Expected returns who is expected in T, ascending: whoever is here in one of the
// ExpectedSeconds seconds before T and gone in none of them. The presences must be
// of certain reads of all those seconds, begun when T was over: a writer has been
// heard in them before T began (see [Standing]), by a clock that may be a second
// behind the reader's. Their order does not matter.
func Expected(before ...Presence) []Writer {
	here := make(map[Writer]struct{})
	for _, p := range before {
		for _, w := range p.Here {
			here[w] = struct{}{}
		}
	}
	for _, p := range before {
		for _, w := range p.Gone {
			delete(here, w)
		}
	}
	return slices.SortedFunc(maps.Keys(here), Writer.Compare)
}

// ExpectedIn is Expected for whole rows: those of the seconds before T.
func ExpectedIn(before ...Row) []Writer {
	presences := make([]Presence, len(before))
	for i, r := range before {
		presences[i] = PresenceOf(r)
	}
	return Expected(presences...)
}

// Evaluate gives the watermark of a second T from its row. expected is what
// Expected says of T; certain tells that the row and the ones expected came from
// were read with certainty. nowSeconds is the present and latenessSeconds the
// lateness bound: from T + latenessSeconds on there is no Pending.
//
// Finals of writers that were not expected are not waited for; only if nobody
// was expected do they decide. As others may still come until the row is closed
// everywhere, Complete holds then only of a row that was read after that.
func Evaluate(second int64, row Row, expected []Writer, certain bool, nowSeconds, latenessSeconds int64) Verdict {
	due := nowSeconds-second >= latenessSeconds
	if !certain {
		return Verdict{State: pick(due, Unknown)}
	}
	if len(expected) == 0 {
		if !due {
			return Verdict{State: Pending}
		}
		if expected = finalists(row); len(expected) == 0 {
			return Verdict{State: NoWriters}
		}
	}
	if missing := missingOf(row, expected); len(missing) > 0 {
		return Verdict{State: pick(due, Incomplete), Missing: missing}
	}
	return Verdict{State: Complete}
}

func pick(due bool, s State) State {
	if due {
		return s
	}
	return Pending
}

// finalists returns the writers with a final in the row.
func finalists(row Row) (writers []Writer) {
	for i := range row.Sections {
		if row.Sections[i].Final != nil {
			writers = append(writers, row.Sections[i].Writer)
		}
	}
	return writers
}

func missingOf(row Row, expected []Writer) (missing []Missing) {
	for _, w := range expected {
		s := row.Section(w)
		if s == nil {
			missing = append(missing, Missing{Writer: w, Reason: Silent})
			continue
		}
		have, ok := s.reproduces()
		switch {
		case ok:
		case s.Final == nil && have == 0:
			missing = append(missing, Missing{Writer: w, Reason: Silent})
		case s.Final == nil:
			missing = append(missing, Missing{Writer: w, Reason: NoFinal, Have: have})
		case have < s.Final.Count:
			missing = append(missing, Missing{Writer: w, Reason: Fewer, Have: have, Want: s.Final.Count})
		default:
			missing = append(missing, Missing{Writer: w, Reason: Different, Have: have, Want: s.Final.Count})
		}
	}
	return missing
}
