package replication

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

var (
	v1   = object.Version{TimestampMicros: 1, HeaderCRC: 1}
	v2   = object.Version{TimestampMicros: 2, HeaderCRC: 1}
	grav = object.Version{TimestampMicros: 3, Tombstone: true}
)

// What an owner may say, complete unless the name says otherwise.
var (
	body1      = ReadAnswer{Status: Found, Version: v1, Body: true, Complete: true}
	head1      = ReadAnswer{Status: Found, Version: v1, Complete: true}
	body2      = ReadAnswer{Status: Found, Version: v2, Body: true, Complete: true}
	head2      = ReadAnswer{Status: Found, Version: v2, Complete: true}
	headDead   = ReadAnswer{Status: Found, Version: grav, Complete: true}
	nothing    = ReadAnswer{Status: Absent, Complete: true}
	amnesia    = ReadAnswer{Status: Absent}
	bodyNewcom = ReadAnswer{Status: Found, Version: v1, Body: true}
	gone       = ReadAnswer{Status: Expired, Complete: true}
	broken     = ReadAnswer{Status: Failed, Err: lost}
)

func got(owner int, a ReadAnswer) ReadEvent { return ReadEvent{Kind: Replied, Owner: owner, Answer: a} }

func TestRead(t *testing.T) {
	act := func(k ReadActionKind, owner int) ReadAction { return ReadAction{Kind: k, Owner: owner} }
	type reply struct {
		kind  ReadActionKind // 0: none yet
		owner int
		code  object.Code
	}
	found := func(owner int) reply { return reply{kind: ReplyFound, owner: owner} }
	fails := func(c object.Code) reply { return reply{kind: ReplyError, code: c} }
	for _, c := range []struct {
		claim     string
		n, r, w   int
		writeOnce bool
		evs       []ReadEvent
		asks      []ReadAction // all questions after the first ones
		want      reply
		mends     []int
	}{
		{"a cluster of one: found", 1, 1, 1, true, []ReadEvent{got(0, body1)}, nil, found(0), nil},
		{"a cluster of one: absent", 1, 1, 1, true, []ReadEvent{got(0, nothing)}, nil, fails(object.CodeAbsent), nil},
		{"a cluster of one without memory does not know", 1, 1, 1, true, []ReadEvent{got(0, amnesia)}, nil, fails(object.CodeUnknown), nil},
		{"one body, one header", 3, 2, 2, false, []ReadEvent{got(0, body1), got(1, head1)}, nil, found(0), nil},
		{"one answer of two is not enough", 3, 2, 2, false, []ReadEvent{got(0, body1)}, nil, reply{}, nil},
		{"a newer header fetches its body", 3, 2, 2, false, []ReadEvent{got(0, body1), got(1, head2), got(1, body2)}, []ReadAction{act(AskBody, 1)}, found(1), []int{0}},
		{"an older header is mended", 3, 2, 2, false, []ReadEvent{got(0, body2), got(1, head1)}, nil, found(0), []int{1}},
		{"absent on one, found on the other", 3, 2, 2, false, []ReadEvent{got(0, nothing), got(1, head1), got(1, body1)}, []ReadAction{act(AskBody, 1)}, found(1), []int{0}},
		{"two complete owners say absent", 3, 2, 2, true, []ReadEvent{got(0, nothing), got(1, nothing)}, nil, fails(object.CodeAbsent), nil},
		{"r=1 does not make one absent enough", 3, 1, 2, true, []ReadEvent{got(0, nothing)}, nil, reply{}, nil},
		{"r=1 answers with one body", 3, 1, 2, true, []ReadEvent{got(0, body1)}, nil, found(0), nil},
		{"an owner without memory is asked over", 3, 2, 2, true, []ReadEvent{got(0, amnesia), got(1, nothing), got(2, nothing)}, []ReadAction{act(AskBody, 2)}, fails(object.CodeAbsent), nil},
		{"two without memory: unknown", 3, 2, 2, true, []ReadEvent{got(0, amnesia), got(1, amnesia), got(2, nothing)}, []ReadAction{act(AskBody, 2)}, fails(object.CodeUnknown), nil},
		{"a newcomer's value counts in a write-once bucket", 3, 2, 2, true, []ReadEvent{got(0, bodyNewcom), got(1, head1)}, nil, found(0), nil},
		{"and does not in another", 3, 2, 2, false, []ReadEvent{got(0, bodyNewcom), got(1, head1)}, []ReadAction{act(AskHead, 2)}, reply{}, nil},
		{"a failure is asked over, for the body", 3, 2, 2, true, []ReadEvent{got(0, broken), got(1, head1), got(2, body1)}, []ReadAction{act(AskBody, 2)}, found(2), nil},
		{"two failures: unknown", 3, 2, 2, true, []ReadEvent{got(0, broken), got(1, broken), got(2, body1)}, []ReadAction{act(AskBody, 2)}, fails(object.CodeUnknown), nil},
		{"a slow body is hedged by the one that has it", 3, 2, 2, true, []ReadEvent{got(1, head1), {Kind: Hedge}, got(2, body1)}, []ReadAction{act(AskBody, 2)}, found(2), nil},
		{"with the value at hand, a slow header is hedged by a header", 3, 2, 2, true, []ReadEvent{got(0, body1), {Kind: Hedge}, got(2, head1)}, []ReadAction{act(AskHead, 2)}, found(0), nil},
		{"a tombstone that wins is absent", 3, 2, 2, false, []ReadEvent{got(0, body1), got(1, headDead)}, nil, fails(object.CodeAbsent), []int{0}},
		{"expired beats absent", 3, 2, 2, true, []ReadEvent{got(0, nothing), got(1, gone)}, nil, fails(object.CodeExpired), nil},
		{"found beats expired", 3, 2, 2, true, []ReadEvent{got(0, body1), got(1, gone)}, nil, found(0), nil},
		{"an unreadable value is read elsewhere", 3, 2, 2, true, []ReadEvent{got(1, head1), got(0, broken), got(1, body1)}, []ReadAction{act(AskHead, 2), act(AskBody, 1)}, reply{}, nil},
		{"time over", 3, 2, 2, true, []ReadEvent{got(0, body1), {Kind: Over}}, nil, fails(object.CodeDeadline), nil},
	} {
		prefer := []int{0, 1, 2}[:c.n]
		s := NewRead(c.n, c.r, c.w, c.writeOnce, prefer)
		first := s.Step(ReadEvent{Kind: Begin}, nil)
		bodies := 0
		for _, a := range first {
			if a.Kind == AskBody {
				bodies++
			}
		}
		if bodies != 1 {
			t.Errorf("%s: %d bodies asked for at first", c.claim, bodies)
		}
		var asks []ReadAction
		var mends []int
		var have reply
		for _, ev := range c.evs {
			for _, a := range s.Step(ev, nil) {
				switch a.Kind {
				case AskBody, AskHead:
					asks = append(asks, a)
				case Mend:
					mends = append(mends, a.Owner)
				case ReplyFound:
					have = found(a.Owner)
				case ReplyError:
					have = fails(a.Err.Code)
				}
			}
		}
		if have != c.want {
			t.Errorf("%s: reply %+v, want %+v", c.claim, have, c.want)
		}
		if c.want.kind != 0 && !slices.Equal(asks, c.asks) {
			t.Errorf("%s: asked %v, want %v", c.claim, asks, c.asks)
		}
		if !slices.Equal(mends, c.mends) {
			t.Errorf("%s: mended %v, want %v", c.claim, mends, c.mends)
		}
	}
}

