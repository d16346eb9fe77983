package replication

import (
	"maps"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
)

// A mergeJob brings the owners of one object together.
type mergeJob struct {
	moves []mergeMove // done one after the other
	size  int64
	tries int // owners the present move was fetched from
	open  int // gives not answered
}

// A mergeMove takes a record from one owner to others, or to safety.
type mergeMove struct {
	item   Item
	from   []int            // who has it, best first
	to     []int            // who lacks it
	over   []object.Version // what it replaces there, in the order of to
	rescue bool             // it loses its key: keep it under another name
}

// compare makes the jobs that the present pages ask for, up to where the
// shortest of them ends.
func (m *Merge) compare() {
	m.cover = PageEnd
	for i := range m.n {
		if s := &m.sides[i]; !s.out {
			m.cover = min(m.cover, s.page.Next)
		}
	}
	if m.cover <= m.from {
		m.fail(object.Errorf(object.CodeCorrupt, object.NotDone, "a page that ends at %d where it began at %d", m.cover, m.from))
		return
	}
	have := make(map[string]*[1 + maxAsked]*Item)
	for i := range m.n {
		s := &m.sides[i]
		for j := range s.page.Items {
			item := &s.page.Items[j]
			if s.out || item.Position < m.from || item.Position >= m.cover {
				continue
			}
			if have[item.Key] == nil {
				have[item.Key] = new([1 + maxAsked]*Item)
			}
			have[item.Key][i] = item
		}
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		var job mergeJob
		if m.rows {
			job.moves = m.rowMoves(have[key])
		} else {
			job.moves = m.objectMoves(have[key])
		}
		if len(job.moves) > 0 {
			for i := range job.moves {
				job.size = max(job.size, int64(job.moves[i].item.ValueBytes))
			}
			m.queue = append(m.queue, job)
		}
	}
}

// objectMoves returns what must be done for an object: the greatest version goes
// to all who lack it; other values are rescued before.
func (m *Merge) objectMoves(have *[1 + maxAsked]*Item) (moves []mergeMove) {
	var best *Item
	for i := range m.n {
		if have[i] != nil && (best == nil || have[i].Version.Compare(best.Version) > 0) {
			best = have[i]
		}
	}
	last := mergeMove{item: *best}
	for i := range m.n {
		h := have[i]
		switch {
		case m.sides[i].out:
		case h == nil && !m.takes(i):
		case h == nil:
			last.to, last.over = append(last.to, i), append(last.over, object.Version{})
		case h.Version == best.Version:
			last.from = append(last.from, i)
		default:
			if m.takes(i) {
				last.to, last.over = append(last.to, i), append(last.over, h.Version)
			}
			if m.writeOnce && !best.Version.Tombstone && !h.Version.Tombstone &&
				(h.Checksum != best.Checksum || h.ValueBytes != best.ValueBytes) {
				moves = rescueToo(moves, h, i)
			}
		}
	}
	if len(last.to) == 0 {
		return moves // of values that only sources have
	}
	return append(moves, last)
}

// rescueToo adds the rescue of a value, or one more place that has it.
func rescueToo(moves []mergeMove, h *Item, at int) []mergeMove {
	for i := range moves {
		if moves[i].item.Checksum == h.Checksum && moves[i].item.ValueBytes == h.ValueBytes {
			moves[i].from = append(moves[i].from, at)
			return moves
		}
	}
	return append(moves, mergeMove{item: *h, from: []int{at}, rescue: true})
}

// rowMoves returns what must be done for a row: side 0 takes the union, and then
// the others do.
func (m *Merge) rowMoves(have *[1 + maxAsked]*Item) (moves []mergeMove) {
	var differ []int
	var item Item
	var taken []object.Digest
	own := object.Digest{}
	if have[0] != nil {
		own, item = have[0].Row, *have[0]
	}
	for i := 1; i < m.n; i++ {
		if m.sides[i].out {
			continue
		}
		theirs := object.Digest{}
		if have[i] != nil {
			theirs, item = have[i].Row, *have[i]
		}
		if theirs == own {
			continue
		}
		if m.takes(i) {
			differ = append(differ, i)
		}
		if have[i] != nil && !slices.Contains(taken, theirs) {
			taken = append(taken, theirs)
			moves = append(moves, mergeMove{item: *have[i], from: []int{i}, to: []int{0}, over: make([]object.Version, 1)})
		}
	}
	// Who agreed with side 0 lacks what side 0 took from those that differ.
	if len(taken) > 0 {
		differ = differ[:0]
		for i := 1; i < m.n; i++ {
			if !m.sides[i].out && m.takes(i) {
				differ = append(differ, i)
			}
		}
	}
	if len(differ) == 0 {
		return moves
	}
	return append(moves, mergeMove{item: item, from: []int{0}, to: differ, over: make([]object.Version, len(differ))})
}

