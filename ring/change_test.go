package ring

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var changeTiming = Timing{SlotSeconds: 10, AheadSeconds: 10, SkewSeconds: 5, LeadSeconds: 20}

// transcript plays events, one a line, and returns what came of each.
func transcript(t *testing.T, c Change, events ...ChangeEvent) string {
	t.Helper()
	var lines []string
	name := func(id NodeID) string { return string(rune('a' + id[0] - 1)) }
	for _, e := range events {
		before := fmt.Sprint(c)
		next, actions := c.Step(changeTiming, e)
		if fmt.Sprint(c) != before {
			t.Fatal("Step changed the change it began with")
		}
		c = next
		words := []string{fmt.Sprintf("%v %d at %d, waiting for %s:", c.Phase, c.Round, c.Boundary, c.WaitingFor(name))}
		for _, a := range actions {
			switch a.Kind {
			case Ask:
				words = append(words, "ask "+name(a.Node))
			case Fix:
				words = append(words, "fix")
			case Withdraw:
				words = append(words, "withdraw, "+a.Why)
			case Refuse:
				words = append(words, "refuse, "+a.Why)
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

func TestChange(t *testing.T) {
	a, b := NodeID{1}, NodeID{2}
	propose := ChangeEvent{Kind: Propose, Now: 100, Members: []NodeID{b, a, b}}
	promise := func(round uint64, now, highest int64, node NodeID) ChangeEvent {
		return ChangeEvent{Kind: Promised, Round: round, Now: now, Highest: highest, Node: node}
	}
	for _, c := range []struct {
		name   string
		events []ChangeEvent
		want   string
	}{
		// 100 + 10 + 5 + 20 = 135: the first slot after it is 14.
		{"all promise", []ChangeEvent{propose, promise(1, 101, 110, a), promise(1, 102, NoEpoch, b)},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for b:\nfixed 1 at 14, waiting for nobody: fix"},
		{"the plan's slot is later", []ChangeEvent{{Kind: Propose, Now: 100, Members: []NodeID{a}, From: 20}},
			"proposed 1 at 20, waiting for a: ask a"},
		{"one is silent", []ChangeEvent{propose, promise(1, 101, 110, a), {Kind: Tick, Now: 110}, {Kind: Propose, Now: 111, Members: []NodeID{a}}},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for b:\nproposed 1 at 14, waiting for b: ask b\n" +
				"proposed 1 at 14, waiting for b: refuse, a change is pending, for slot 14, and waits for 02000000000000000000000000000000; wait until it is fixed, or cancel it"},
		{"the silent one is declared lost", []ChangeEvent{propose, promise(1, 101, 110, a), {Kind: DeclaredLost, Now: 102, Node: b}},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for b:\nfixed 1 at 14, waiting for nobody: fix"},
		// 125 + 10 + 5 = 140 is of slot 14.
		{"the boundary becomes admissible", []ChangeEvent{propose, promise(1, 101, 110, a), promise(1, 125, 110, b)},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for b:\n" +
				"proposed 2 at 17, waiting for a, b: withdraw, slot 14 became admissible before all had promised: still waiting for nobody ask a ask b"},
		{"one has admitted the boundary", []ChangeEvent{propose, promise(1, 101, 175, a)},
			"proposed 1 at 14, waiting for a, b: ask a ask b\n" +
				"proposed 2 at 18, waiting for a, b: withdraw, node 01000000000000000000000000000000 had admitted epoch 175, which is past the boundary, slot 14 ask a ask b"},
		{"the last second before it is fine", []ChangeEvent{{Kind: Propose, Now: 100, Members: []NodeID{a}}, promise(1, 101, 139, a)},
			"proposed 1 at 14, waiting for a: ask a\nfixed 1 at 14, waiting for nobody: fix"},
		{"promises of another round", []ChangeEvent{propose, promise(2, 101, 110, a), promise(0, 101, 110, b)},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for a, b:\nproposed 1 at 14, waiting for a, b:"},
		{"a stranger's", []ChangeEvent{propose, promise(1, 101, 999, NodeID{9})},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nproposed 1 at 14, waiting for a, b:"},
		{"cancelled", []ChangeEvent{propose, {Kind: Cancel, Now: 101}, promise(1, 101, 110, a), {Kind: Propose, Now: 102, Members: []NodeID{a}}},
			"proposed 1 at 14, waiting for a, b: ask a ask b\nidle 1 at 14, waiting for nobody: withdraw, the change was given up\n" +
				"idle 1 at 14, waiting for nobody:\nproposed 2 at 14, waiting for a: ask a"},
		{"the next change may begin where the last did, or later", []ChangeEvent{{Kind: Propose, Now: 100, Members: []NodeID{a}, From: 50}, promise(1, 101, 110, a), {Kind: Propose, Now: 102, Members: []NodeID{a}}},
			"proposed 1 at 50, waiting for a: ask a\nfixed 1 at 50, waiting for nobody: fix\nproposed 2 at 50, waiting for a: ask a"},
		{"nobody", []ChangeEvent{{Kind: Propose, Now: 100}},
			"idle 0 at 0, waiting for nobody: refuse, a change needs a member to prepare it"},
	} {
		if got := transcript(t, Change{}, c.events...); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// A modelWorld is all there is in a small cluster, as one comparable value:
// slots of one second, nodes that may be silent for ever, a network that
// delivers what was once sent never, late, again and in any order.
type modelWorld struct {
	now              int8
	round, phase     uint8 // of the change agreed
	boundary         int8
	members, waiting uint8 // bit sets of nodes
	lost             uint8
	fixed            [modelChanges]int8 // boundaries of the rings after the first
	rings            uint8              // how many of them there are
	shown            [modelShown]modelShow
	showing          uint8
	nodes            [modelNodes]modelNode
	replies          [modelNodes][modelRounds + 1]uint16 // bit sets of highest epochs + 1
	broken           string                              // an invariant, as soon as it is
}

// A modelShow is what members may be shown: the change and the rings agreed.
type modelShow struct {
	round, phase uint8
	boundary     int8
	rings        uint8
}

type modelNode struct {
	promise modelPromise
	highest int8 // -1: none
	rings   uint8
	under   int8 // the highest epoch admitted under the rings fixed, -1: none
}

type modelPromise struct {
	round, boundary uint8
	lifted, fixed   bool
}

const (
	modelNodes   = 3
	modelChanges = 2
	modelRounds  = 3
	modelShown   = 8
)

// A model is the bounds of a search, and what is broken on purpose.
type model struct {
	nodes         int
	now           int8 // the last second
	changes       uint8
	rounds        uint8
	loses         bool // a node may be declared lost, and the change be cancelled
	step          func(Change, ChangeEvent) (Change, []ChangeAction)
	fast          int8 // by how much more than Timing allows the nodes' clocks are ahead, seconds
	replyThenSync bool // a node that crashes may have replied and not synced
	admitsAll     bool
	skipsRings    bool // a node learns of a change without the rings agreed before
}

var modelTiming = Timing{SlotSeconds: 1, AheadSeconds: 1, LeadSeconds: 1}

func modelID(i int) NodeID { return NodeID{15: byte(i + 1)} }

func modelIDs(set uint8) (ids []NodeID) {
	for i := range modelNodes {
		if set&(1<<i) != 0 {
			ids = append(ids, modelID(i))
		}
	}
	return ids
}

func modelSet(ids []NodeID) (set uint8) {
	for _, id := range ids {
		set |= 1 << (id[15] - 1)
	}
	return set
}

// agree feeds an event to Step.
func (m *model) agree(w modelWorld, e ChangeEvent) (modelWorld, bool) {
	c := Change{uint64(w.round), Phase(w.phase), int64(w.boundary), modelIDs(w.members), modelIDs(w.waiting)}
	e.Now = int64(w.now)
	next, actions := m.step(c, e)
	if next.Round > uint64(m.rounds) || next.Boundary > 100 {
		return w, false // beyond the bounds
	}
	w.round, w.phase, w.boundary = uint8(next.Round), uint8(next.Phase), int8(next.Boundary)
	w.members, w.waiting = modelSet(next.Members), modelSet(next.Waiting)
	for _, a := range actions {
		if a.Kind != Fix {
			continue
		}
		for i := range m.nodes {
			p := w.nodes[i].promise
			switch {
			case w.lost&(1<<i) != 0:
			case p.round != w.round || int8(p.boundary) != w.boundary || p.lifted:
				w.broken = "fixed before a member has prepared"
			case w.nodes[i].under >= w.boundary:
				w.broken = "an epoch past the boundary was admitted under the old ring"
			}
			w.nodes[i].under = -1 // what counts from now on is judged when it is admitted
		}
		if modelTiming.reached(int64(w.boundary), int64(w.now)) {
			w.broken = "fixed when the boundary was admissible"
		}
		w.fixed[w.rings] = w.boundary
		w.rings++
	}
	show := modelShow{w.round, w.phase, w.boundary, w.rings}
	if w.round > 0 && !slices.Contains(w.shown[:w.showing], show) {
		if w.showing == modelShown {
			return w, false
		}
		w.shown[w.showing] = show
		w.showing++
	}
	return w, true
}

// after yields every world that may come next.
func (m *model) after(w modelWorld, yield func(modelWorld)) {
	agree := func(w modelWorld, e ChangeEvent) {
		if next, ok := m.agree(w, e); ok {
			yield(next)
		}
	}
	all := modelIDs(1<<m.nodes - 1&^w.lost)
	if w.now < m.now {
		later := w
		later.now++
		yield(later)
	}
	agree(w, ChangeEvent{Kind: Tick})
	if w.rings < m.changes {
		agree(w, ChangeEvent{Kind: Propose, Members: all})
	}
	if m.loses {
		agree(w, ChangeEvent{Kind: Cancel})
		if w.lost == 0 {
			lost := w
			lost.lost = 1
			agree(lost, ChangeEvent{Kind: DeclaredLost, Node: modelID(0)})
		}
	}
	for i := range m.nodes {
		for _, show := range w.shown[:w.showing] {
			m.show(w, i, show, yield)
		}
		for round, highest := range w.replies[i] {
			for bit := range 16 {
				if highest&(1<<bit) == 0 {
					continue
				}
				e := ChangeEvent{Kind: Promised, Round: uint64(round), Node: modelID(i), Highest: int64(bit - 1)}
				if bit == 0 {
					e.Highest = NoEpoch
				}
				agree(w, e)
			}
		}
		m.admit(w, i, w.now+1+m.fast, yield)
	}
}

func (n *modelNode) preparer() Preparer {
	p := Preparer{Promise{uint64(n.promise.round), int64(n.promise.boundary), n.promise.lifted, n.promise.fixed}, int64(n.highest)}
	if n.highest < 0 {
		p.Highest = NoEpoch
	}
	return p
}

// show lets a node learn what was agreed at some time: it takes the rings, and
// promises. It may crash before it replies.
func (m *model) show(w modelWorld, i int, show modelShow, yield func(modelWorld)) {
	n := &w.nodes[i]
	if !m.skipsRings || show.phase == uint8(Fixed) {
		n.rings = max(n.rings, show.rings)
	}
	next, persist, reply := n.preparer().Agreed(Change{Round: uint64(show.round), Phase: Phase(show.phase), Boundary: int64(show.boundary)})
	before := *n
	if persist {
		n.promise = modelPromise{uint8(next.Promise.Round), uint8(next.Promise.Boundary), next.Promise.Lifted, next.Promise.Fixed}
	}
	yield(w)
	if reply != nil {
		w.replies[i][reply.Round] |= 1 << (n.highest + 1)
		yield(w)
		if m.replyThenSync {
			n.promise = before.promise
			yield(w)
		}
	}
}

func (m *model) admit(w modelWorld, i int, epoch int8, yield func(modelWorld)) {
	n := &w.nodes[i]
	_, verdict := n.preparer().Admit(1, int64(epoch))
	if verdict == NotYet && !m.admitsAll {
		return
	}
	n.highest = max(n.highest, epoch)
	under := 0 // the last ring it knows that counts for the epoch
	for k := range n.rings {
		if epoch >= w.fixed[k] {
			under = int(k) + 1
		}
	}
	for k := under; k < int(w.rings); k++ {
		if epoch >= w.fixed[k] && w.lost&(1<<i) == 0 {
			w.broken = "an epoch past the boundary was admitted under the old ring"
		}
	}
	if w.rings < m.changes {
		n.under = max(n.under, epoch)
	}
	yield(w)
}

// search visits every world that can come of an empty cluster, until an
// invariant is broken, and returns which and how many it saw.
func (m *model) search(most int) (broken string, worlds, fixed int) {
	first := modelWorld{members: 1<<m.nodes - 1}
	for i := range first.nodes {
		n := &first.nodes[i]
		n.highest, n.under = -1, -1
	}
	seen := map[modelWorld]struct{}{first: {}}
	queue := []modelWorld{first}
	for len(queue) > 0 && len(seen) <= most {
		w := queue[0]
		queue = queue[1:]
		if w.broken != "" {
			return w.broken, len(seen), fixed
		}
		if w.rings > 0 {
			fixed++
		}
		m.after(w, func(next modelWorld) {
			if next.rings == m.changes && next.broken == "" { // of no consequence any more
				next.replies = [modelNodes][modelRounds + 1]uint16{}
				for i := range next.nodes {
					next.nodes[i].highest = -1
				}
			}
			if _, found := seen[next]; !found {
				seen[next] = struct{}{}
				queue = append(queue, next)
			}
		})
	}
	if len(queue) > 0 {
		broken = "the search did not end"
	}
	return broken, len(seen), fixed
}

func rightStep(c Change, e ChangeEvent) (Change, []ChangeAction) { return c.Step(modelTiming, e) }

// Every order of messages, lost, late and repeated ones, crashes, admissions
// and the passing of time, within bounds. MAYFLY_TEST_CHANGE=1 widens them.
func TestChangeModel(t *testing.T) {
	models := []model{
		{nodes: 2, now: 2, changes: 1, rounds: 2, step: rightStep},
		{nodes: 1, now: 3, changes: 2, rounds: 3, step: rightStep},
		{nodes: 2, now: 1, changes: 1, rounds: 1, loses: true, step: rightStep},
		{nodes: 2, now: 2, changes: 1, rounds: 2, fast: 2, step: rightStep}, // a clock that is wrong costs time, not safety
		{nodes: 3, now: 1, changes: 1, rounds: 1, step: rightStep},
	}
	if os.Getenv("MAYFLY_TEST_CHANGE") != "" {
		models = append(models,
			model{nodes: 2, now: 3, changes: 1, rounds: 2, step: rightStep},
			model{nodes: 2, now: 2, changes: 1, rounds: 2, loses: true, step: rightStep},
			model{nodes: 2, now: 3, changes: 2, rounds: 2, step: rightStep},
			model{nodes: 3, now: 2, changes: 1, rounds: 1, loses: true, step: rightStep})
	}
	for _, m := range models {
		broken, worlds, fixed := m.search(20_000_000)
		t.Logf("%d nodes, %d s, %d rounds: %d worlds, a change is fixed in %d", m.nodes, m.now, m.rounds, worlds, fixed)
		if broken != "" || fixed == 0 {
			t.Errorf("%d nodes: %s", m.nodes, broken)
		}
	}
}

// What is broken on purpose is found.
func TestChangeModelFinds(t *testing.T) {
	const early, late, past = "fixed before a member has prepared", "fixed when the boundary was admissible", "an epoch past the boundary was admitted under the old ring"
	two := model{nodes: 2, now: 3, changes: 1, rounds: 2, step: rightStep}
	with := func(step func(Change, ChangeEvent) (Change, []ChangeAction)) model {
		m := two
		m.step = step
		return m
	}
	fast := with(func(c Change, e ChangeEvent) (Change, []ChangeAction) {
		e.Highest = NoEpoch
		return rightStep(c, e)
	})
	fast.fast = 2
	syncs, keeps, learns := two, two, model{nodes: 1, now: 3, changes: 2, rounds: 3, step: rightStep}
	syncs.replyThenSync, keeps.admitsAll, learns.skipsRings = true, true, true
	for _, c := range []struct {
		name  string
		model model
		want  []string
	}{
		{"fixed before a member has prepared", with(func(c Change, e ChangeEvent) (Change, []ChangeAction) {
			c, actions := rightStep(c, e)
			if e.Kind == Propose {
				c.Waiting = without(c.Waiting, modelID(0))
			}
			return c, actions
		}), []string{early}},
		{"promises of another round count", with(func(c Change, e ChangeEvent) (Change, []ChangeAction) {
			e.Round = c.Round
			return rightStep(c, e)
		}), []string{early}},
		{"what was admitted before the promise does not matter", fast, []string{past}},
		{"the clock does not matter", with(func(c Change, e ChangeEvent) (Change, []ChangeAction) {
			if e.Kind != Propose {
				e.Now = 0
			}
			return rightStep(c, e)
		}), []string{late}},
		{"a promise is given before it is synced", syncs, []string{early, past}},
		{"a promise is not kept", keeps, []string{past}},
		{"a node learns of a change without the rings before it", learns, []string{past}},
	} {
		broken, worlds, _ := c.model.search(2_000_000)
		t.Logf("%s: %s, after %d worlds", c.name, broken, worlds)
		if !slices.Contains(c.want, broken) {
			t.Errorf("%s: found %q", c.name, broken)
		}
	}
}
