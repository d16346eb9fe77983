package replication

import (
	"fmt"
	"math/bits"

	"github.com/mayflydb/mayfly/internal/object"
)

// A Read decides one get from its owners' answers.
//
// It asks one owner for the value and only as many others for headers as make
// the answer certain; when one fails, or is slow ([Hedge]), the next is asked.
//
//   - Found needs r owners' answers; the greatest version wins, and if its value
//     is not at hand, it is fetched. Owners that are incomplete are not counted,
//     except in write-once buckets, where whoever holds the value counts.
//   - Absent needs n-w+1 complete owners that say so, w being the smallest write
//     quorum the bucket ever had: then no acknowledged put can be elsewhere.
//   - A found value beats expired, and expired beats absent.
//   - Anything else is unknown, a retryable error.
//
// While some owners are newcomers the rows of owners before them must agree as
// well, and the sources of what newcomers may lack are asked where the owners do
// not suffice ([Read.With], [Quorum]). If everybody was asked and a write-once
// bucket's value was found on r nodes, whichever they are, it is the value.
//
// A read of the header only ([NewHead]) is the same without values.
//
// Invariant: an owner has at most one question open at a time.
type Read struct {
	n         int // owners
	all       int // who can be asked: owners, then sources
	present   Quorum
	earlier   []Quorum
	writeOnce bool
	headOnly  bool // no value is asked for
	owners    [maxAsked]asked
	order     [maxAsked]uint8 // the one to ask first in front
	done      bool
}

// asked is where one owner stands.
type asked struct {
	open       bool // a question is under way
	body       bool // it is, or was last, for the value
	bodyFailed bool // the owner could not give its value; it is not asked for it again
	answered   bool
	answer     ReadAnswer
}

// A ReadStatus is what an owner says about a key.
type ReadStatus uint8

const (
	// Failed: no usable answer. Nothing follows from it.
	Failed ReadStatus = iota
	// Found: the owner has a record, perhaps a tombstone.
	Found
	// Absent: the owner has nothing under the key.
	Absent
	// Expired: the key's time is over, or below the owner's drop horizon.
	Expired
)

// A ReadAnswer is one owner's answer.
type ReadAnswer struct {
	Status   ReadStatus
	Version  object.Version // of what was found
	Body     bool           // the value came with it
	Complete bool           // the owner vouches that it lacks nothing it acknowledged
	Err      *object.Error  // why it failed
}

// A ReadEvent is something that happened to a read.
type ReadEvent struct {
	Kind   ReadEventKind
	Owner  int        // for Replied
	Answer ReadAnswer // for Replied
}

// A ReadEventKind says what happened.
type ReadEventKind uint8

const (
	// Begin starts the read.
	Begin ReadEventKind = iota + 1
	// Replied: an owner answered, or the connection to it failed.
	Replied
	// Hedge: the answer takes longer than usual; ask one more.
	Hedge
	// Over: the caller's time is over.
	Over
)

// A ReadAction is something the driver must do.
type ReadAction struct {
	Kind  ReadActionKind
	Owner int
	From  int           // for Mend: an owner that has the version that won
	Err   *object.Error // for ReplyError
}

// A ReadActionKind says what to do.
type ReadActionKind uint8

const (
	// AskBody: ask the owner for header and value.
	AskBody ReadActionKind = iota + 1
	// AskHead: ask the owner for the header only.
	AskHead
	// ReplyFound: answer with what the owner sent: value and header, or the header
	// if no more was wanted. Replies come exactly once, and last but for Mend.
	ReplyFound
	// ReplyError: answer that the key is absent, expired, or that it cannot be told.
	ReplyError
	// Mend: the owner lacks the version that won, or may.
	Mend
)

// NewRead returns the state of a read from n owners, of which r must answer,
// for a bucket whose smallest write quorum ever was w. prefer lists the owners
// in the order in which they should be asked: the nearest or quickest first.
func NewRead(n, r, w int, writeOnce bool, prefer []int) Read {
	if n < 1 || n > MaxOwners || r < 1 || r > n || w < 1 || w > n || len(prefer) != n {
		panic(fmt.Sprintf("replication: BUG: a read from %d owners, r=%d, w=%d, %d preferred", n, r, w, len(prefer)))
	}
	s := Read{n: n, all: n, present: Quorum{Members: 1<<n - 1, R: r, Need: n - w + 1}, writeOnce: writeOnce}
	for i, o := range prefer {
		s.order[i] = uint8(o)
	}
	return s
}

