package replication

import (
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