// TestReadWithNewcomer: D (0) took the place of the source A (3) beside B (1) and C
// (2), w=2. An absence takes B and C, or one of them with both A and D.
func TestReadWithNewcomer(t *testing.T) {
	const d, b, c, a = 0, 1, 2, 3
	earlier := []Quorum{{Members: 1<<b | 1<<c | 1<<a, R: 2, Need: 2}}
	for _, test := range []struct {
		claim     string
		writeOnce bool
		answers   map[int]ReadAnswer // by owner or source; others are down
		asked     []int              // in order
		code      object.Code        // 0: found
	}{
		{"both other owners say absent: nobody else is asked", true, map[int]ReadAnswer{b: nothing, c: nothing, d: nothing, a: nothing}, []int{b, c}, object.CodeAbsent},
		{"one owner, the newcomer and the source", true, map[int]ReadAnswer{b: nothing, d: nothing, a: nothing}, []int{b, c, d, a}, object.CodeAbsent},
		{"one owner and the newcomer prove nothing", true, map[int]ReadAnswer{b: nothing, d: nothing}, []int{b, c, d, a}, object.CodeUnknown},
		{"one owner and the source prove nothing", true, map[int]ReadAnswer{b: nothing, a: nothing}, []int{b, c, d, a}, object.CodeUnknown},
		{"the newcomer and the source prove nothing", true, map[int]ReadAnswer{d: nothing, a: nothing}, []int{b, c, d, a}, object.CodeUnknown},
		{"a source that lost something does not count", true, map[int]ReadAnswer{b: nothing, d: nothing, a: amnesia}, []int{b, c, d, a}, object.CodeUnknown},
		{"a newcomer that lost something does not count", true, map[int]ReadAnswer{b: nothing, d: amnesia, a: nothing}, []int{b, c, d, a}, object.CodeUnknown},
		{"only the source has it", true, map[int]ReadAnswer{b: nothing, d: nothing, a: body1}, []int{b, c, d, a}, 0},
		{"only the newcomer has it", true, map[int]ReadAnswer{b: nothing, d: body1, a: nothing}, []int{b, c, d, a}, 0},
		{"an owner and the source have it, written once", true, map[int]ReadAnswer{b: body1, a: body1}, []int{b, c, d, a}, 0},
		{"the source and a newcomer that lost something have it, written once", true, map[int]ReadAnswer{a: body1, d: bodyNewcom}, []int{b, c, d, a}, 0},
		{"one has it, and nobody else is there", true, map[int]ReadAnswer{a: body1}, []int{b, c, d, a}, object.CodeUnknown},
		{"the newest version of all rows counts", false, map[int]ReadAnswer{b: body1, d: body1, a: body2}, []int{b, c, d, a}, 0},
		{"a version that may be old is not the answer", false, map[int]ReadAnswer{b: body1, a: body1}, []int{b, c, d, a}, object.CodeUnknown},
		{"expired says the source", true, map[int]ReadAnswer{b: nothing, d: nothing, a: gone}, []int{b, c, d, a}, object.CodeExpired},
	} {
		t.Run(test.claim, func(t *testing.T) {
			s := NewRead(3, 2, 2, test.writeOnce, []int{b, c, d}).With(1, earlier)
			queue := s.Step(ReadEvent{Kind: Begin}, nil)
			var asked []int
			var reply ReadAction
			for len(queue) > 0 {
				act := queue[0]
				queue = queue[1:]
				switch act.Kind {
				case AskBody, AskHead:
					if !slices.Contains(asked, act.Owner) {
						asked = append(asked, act.Owner)
					}
					answer, up := test.answers[act.Owner]
					if !up {
						answer = broken
					}
					if answer.Status == Found {
						answer.Body = act.Kind == AskBody
					}
					queue = s.Step(got(act.Owner, answer), queue)
				case Mend:
					if act.Owner == a {
						t.Error("a source is mended")
					}
				default:
					reply = act
				}
			}
			code := object.Code(0)
			if reply.Kind == ReplyError {
				code = reply.Err.Code
			} else if reply.Kind != ReplyFound {
				t.Fatal("no reply")
			}
			if code != test.code || !slices.Equal(asked, test.asked) {
				t.Errorf("%v after asking %v, want %v after %v", code, asked, test.code, test.asked)
			}
		})
	}
}

