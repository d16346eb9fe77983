package tail

import (
	"cmp"
	"strings"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// judge evaluates the watermark of a row's second and returns it if there is more
// to tell than was told, otherwise nil.
//
// A second can be complete by pushes alone: who is expected was read for certain,
// and the entries at hand bear out what they promised. Where nobody was expected,
// finals decide only once the row is finished: its owners' clocks may be behind this
// one, and take somebody else's entries until they close it. That something is missing,
// or that nobody is there, needs a certain read of the second itself, begun at the
// lateness bound; that nothing can be known needs that it was tried.
func (w *window) judge(r *rowState, nowMillis int64) *mark {
	second := r.key.Epoch
	if r.key.Late || second < w.low || nowMillis < (second+1)*1000 || r.mark != nil && r.mark.verdict.State == index.Complete {
		return nil
	}
	expected, certain, tried := w.expected(r.key)
	v := index.Evaluate(second, r.acc.Row(), expected, certain, nowMillis/1000, w.lateness)
	r.judgeEntries = onlyEntriesLack(v.Missing)
	bound := (second + w.lateness) * 1000
	switch v.State {
	case index.Complete:
		if len(expected) == 0 && !r.finished(w.finish) {
			return nil
		}
	case index.Incomplete, index.NoWriters:
		if r.triedAt < bound {
			return nil
		}
		if r.certainAt < bound {
			v = index.Verdict{State: index.Unknown}
		}
	case index.Unknown:
		if !tried || r.triedAt < bound {
			return nil
		}
	default:
		return nil
	}
	if r.mark != nil && knowledge(v.State) <= knowledge(r.mark.verdict.State) {
		return nil
	}
	r.mark = &mark{second: second, dc: r.key.DC, verdict: v}
	return r.mark
}

// expected returns who is expected in the second of that key, whether the rows
// that tell were all read for certain once it was over, and whether that was at
// least tried with all of them.
func (w *window) expected(key event.IndexKey) (writers []index.Writer, certain, tried bool) {
	certain, tried = true, true
	presences := make([]index.Presence, 0, index.ExpectedSeconds)
	for s := key.Epoch - index.ExpectedSeconds; s < key.Epoch; s++ {
		r := w.rows[event.IndexKey{Epoch: s, DC: key.DC}]
		if r == nil {
			return nil, false, false
		}
		certain = certain && r.certainAt >= (key.Epoch+1)*1000
		tried = tried && r.triedAt >= (key.Epoch+1)*1000
		presences = append(presences, r.present())
	}
	return index.Expected(presences...), certain, tried
}

// onlyEntriesLack reports whether some writers are missed and all of them have
// sent their finals.
func onlyEntriesLack(missing []index.Missing) bool {
	for _, m := range missing {
		if m.Reason == index.Silent || m.Reason == index.NoFinal {
			return false
		}
	}
	return len(missing) > 0
}

// worthJudging reports whether a pushed delta may have completed its second.
func (r *rowState) worthJudging(delta index.Row) bool {
	if r.judgeEntries {
		return true
	}
	for i := range delta.Sections {
		if delta.Sections[i].Final != nil {
			return true
		}
	}
	return false
}

func compareKeys(a, b event.IndexKey) int {
	late := func(k event.IndexKey) int {
		if k.Late {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), strings.Compare(a.DC, b.DC), cmp.Compare(late(a), late(b)))
}
