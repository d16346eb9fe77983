package replication

import (
	"cmp"
	"math"
	"slices"
)

// compareDigests has digests compared: of minutes from since on, and after a walk
// of those before until.
func (m *Merge) compareDigests(since, until int64) { m.digests, m.since, m.until = true, since, until }

// askDigests asks the sides that can still be reached what they sum up to.
func (m *Merge) askDigests(out []MergeAction) []MergeAction {
	m.summing = true
	for i := range m.n {
		if s := &m.sides[i]; !s.out {
			s.asked = true
			m.waiting++
			out = append(out, MergeAction{Kind: AskDigest, Owner: i})
		}
	}
	return out
}

func (m *Merge) digestCame(ev MergeEvent, out []MergeAction) []MergeAction {
	s := &m.sides[ev.Owner]
	if !m.summing || !s.asked {
		return out
	}
	s.asked = false
	m.waiting--
	switch {
	case ev.Err != nil && ev.Owner == 0:
		m.fail(ev.Err)
	case ev.Err != nil:
		s.out = true
	default:
		s.digest = ev.Digest
	}
	if m.waiting > 0 {
		return out
	}
	m.summing = false
	before := m.own
	m.own = m.sides[0].digest.Minutes
	if m.hopeless() {
		return m.end(out)
	}
	until := m.until
	if m.walks == 0 {
		until = math.MaxInt64
	}
	same, complete := uint32(0), uint32(0)
	for i := 1; i < m.n; i++ {
		o := &m.sides[i]
		if !o.out && sameMinutes(m.sides[0].digest.Minutes, o.digest.Minutes, m.since, until) {
			same |= 1 << i
			if o.digest.Complete {
				complete |= 1 << i
			}
		}
	}
	enough := m.party.suffices(same, complete, m.sides[0].digest.Complete)
	switch {
	case m.walks > 0: // who took from a frozen source may have more than that: a walk then shows that nothing is left
		m.result.Verified = enough || sameMinutes(before, m.own, m.since, m.until)
	case enough:
		m.result.Verified, m.result.Skipped = true, true
		for i := range m.n { // what was not walked does not count
			m.sides[i].out = m.sides[i].out || i > 0 && same>>i&1 == 0
			m.sides[i].incomplete = !m.sides[i].digest.Complete
		}
		return m.conclude(out)
	}
	if m.result.Verified || m.walks >= mergeWalks {
		return m.conclude(out)
	}
	m.from = 0
	return m.ask(out)
}

// sameMinutes reports whether two digests agree in the minutes of a stretch.
func sameMinutes(a, b []MinuteDigest, since, until int64) bool {
	within := func(all []MinuteDigest) []MinuteDigest {
		from, _ := slices.BinarySearchFunc(all, since, func(m MinuteDigest, minute int64) int { return cmp.Compare(m.Minute, minute) })
		to, _ := slices.BinarySearchFunc(all, until, func(m MinuteDigest, minute int64) int { return cmp.Compare(m.Minute, minute) })
		return all[min(from, to):to]
	}
	return slices.Equal(within(a), within(b))
}

// walked decides what follows a walk to the end.
func (m *Merge) walked(out []MergeAction) []MergeAction {
	m.walks++
	brought := m.result.Pulled - m.pulled
	m.pulled = m.result.Pulled
	if !m.digests || brought == 0 {
		m.result.Verified = m.digests
		return m.conclude(out)
	}
	return m.askDigests(out)
}