// NewHead is [NewRead] for the header only.
func NewHead(n, r, w int, writeOnce bool, prefer []int) Read {
	s := NewRead(n, r, w, writeOnce, prefer)
	s.headOnly = true
	return s
}

// With returns the read, before its first step, as one that also asks sources,
// which have the places from n on, and must satisfy the rows of owners before.
func (s Read) With(sources int, earlier []Quorum) Read {
	for i := range sources {
		s.order[s.n+i] = uint8(s.n + i)
	}
	s.all, s.earlier = s.n+sources, earlier
	return s
}

// Done reports whether the read has replied.
func (s *Read) Done() bool { return s.done }

// Step takes one event and appends the actions it causes to out. After the
// reply nothing causes anything.
func (s *Read) Step(ev ReadEvent, out []ReadAction) []ReadAction {
	if s.done {
		return out
	}
	switch ev.Kind {
	case Begin:
		return s.askMore(s.ask(s.order[0], !s.headOnly, out))
	case Replied:
		if !s.take(ev.Owner, ev.Answer) {
			return out
		}
	case Hedge:
		return s.hedge(out)
	case Over:
		return s.reply(s.unknown(object.CodeDeadline, "the time is over"), out)
	}
	return s.decide(out)
}

// ask opens a question to an owner.
func (s *Read) ask(owner uint8, body bool, out []ReadAction) []ReadAction {
	o := &s.owners[owner]
	o.open, o.body = true, body
	kind := AskHead
	if body {
		kind = AskBody
	}
	return append(out, ReadAction{Kind: kind, Owner: int(owner)})
}

// take records an answer and reports whether it was asked for.
func (s *Read) take(owner int, a ReadAnswer) bool {
	o := &s.owners[owner]
	if !o.open {
		return false
	}
	o.open = false
	if o.body && !(a.Status == Found && a.Body) {
		o.bodyFailed = true
	}
	if a.Status == Failed && o.answered && o.answer.Status == Found {
		return true // it told its version before; only its value is out of reach
	}
	o.answered, o.answer = true, a
	return true
}

// What is certain of a key without a value.
var (
	errAbsent  = object.Errorf(object.CodeAbsent, object.NotDone, "no object is stored under this key")
	errDeleted = object.Errorf(object.CodeAbsent, object.NotDone, "no object is stored under this key: it was deleted")
	errExpired = object.Errorf(object.CodeExpired, object.NotDone, "the object's time has expired: its bucket keeps nothing that old")
)

// decide replies if the answers at hand suffice, and asks on if they do not.
func (s *Read) decide(out []ReadAction) []ReadAction {
	t := s.tally()
	switch {
	case t.best >= 0 && s.reads(&t):
		return s.found(t.best, out)
	case t.best < 0 && t.expired && s.reads(&t):
		return s.reply(errExpired, out)
	case t.best < 0 && !t.expired && provesAll(&s.present, s.earlier, t.complete):
		return s.reply(errAbsent, out)
	}
	out = s.askMore(out)
	if s.open() != 0 {
		return out
	}
	if next, ok := s.next(); ok {
		return s.ask(next, s.wantsBody(), out)
	}
	if s.writeOnce && t.best >= 0 && bits.OnesCount32(t.complete&s.present.Members|t.holders) >= s.present.R {
		return s.found(t.best, out)
	}
	return s.reply(s.unknown(object.CodeUnknown, "the others did not answer, or are not complete"), out)
}

// askMore asks until the open questions may decide the read, if all goes well.
func (s *Read) askMore(out []ReadAction) []ReadAction {
	for {
		t := s.tally()
		open := s.open()
		t.complete |= open
		decided := t.best >= 0 || t.expired || provesAll(&s.present, s.earlier, t.complete)
		if decided && s.reads(&t) {
			return out
		}
		next, ok := s.next()
		if !ok {
			return out
		}
		out = s.ask(next, s.wantsBody(), out)
	}
}

// A readTally is what the answers come to; masks have a bit for each that was
// asked.
type readTally struct {
	best     int    // who has the greatest version; -1: nobody has any
	complete uint32 // whose answers count: they vouch for them, or say expired
	holders  uint32 // who has a record
	expired  bool
}

// tally counts the answers.
func (s *Read) tally() readTally {
	t := readTally{best: -1}
	for i := range s.all {
		o := &s.owners[i]
		if !o.answered {
			continue
		}
		switch a := o.answer; a.Status {
		case Found:
			if a.Complete {
				t.complete |= 1 << i
			}
			t.holders |= 1 << i
			if t.best < 0 || s.better(i, t.best) {
				t.best = i
			}
		case Absent:
			if a.Complete {
				t.complete |= 1 << i
			}
		case Expired:
			t.complete |= 1 << i
			t.expired = true
		}
	}
	return t
}