// TestReadNeverLiesAmongNewcomers: of each set of nodes that may be down, lost
// something, or have a value that w of one row acknowledged, no read calls it absent;
// and if all are there it is found.
func TestReadNeverLiesAmongNewcomers(t *testing.T) {
	const n = 3 // D, B, C, and the source A
	rows := [][]int{{3, 1, 2}, {0, 1, 2}}
	for w := 1; w <= n; w++ {
		for r := 1; r <= n; r++ {
			earlier := []Quorum{{Members: 0b1110, R: r, Need: n - w + 1}}
			for row := range rows {
				for by := range 1 << n {
					if bits.OnesCount(uint(by)) != w {
						continue
					}
					for states := range 81 { // 0 there, 1 down, 2 lost what it had and knows it
						for _, writeOnce := range []bool{false, true} {
							readAmongNewcomers(t, w, r, rows[row], by, states, earlier, writeOnce)
						}
					}
				}
			}
		}
	}
}

func readAmongNewcomers(t *testing.T, w, r int, row []int, by, states int, earlier []Quorum, writeOnce bool) {
	answers := [4]ReadAnswer{nothing, nothing, nothing, nothing}
	for i, node := range row {
		if by>>i&1 != 0 {
			answers[node] = body1
		}
	}
	for i, state := 0, states; i < 4; i, state = i+1, state/3 {
		switch state % 3 {
		case 1:
			answers[i] = broken
		case 2:
			answers[i] = amnesia
		}
	}
	s := NewRead(3, r, w, writeOnce, []int{1, 2, 0}).With(1, earlier)
	queue := s.Step(ReadEvent{Kind: Begin}, nil)
	for len(queue) > 0 {
		act := queue[0]
		queue = queue[1:]
		switch act.Kind {
		case AskBody, AskHead:
			answer := answers[act.Owner]
			answer.Body = answer.Status == Found && act.Kind == AskBody
			queue = s.Step(got(act.Owner, answer), queue)
		case ReplyError:
			if act.Err.Code == object.CodeAbsent {
				t.Fatalf("w=%d r=%d, row %v, by %03b, states %d: absent", w, r, row, by, states)
			}
			if states == 0 {
				t.Fatalf("w=%d r=%d, row %v, by %03b: all are there, and %v", w, r, row, by, act.Err)
			}
		}
	}
	if !s.Done() {
		t.Fatalf("w=%d r=%d, row %v, by %03b, states %d: no reply", w, r, row, by, states)
	}
}

