package ring

import "testing"

// What a member does with what it is shown, one after another: what it has
// promised, whether it syncs and replies, and what epoch 50, of slot 5, is then.
func TestPreparer(t *testing.T) {
	type shown struct {
		round    uint64
		phase    Phase
		boundary int64
	}
	const persist, reply = true, true
	for _, c := range []struct {
		name           string
		shown          []shown
		persist, reply bool // of the last one
		verdict        Verdict
	}{
		{"nothing was agreed", []shown{{0, Idle, 0}}, false, false, OldRing},
		{"proposed", []shown{{1, Proposed, 5}}, persist, reply, NotYet},
		{"proposed for later", []shown{{1, Proposed, 6}}, persist, reply, OldRing},
		{"the same again", []shown{{1, Proposed, 5}, {1, Proposed, 5}}, false, reply, NotYet},
		{"fixed", []shown{{1, Proposed, 5}, {1, Fixed, 5}}, persist, false, NewRing},
		{"fixed, proposed late", []shown{{1, Fixed, 5}, {1, Proposed, 5}}, false, false, NewRing},
		{"cancelled", []shown{{1, Proposed, 5}, {1, Idle, 5}}, persist, false, OldRing},
		{"cancelled, proposed late", []shown{{1, Idle, 5}, {1, Proposed, 5}}, false, false, OldRing},
		{"again for later", []shown{{1, Proposed, 5}, {2, Proposed, 6}}, persist, reply, OldRing},
		{"again for later, the first one late", []shown{{2, Proposed, 6}, {1, Proposed, 5}}, false, false, OldRing},
		{"cancelled the round before", []shown{{2, Proposed, 5}, {1, Idle, 5}}, false, false, NotYet},
	} {
		p := Preparer{Highest: 49}
		var synced bool
		var got *Reply
		for _, s := range c.shown {
			p, synced, got = p.Agreed(Change{Round: s.round, Phase: s.phase, Boundary: s.boundary})
		}
		if synced != c.persist || (got != nil) != c.reply {
			t.Errorf("%s: persist %v, reply %v", c.name, synced, got)
		}
		if got != nil && (got.Highest != 49 || got.Round != c.shown[len(c.shown)-1].round) {
			t.Errorf("%s: reply %v", c.name, got)
		}
		next, verdict := p.Admit(10, 50)
		if verdict != c.verdict || (verdict == NotYet) != (next.Highest == 49) {
			t.Errorf("%s: verdict %v, highest %d then", c.name, verdict, next.Highest)
		}
		if next, _ := p.Admit(10, 40); next.Highest != 49 {
			t.Errorf("%s: the highest fell to %d", c.name, next.Highest)
		}
	}
}