// reads reports whether a found value has as many answers as it needs, of each
// row of owners. In a write-once bucket whoever has it counts.
func (s *Read) reads(t *readTally) bool {
	answered := t.complete
	if s.writeOnce {
		answered |= t.holders
	}
	ok := s.present.reads(answered, t.complete)
	for i := range s.earlier {
		ok = ok && s.earlier[i].reads(answered, t.complete)
	}
	return ok
}

// better reports whether owner i's answer is to be preferred to owner j's: a
// greater version, or the same one with its value at hand.
func (s *Read) better(i, j int) bool {
	a, b := s.owners[i].answer, s.owners[j].answer
	if c := a.Version.Compare(b.Version); c != 0 {
		return c > 0
	}
	return a.Body && !b.Body
}

// found replies with the greatest version, or fetches its value first.
func (s *Read) found(best int, out []ReadAction) []ReadAction {
	version := s.owners[best].answer.Version
	if version.Tombstone {
		return s.mend(best, s.reply(errDeleted, out))
	}
	if s.owners[best].answer.Body || s.headOnly {
		s.done = true
		return s.mend(best, append(out, ReadAction{Kind: ReplyFound, Owner: best}))
	}
	for i := range s.all { // a value of this version may be on its way
		if o := &s.owners[i]; o.open && o.body {
			return out
		}
	}
	if i, ok := s.holder(version); ok {
		return s.ask(i, true, out)
	}
	if next, ok := s.next(); ok {
		return s.ask(next, true, out)
	}
	if s.open() != 0 {
		return out
	}
	return s.reply(s.unknown(object.CodeUnavailable, "its value could not be read from any owner that has it"), out)
}

// holder returns an owner that told of this version and may be asked for its
// value.
func (s *Read) holder(version object.Version) (uint8, bool) {
	for _, i := range s.order[:s.all] {
		if o := &s.owners[i]; !o.open && !o.bodyFailed && o.answered && o.answer.Status == Found && o.answer.Version == version {
			return i, true
		}
	}
	return 0, false
}

// hedge asks one more owner: for the value if that is what is missing.
func (s *Read) hedge(out []ReadAction) []ReadAction {
	t := s.tally()
	atHand := t.best >= 0 && s.owners[t.best].answer.Body
	if t.best >= 0 && !atHand && s.reads(&t) {
		if i, ok := s.holder(s.owners[t.best].answer.Version); ok {
			return s.ask(i, true, out)
		}
	}
	if next, ok := s.next(); ok {
		return s.ask(next, !s.headOnly && !atHand, out)
	}
	return out
}

// next returns the next owner that was not asked yet.
func (s *Read) next() (uint8, bool) {
	for _, i := range s.order[:s.all] {
		if o := &s.owners[i]; !o.open && !o.answered {
			return i, true
		}
	}
	return 0, false
}

// wantsBody reports whether a value is wanted and none is at hand or under way.
func (s *Read) wantsBody() bool {
	if s.headOnly {
		return false
	}
	for i := range s.all {
		o := &s.owners[i]
		if o.open && o.body || o.answered && o.answer.Body {
			return false
		}
	}
	return true
}

// open returns who has a question open.
func (s *Read) open() (mask uint32) {
	for i := range s.all {
		if s.owners[i].open {
			mask |= 1 << i
		}
	}
	return mask
}

func (s *Read) reply(err *object.Error, out []ReadAction) []ReadAction {
	s.done = true
	return append(out, ReadAction{Kind: ReplyError, Err: err})
}

// mend names the owners, not sources, that answered without the version that won, which owner
// best has.
func (s *Read) mend(best int, out []ReadAction) []ReadAction {
	version := s.owners[best].answer.Version
	for i := range s.n {
		o := &s.owners[i]
		if !o.answered {
			continue
		}
		if a := o.answer; a.Status == Absent || a.Status == Found && a.Version != version {
			out = append(out, ReadAction{Kind: Mend, Owner: i, From: best})
		}
	}
	return out
}

func (s *Read) unknown(code object.Code, why string) *object.Error {
	t := s.tally()
	counted := bits.OnesCount32(t.complete & s.present.Members)
	absent := counted - bits.OnesCount32(t.complete&s.present.Members&t.holders)
	return object.Errorf(code, object.NotDone, "it cannot be told whether it is there: %d of %d owners gave an answer that counts, %d of them absent; %s; try again", counted, s.n, absent, why)
}