// proceed begins jobs while there is room, and the next page when all are done.
func (m *Merge) proceed(out []MergeAction) []MergeAction {
	for len(m.queue) > 0 && m.result.Err == nil &&
		(len(m.jobs) == 0 || len(m.jobs) < mergeWindow && m.bytes+m.queue[0].size <= mergeWindowBytes) {
		job := m.queue[0]
		m.queue = m.queue[1:]
		m.nextJob++
		id := m.nextJob
		m.jobs[id] = &job
		m.bytes += job.size
		out = m.fetch(id, &job, out)
	}
	switch {
	case len(m.jobs) > 0:
		return out
	case m.result.Err != nil:
		return m.end(out)
	case m.cover < PageEnd:
		m.from = m.cover
		return m.ask(out)
	}
	return m.walked(out)
}

// fetch begins the job's present move, or what comes after it if nobody is left
// who has the record.
func (m *Merge) fetch(id int, job *mergeJob, out []MergeAction) []MergeAction {
	for len(job.moves) > 0 {
		move := &job.moves[0]
		for job.tries < len(move.from) {
			owner := move.from[job.tries]
			job.tries++
			if !m.sides[owner].out {
				return append(out, MergeAction{Kind: FetchRecord, Owner: owner, Job: id, Item: move.item})
			}
		}
		job.next()
	}
	delete(m.jobs, id)
	m.bytes -= job.size
	return out
}

func (j *mergeJob) next() { j.moves, j.tries = j.moves[1:], 0 }

func (m *Merge) fetched(ev MergeEvent, out []MergeAction) []MergeAction {
	job := m.jobs[ev.Job]
	if job == nil {
		return out
	}
	move := &job.moves[0]
	switch {
	case ev.Err == nil && move.rescue:
		return append(out, MergeAction{Kind: RescueRecord, Job: ev.Job})
	case ev.Err == nil:
		return m.give(ev.Job, job, out)
	case ev.Err.Code == object.CodeExpired:
		job.moves = nil // nobody needs it any more
	case ev.Err.Code == object.CodeCorrupt, ev.Err.Code == object.CodeAbsent:
		m.sides[ev.Owner].incomplete = true // it listed what it does not have
		if ev.Err.Code == object.CodeCorrupt && m.takes(ev.Owner) {
			out = append(out, MergeAction{Kind: OweRecord, Owner: ev.Owner, Item: move.item}) // whoever gives it finds the damage there
		}
	case ev.Owner > 0:
		m.sides[ev.Owner].out = true
	case move.rescue: // the value that would lose its key is here and cannot be read now
		m.fail(ev.Err)
		job.moves = nil
	}
	return m.proceed(m.fetch(ev.Job, job, out))
}

// give hands the job's record to all who lack it.
func (m *Merge) give(id int, job *mergeJob, out []MergeAction) []MergeAction {
	move := &job.moves[0]
	for i, owner := range move.to {
		switch s := &m.sides[owner]; {
		case s.out || s.refuses:
			m.result.Unpushed++
			out = append(out, MergeAction{Kind: OweRecord, Owner: owner, Item: move.item})
		default:
			job.open++
			out = append(out, MergeAction{Kind: GiveRecord, Owner: owner, Job: id, Over: move.over[i]})
		}
	}
	if job.open > 0 {
		return out
	}
	return m.moved(id, job, out)
}

// moved ends the job's present move.
func (m *Merge) moved(id int, job *mergeJob, out []MergeAction) []MergeAction {
	out = append(out, MergeAction{Kind: DropRecord, Job: id})
	job.next()
	if m.result.Err != nil {
		job.moves = nil
	}
	return m.proceed(m.fetch(id, job, out))
}

func (m *Merge) rescued(ev MergeEvent, out []MergeAction) []MergeAction {
	job := m.jobs[ev.Job]
	if job == nil {
		return out
	}
	switch {
	case ev.Err == nil:
		m.result.Rescued++
	case ev.Err.Code != object.CodeExpired && ev.Err.Code != object.CodeConflict:
		m.fail(ev.Err)
	}
	return m.moved(ev.Job, job, out)
}

func (m *Merge) given(ev MergeEvent, out []MergeAction) []MergeAction {
	job := m.jobs[ev.Job]
	if job == nil || job.open == 0 {
		return out
	}
	item := job.moves[0].item
	switch taken := ev.Err == nil || ev.Err.Code == object.CodeExpired; {
	case taken && ev.Owner == 0:
		m.result.Pulled++
		m.result.PulledBytes += uint64(item.ValueBytes)
	case taken:
		m.result.Pushed++
		m.result.PushedBytes += uint64(item.ValueBytes)
	case ev.Owner == 0:
		m.fail(ev.Err)
	default:
		m.result.Unpushed++
		m.sides[ev.Owner].refuses = ev.Err.Code != object.CodeConflict
		out = append(out, MergeAction{Kind: OweRecord, Owner: ev.Owner, Item: item})
	}
	if job.open--; job.open > 0 {
		return out
	}
	return m.moved(ev.Job, job, out)
}