// TestHead: a read of headers never asks for a value.
func TestHead(t *testing.T) {
	for _, c := range []struct {
		claim string
		evs   []ReadEvent
		want  ReadAction
	}{
		{"two headers", []ReadEvent{got(0, head1), got(1, head1)}, ReadAction{Kind: ReplyFound}},
		{"the newer header wins", []ReadEvent{got(0, head1), got(1, head2)}, ReadAction{Kind: ReplyFound, Owner: 1}},
		{"a failure is asked over", []ReadEvent{got(0, broken), got(1, head1), got(2, head2)}, ReadAction{Kind: ReplyFound, Owner: 2}},
		{"a slow one is hedged", []ReadEvent{got(0, head1), {Kind: Hedge}, got(2, head1)}, ReadAction{Kind: ReplyFound}},
	} {
		s := NewHead(3, 2, 2, false, []int{0, 1, 2})
		all := s.Step(ReadEvent{Kind: Begin}, nil)
		for _, ev := range c.evs {
			all = s.Step(ev, all)
		}
		var reply ReadAction
		for _, a := range all {
			switch a.Kind {
			case AskBody:
				t.Errorf("%s: a value is asked for", c.claim)
			case ReplyFound, ReplyError:
				reply = a
			}
		}
		if reply != c.want {
			t.Errorf("%s: %+v, want %+v", c.claim, reply, c.want)
		}
	}
}

// TestReadNeverLies plays random clusters: a value acknowledged by w owners is
// in place, any owners may have failed, lost their memory (and know it) or be
// slow. The read must never call it absent, and must end.
func TestReadNeverLies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 9))
	counts := map[string]int{}
	for range 50_000 {
		n := 1 + rnd.IntN(5)
		w, r := 1+rnd.IntN(n), 1+rnd.IntN(n)
		stored := rnd.IntN(4) > 0
		writeOnce := rnd.IntN(2) == 0
		holders := map[int]bool{}
		for _, o := range rnd.Perm(n)[:w] {
			holders[o] = stored
		}
		forgot := make([]bool, n) // lost what it had, and says so
		down := make([]bool, n)
		for i := range n {
			forgot[i], down[i] = rnd.IntN(5) == 0, rnd.IntN(5) == 0
		}
		s := NewRead(n, r, w, writeOnce, rnd.Perm(n))
		var queue []ReadAction
		asked := 0
		play := func(out []ReadAction) {
			for _, a := range out {
				switch a.Kind {
				case AskBody, AskHead:
					queue = append(queue, a)
					if asked++; asked > 4*n {
						t.Fatal("it asks for ever")
					}
				case ReplyFound:
					if !stored {
						t.Fatal("found what was never stored")
					}
					counts["found"]++
				case ReplyError:
					counts[a.Err.Code.String()]++
					if a.Err.Code == object.CodeAbsent && stored {
						t.Fatalf("n=%d r=%d w=%d: an acknowledged value is called absent", n, r, w)
					}
				}
			}
		}
		play(s.Step(ReadEvent{Kind: Begin}, nil))
		for len(queue) > 0 {
			if rnd.IntN(6) == 0 {
				play(s.Step(ReadEvent{Kind: Hedge}, nil))
			}
			i := rnd.IntN(len(queue))
			q := queue[i]
			queue = slices.Delete(queue, i, i+1)
			a := nothing
			switch {
			case down[q.Owner]:
				a = broken
			case forgot[q.Owner]:
				a = amnesia
			case holders[q.Owner]:
				a = ReadAnswer{Status: Found, Version: v1, Complete: true, Body: q.Kind == AskBody}
			}
			play(s.Step(got(q.Owner, a), nil))
		}
		if !s.Done() {
			t.Fatal("all have answered and there is no reply")
		}
	}
	for _, want := range []string{"found", "absent", "unknown"} {
		if counts[want] < 1000 {
			t.Errorf("only %d %s: the test does not try it", counts[want], want)
		}
	}
}
