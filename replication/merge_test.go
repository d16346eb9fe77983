package replication

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A mergeScript answers a Merge from words, one for each owner after side 0:
//
//	c   complete at each page
//	i   complete at none
//	ci  complete at the first page, not at the second
//	d   down
//	cd  down after the first page
//
// Each owner has two pages.
type mergeScript struct {
	t        *testing.T
	m        *Merge
	words    []string
	items    []map[string]Item // by side
	asked    []int             // pages, by side
	log      []string
	prepared *object.Error // what Prepare answers
	fail     map[string]*object.Error

	self    string         // the word of side 0; default c
	more    func(walk int) // called before each walk but the first: something is put meanwhile
	sums    int            // digests side 0 was asked for
	horizon int64
}

var down = object.Errorf(object.CodeUnavailable, object.NotDone, "down")

func (s *mergeScript) page(a MergeAction) MergeEvent {
	ev := MergeEvent{Kind: PageCame, Owner: a.Owner}
	word := s.word(a.Owner)
	at := word[min(s.asked[a.Owner], len(word)-1)]
	s.asked[a.Owner]++
	if at == 'd' {
		ev.Err = down
		return ev
	}
	ev.Page = Page{Next: 1 << 31, Complete: at == 'c'}
	if a.From >= 1<<31 {
		ev.Page.Next = PageEnd
	}
	for _, item := range s.items[a.Owner] {
		if item.Position >= a.From && item.Position < ev.Page.Next {
			ev.Page.Items = append(ev.Page.Items, item)
		}
	}
	slices.SortFunc(ev.Page.Items, func(a, b Item) int { return int(a.Position) - int(b.Position) })
	return ev
}

func (s *mergeScript) word(side int) string {
	if side > 0 {
		return s.words[side-1]
	}
	return cmp.Or(s.self, "c")
}

// digest sums up what a side has, minute 0 for each even stamp and 1 for odd ones.
func (s *mergeScript) digest(a MergeAction) MergeEvent {
	ev := MergeEvent{Kind: DigestCame, Owner: a.Owner}
	if a.Owner == 0 {
		if s.sums++; s.sums > 1 && s.more != nil {
			s.more(s.sums - 1)
		}
	}
	if s.word(a.Owner) == "d" {
		ev.Err = down
		return ev
	}
	ev.Digest = LaneDigest{Complete: s.word(a.Owner)[0] == 'c', Horizon: int64(a.Owner)}
	for minute := range int64(2) {
		m := MinuteDigest{Minute: minute}
		for key, item := range s.items[a.Owner] {
			if item.Version.TimestampMicros%2 == minute {
				m.Count++
				m.Digest.Add(ring.Hash("t", "b", key), item.Version)
			}
		}
		if m.Count > 0 {
			ev.Digest.Minutes = append(ev.Digest.Minutes, m)
		}
	}
	return ev
}

// run drives the merge to its end, and keeps the items as it says.
func (s *mergeScript) run() MergeResult {
	s.asked = make([]int, len(s.words)+1)
	for len(s.items) <= len(s.words) {
		s.items = append(s.items, map[string]Item{})
	}
	jobs := map[int]Item{}
	actions := s.m.Step(MergeEvent{Kind: MergeBegin}, nil)
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		ev := MergeEvent{Owner: a.Owner, Job: a.Job}
		switch a.Kind {
		case MergeDone:
			if len(actions) > 0 || len(jobs) > 0 {
				s.t.Errorf("%d actions and %d records after the end", len(actions), len(jobs))
			}
			return a.Result
		case AskPage:
			ev = s.page(a)
		case AskDigest:
			ev = s.digest(a)
			s.log = append(s.log, fmt.Sprint("sum ", a.Owner))
		case FetchRecord:
			ev.Kind = Fetched
			if ev.Err = s.fail[fmt.Sprint("fetch ", a.Owner)]; ev.Err == nil {
				jobs[a.Job] = s.items[a.Owner][a.Item.Key]
			}
			s.log = append(s.log, fmt.Sprint("fetch ", a.Owner, " ", a.Item.Key))
		case RescueRecord:
			ev.Kind, ev.Err = Rescued, s.fail["rescue"]
			s.log = append(s.log, fmt.Sprint("rescue ", jobs[a.Job].Checksum))
		case GiveRecord:
			ev.Kind, ev.Err = Given, s.fail[fmt.Sprint("give ", a.Owner)]
			item := jobs[a.Job]
			if old, have := s.items[a.Owner][item.Key]; have && old.Version != a.Over {
				s.t.Errorf("%s replaces %v and was told of %v", item.Key, old.Version, a.Over)
			}
			if ev.Err == nil {
				s.items[a.Owner][item.Key] = item
			}
			s.log = append(s.log, fmt.Sprint("give ", a.Owner, " ", item.Key))
		case DropRecord:
			delete(jobs, a.Job)
			continue
		case OweRecord:
			s.log = append(s.log, fmt.Sprint("owe ", a.Owner, " ", a.Item.Key))
			continue
		case Prepare:
			s.horizon = a.Horizon
			ev.Kind, ev.Err = Prepared, s.prepared
			s.log = append(s.log, "prepare")
		}
		if len(jobs) > mergeWindow {
			s.t.Errorf("%d records at once", len(jobs))
		}
		actions = s.m.Step(ev, actions)
	}
	s.t.Fatal("no end")
	return MergeResult{}
}

// TestMergeRule: who may be vouched for, by what the other owners were.
func TestMergeRule(t *testing.T) {
	for _, c := range []struct {
		claim            string
		need             int
		others           string
		regained, quorum bool
	}{
		{"two complete ones of three", 2, "c c", true, true},
		{"one complete one is not enough", 2, "c d", false, false},
		{"one complete one that is lost half-way is not enough either", 2, "c cd", false, false},
		{"an incomplete one counts for nothing while one is away", 2, "i d", false, false},
		{"two incomplete ones are all there are", 2, "i i", true, false},
		{"a complete and an incomplete one are all there are", 2, "c i", true, false},
		{"nobody else is there", 2, "d d", false, false},
		{"who stops vouching half-way does not count as complete", 2, "c ci", true, false},
		{"three of five", 3, "c c c d", true, true},
		{"two of five, one incomplete, one away", 3, "c c i d", false, false},
		{"two of five and two incomplete: all", 3, "c c i i", true, false},
		{"three of five, the fourth is lost half-way", 3, "c c cd c", true, true},
		{"of two, the other one is complete", 1, "c", true, true},
		{"of two, the other one is incomplete: all", 1, "i", true, false},
		{"of two, the other one is away", 1, "d", false, false},
		{"there is no other owner", 1, "", true, false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			words := strings.Fields(c.others)
			s := mergeScript{t: t, m: NewMerge(len(words)+1, c.need, false, false), words: words}
			r := s.run()
			if r.Regained != c.regained || r.Quorum != c.quorum || (r.Err == nil) != c.regained {
				t.Errorf("regained %v, quorum %v, %v", r.Regained, r.Quorum, r.Err)
			}
			if slices.Contains(s.log, "prepare") != c.regained {
				t.Errorf("it was made durable, or not: %v", s.log)
			}
		})
	}
}

// newcomerParty is that of a newcomer in the place of a source, side 3, beside two
// other owners; w is 2.
var newcomerParty = party{
	others: make([]ring.NodeID, 3), owners: 0b0110, chain: 0b1000, member: true, owner: true,
	quorums: []Quorum{{Members: 0b0110, R: 2, Need: 2}, {Members: 0b1110, R: 2, Need: 2}},
}

// TestMergeOfNewcomer: what a newcomer may say, by what it, the other owners and the
// source were.
func TestMergeOfNewcomer(t *testing.T) {
	for _, c := range []struct {
		claim               string
		self, others        string // two owners, and the source
		regained, takenOver bool
	}{
		{"two complete owners", "c", "c c d", true, true},
		{"the frozen source, which is complete", "c", "d d c", false, true},
		{"the source is not complete", "c", "c d i", false, false},
		{"one owner alone", "c", "c d d", false, false},
		{"the source, and the newcomer lost something itself", "i", "c d c", false, false},
		{"two complete owners make up for what it lost", "i", "c c d", true, true},
		{"all are there, and incomplete", "i", "i i i", true, true},
		{"all are there but an incomplete owner", "c", "d i i", false, false},
		{"the source stops vouching half-way", "c", "d c ci", false, false},
		{"the source is lost half-way", "c", "c d cd", false, false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := mergeScript{t: t, m: newMerge(newcomerParty, false, false), words: strings.Fields(c.others), self: c.self}
			r := s.run()
			if r.Regained != c.regained || r.TakenOver != c.takenOver || (r.Err == nil) != c.takenOver {
				t.Errorf("regained %v, taken over %v, %v", r.Regained, r.TakenOver, r.Err)
			}
			if slices.Contains(s.log, "prepare") != c.takenOver {
				t.Errorf("it was made durable, or not: %v", s.log)
			}
		})
	}
}

// TestMergeGivesSourcesNothing: what they have is taken, a value that loses its key
// rescued; they get nothing.
func TestMergeGivesSourcesNothing(t *testing.T) {
	s := mergeScript{t: t, m: newMerge(newcomerParty, false, true), words: []string{"c", "c", "c"}}
	s.items = []map[string]Item{
		{}, itemsOf(testItem("a", 1, 5, 1), testItem("two", 3, 9, 9)), itemsOf(testItem("two", 3, 9, 9)),
		itemsOf(testItem("b", 2, 5, 1), testItem("two", 3, 4, 4)),
	}
	r := s.run()
	if !r.TakenOver || len(s.items[0]) != 3 || len(s.items[1]) != 3 || len(s.items[2]) != 3 || len(s.items[3]) != 2 || r.Rescued != 1 {
		t.Errorf("%+v, %v: %v", r, s.items, s.log)
	}
	rows := mergeScript{t: t, m: newMerge(newcomerParty, true, false), words: []string{"c", "c", "c"}}
	row := Item{Position: 1, Key: "row", Row: object.Digest{Hi: 1}}
	rows.items = []map[string]Item{{}, {}, {}, itemsOf(row)}
	if r := rows.run(); !r.TakenOver || len(rows.items[0])+len(rows.items[1])+len(rows.items[2]) != 3 || slices.Contains(rows.log, "give 3 row") {
		t.Errorf("%+v: %v", r, rows.log)
	}
}

// TestMergeOfErasedLoser: a value that loses its key was kept before under its name,
// and erased there: it is not kept again, and nothing waits for it.
func TestMergeOfErasedLoser(t *testing.T) {
	s := mergeScript{t: t, m: newMerge(newcomerParty, false, true), words: []string{"c", "c", "c"}, fail: map[string]*object.Error{"rescue": conflict}}
	s.items = []map[string]Item{{}, itemsOf(testItem("two", 3, 9, 9)), itemsOf(testItem("two", 3, 9, 9)), itemsOf(testItem("two", 3, 4, 4))}
	if r := s.run(); !r.TakenOver || r.Rescued != 0 || len(s.items[0]) != 1 {
		t.Errorf("%+v: %v", r, s.log)
	}
}

// TestMergeComparesDigests: what is equal is not walked, what was walked is verified.
func TestMergeComparesDigests(t *testing.T) {
	all := func() map[string]Item { return itemsOf(testItem("a", 1, 4, 1), testItem("b", 1<<31+1, 5, 1)) }
	for _, c := range []struct {
		claim             string
		self, others      string
		items             [4]map[string]Item // nil: all
		more              bool               // something that has settled appears before each walk
		skipped, verified bool
		sums, walks       int
		takenOver         bool
	}{
		{"all are equal", "c", "c c c", [4]map[string]Item{}, false, true, true, 1, 0, true},
		{"two complete owners are equal", "c", "c c d", [4]map[string]Item{}, false, true, true, 1, 0, true},
		{"they are equal, and the source has less", "c", "c c c", [4]map[string]Item{3: {}}, false, true, true, 1, 0, true},
		{"the source is equal, an owner has more", "c", "d d c", [4]map[string]Item{}, false, true, true, 1, 0, true},
		{"one owner is equal and the other away", "c", "c d d", [4]map[string]Item{}, false, false, false, 1, 0, false},
		{"equal ones that vouch for nothing: all", "c", "i i i", [4]map[string]Item{}, false, true, true, 1, 0, true},
		{"one of these is not equal", "c", "i i i", [4]map[string]Item{1: {}}, false, false, true, 1, 1, true},
		{"the newcomer has nothing", "c", "c c c", [4]map[string]Item{0: {}}, false, false, true, 2, 1, true},
		{"the newcomer has nothing, one owner is away", "c", "d c c", [4]map[string]Item{0: {}}, false, false, true, 2, 1, true},
		{"the newcomer has more than the source", "c", "d d c", [4]map[string]Item{3: itemsOf(testItem("c", 2, 4, 1))}, false, false, true, 2, 2, true},
		{"something comes all the time", "c", "c d c", [4]map[string]Item{0: {}}, true, false, false, 4, 3, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			m := newMerge(newcomerParty, false, false)
			m.compareDigests(0, 1) // odd stamps have not settled
			s := mergeScript{t: t, m: m, words: strings.Fields(c.others), self: c.self}
			for _, items := range c.items {
				if items == nil {
					items = all()
				}
				s.items = append(s.items, items)
			}
			if c.more {
				s.more = func(walk int) {
					item := testItem(fmt.Sprint("more", walk), uint64(walk), int64(100+2*walk), 1)
					s.items[0][item.Key], s.items[1][item.Key] = item, testItem(item.Key, item.Position, 200, 1)
				}
			}
			r := s.run()
			walks := 0
			if s.asked[0] > 0 {
				walks = s.asked[0] / 2
			}
			if r.Skipped != c.skipped || r.Verified != c.verified || s.sums != c.sums || walks != c.walks || r.TakenOver != c.takenOver {
				t.Errorf("%+v, %d sums, %d walks: %v", r, s.sums, walks, s.log)
			}
			if r.Skipped && (s.horizon == 0 || s.log[len(s.log)-1] != "prepare") {
				t.Errorf("skipped without taking over the horizon and syncing: %v", s.log)
			}
		})
	}
}

func testItem(key string, position uint64, stamp int64, checksum uint64) Item {
	return Item{Position: position, Key: key, Version: object.Version{TimestampMicros: stamp, HeaderCRC: uint32(checksum)}, Checksum: checksum, ValueBytes: 10}
}

func itemsOf(items ...Item) map[string]Item {
	all := map[string]Item{}
	for _, i := range items {
		all[i.Key] = i
	}
	return all
}

// TestMergeIsDurable: it is over only when what was given is durable, and a disk
// that cannot do so ends it.
func TestMergeIsDurable(t *testing.T) {
	full := object.Errorf(object.CodeDisk, object.MaybeDone, "the disk failed")
	for _, fault := range []*object.Error{nil, full} {
		s := mergeScript{t: t, m: NewMerge(3, 2, false, false), words: []string{"c", "c"}, prepared: fault}
		s.items = []map[string]Item{nil, itemsOf(testItem("a", 1, 5, 1)), itemsOf(testItem("b", 1<<31+1, 5, 1))}
		s.items[0] = map[string]Item{}
		r := s.run()
		if s.log[len(s.log)-1] != "prepare" || r.Regained != (fault == nil) {
			t.Errorf("%v: regained %v after %v", fault, r.Regained, s.log)
		}
	}
}

// TestMergeGives: what is done about one key, by who has which version of it.
// A version is "stamp", "stamp!" a tombstone, "stamp/checksum" one of another
// value; "-" is nothing.
func TestMergeGives(t *testing.T) {
	for _, c := range []struct {
		claim string
		once  bool
		have  string
		want  string
	}{
		{"all have the same", false, "5 5 5", ""},
		{"nobody has it", false, "- - -", ""},
		{"side 0 lacks it", false, "- 5 5", "fetch 1 k, give 0 k"},
		{"another lacks it", false, "5 - 5", "fetch 0 k, give 1 k"},
		{"two lack it", false, "- 5 -", "fetch 1 k, give 0 k, give 2 k"},
		{"the greater version wins", false, "5 6 5", "fetch 1 k, give 0 k, give 2 k"},
		{"a tombstone travels", false, "5 6! 5", "fetch 1 k, give 0 k, give 2 k"},
		{"an ordinary value is replaced", false, "5/1 6/2 5/1", "fetch 1 k, give 0 k, give 2 k"},
		{"a write-once value is kept first", true, "5/1 6/2 6/2", "fetch 0 k, rescue 1, fetch 1 k, give 0 k"},
		{"so is one of another owner", true, "6/2 6/2 5/1", "fetch 2 k, rescue 1, fetch 0 k, give 2 k"},
		{"once for two that have it", true, "5/1 6/2 5/1", "fetch 0 k, rescue 1, fetch 1 k, give 0 k, give 2 k"},
		{"each of two that lose", true, "5/1 6/2 4/3", "fetch 0 k, rescue 1, fetch 2 k, rescue 3, fetch 1 k, give 0 k, give 2 k"},
		{"the same value under two stamps is no conflict", true, "5/1 6/1 6/1", "fetch 1 k, give 0 k"},
		{"an erased value is not kept", true, "5/1 6! 5/1", "fetch 1 k, give 0 k, give 2 k"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := mergeScript{t: t, m: NewMerge(3, 2, false, c.once), words: []string{"c", "c"}}
			for word := range strings.FieldsSeq(c.have) {
				if word == "-" {
					s.items = append(s.items, map[string]Item{})
					continue
				}
				var stamp int64
				var checksum uint64
				fmt.Sscanf(strings.TrimSuffix(word, "!"), "%d/%d", &stamp, &checksum)
				item := testItem("k", 7, stamp, checksum)
				item.Version.Tombstone = strings.HasSuffix(word, "!")
				s.items = append(s.items, itemsOf(item))
			}
			r := s.run()
			if !r.Regained {
				t.Fatal(r.Err)
			}
			if got := strings.Join(s.log, ", "); got != strings.TrimPrefix(c.want+", prepare", ", ") {
				t.Errorf("it did %s, want %s", got, c.want)
			}
			for i := range s.items {
				if s.items[i]["k"] != s.items[0]["k"] {
					t.Errorf("side %d has %+v, side 0 has %+v", i, s.items[i]["k"], s.items[0]["k"])
				}
			}
		})
	}
}

// TestMergeFaults: what a fault on the way means for the end.
func TestMergeFaults(t *testing.T) {
	code := func(c object.Code) *object.Error { return object.Errorf(c, object.NotDone, "%v", c) }
	for _, c := range []struct {
		claim    string
		fail     string
		err      *object.Error
		regained bool
		quorum   bool
		log      string // is in the log
	}{
		{"side 0 cannot store it", "give 0", code(object.CodeLowSpace), false, true, "fetch 1 a"},
		{"side 0 calls it expired", "give 0", code(object.CodeExpired), true, true, "give 0 a"},
		{"another cannot be given its copy: it is owed", "give 2", code(object.CodeOverload), true, true, "owe 2 a"},
		{"another holds other bytes: it is owed", "give 2", code(object.CodeConflict), true, true, "owe 2 a"},
		{"who listed it has it damaged: it is owed a good one", "fetch 1", code(object.CodeCorrupt), true, false, "owe 1 a"},
		{"who listed it has it no more", "fetch 1", code(object.CodeAbsent), true, false, "fetch 1 a"},
		{"who listed it cannot be asked any more", "fetch 1", down, false, false, "fetch 1 a"},
		{"it expired meanwhile", "fetch 1", code(object.CodeExpired), true, true, "fetch 1 a"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := mergeScript{t: t, m: NewMerge(3, 2, false, true), words: []string{"c", "c"}, fail: map[string]*object.Error{c.fail: c.err}}
			s.items = []map[string]Item{{}, itemsOf(testItem("a", 1, 5, 1)), {}}
			r := s.run()
			if r.Regained != c.regained || r.Quorum != c.quorum || !slices.Contains(s.log, c.log) {
				t.Errorf("regained %v, quorum %v, %v: %v", r.Regained, r.Quorum, r.Err, s.log)
			}
		})
	}
}

// TestMergeKeepsLosers: a value that cannot be put elsewhere keeps its key.
func TestMergeKeepsLosers(t *testing.T) {
	for _, fail := range []string{"rescue", "fetch 0"} {
		s := mergeScript{t: t, m: NewMerge(3, 2, false, true), words: []string{"c", "c"}, fail: map[string]*object.Error{fail: down}}
		lesser, greater := testItem("k", 7, 5, 1), testItem("k", 7, 6, 2)
		s.items = []map[string]Item{itemsOf(lesser), itemsOf(greater), itemsOf(greater)}
		if r := s.run(); r.Regained || s.items[0]["k"] != lesser {
			t.Errorf("%s fails: regained %v, side 0 has %+v", fail, r.Regained, s.items[0]["k"])
		}
	}
}

// TestMergeRowsUnite: side 0 takes what each other row has, then the others take
// the union.
func TestMergeRowsUnite(t *testing.T) {
	row := func(n uint64) Item { return Item{Position: 7, Key: "r", Row: object.Digest{Hi: n, Lo: n}} }
	for _, c := range []struct {
		claim string
		have  []Item // zero: none
		want  string
	}{
		{"all agree", []Item{row(1), row(1), row(1)}, "prepare"},
		{"side 0 lacks it", []Item{{}, row(1), row(1)}, "fetch 1 r, give 0 r, fetch 0 r, give 1 r, give 2 r, prepare"},
		{"another lacks it", []Item{row(1), {}, row(1)}, "fetch 0 r, give 1 r, prepare"},
		{"all differ", []Item{row(1), row(2), row(3)}, "fetch 1 r, give 0 r, fetch 2 r, give 0 r, fetch 0 r, give 1 r, give 2 r, prepare"},
		{"one agrees with side 0 and takes the union too", []Item{row(1), row(1), row(3)}, "fetch 2 r, give 0 r, fetch 0 r, give 1 r, give 2 r, prepare"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := mergeScript{t: t, m: NewMerge(3, 2, true, false), words: []string{"c", "c"}}
			for _, item := range c.have {
				if item.Key == "" {
					s.items = append(s.items, map[string]Item{})
				} else {
					s.items = append(s.items, itemsOf(item))
				}
			}
			if r := s.run(); !r.Regained || strings.Join(s.log, ", ") != c.want {
				t.Errorf("it did %v, want %s (%v)", s.log, c.want, r.Err)
			}
		})
	}
}

// TestMendAsksNobodyToVouch: a node that was away takes what the others have; it
// is over when it has taken all, whoever is complete.
func TestMendAsksNobodyToVouch(t *testing.T) {
	for _, c := range []struct {
		others string
		fail   string
		ok     bool
	}{{"i d", "", true}, {"d d", "", false}, {"c c", "give 0", false}} {
		words := strings.Fields(c.others)
		s := mergeScript{t: t, m: NewMend(3, false, false), words: words, fail: map[string]*object.Error{c.fail: down}}
		s.items = []map[string]Item{{}, itemsOf(testItem("a", 1, 5, 1)), {}}
		r := s.run()
		if r.Regained != c.ok || slices.Contains(s.log, "prepare") {
			t.Errorf("%s, %s fails: %v, %v: %v", c.others, c.fail, r.Regained, r.Err, s.log)
		}
		if _, have := s.items[0]["a"]; have != c.ok {
			t.Errorf("%s: taken %v", c.others, have)
		}
	}
}

// TestMergeComparesWhatAllCover: what is behind the shortest page is left for the
// next one.
func TestMergeComparesWhatAllCover(t *testing.T) {
	m := NewMerge(2, 1, false, false)
	m.Step(MergeEvent{Kind: MergeBegin}, nil)
	m.Step(MergeEvent{Kind: PageCame, Owner: 0, Page: Page{Next: PageEnd, Complete: true, Items: []Item{testItem("b", 20, 5, 1)}}}, nil)
	out := m.Step(MergeEvent{Kind: PageCame, Owner: 1, Page: Page{Next: 10, Complete: true}}, nil)
	if len(out) != 2 || out[0].Kind != AskPage || out[0].From != 10 {
		t.Fatalf("%+v", out)
	}
}

// TestMergePagesDiffer: pages that end at different places are compared only as
// far as the shortest goes; one that goes nowhere is refused.
func TestMergePagesDiffer(t *testing.T) {
	m := NewMerge(2, 1, false, false)
	out := m.Step(MergeEvent{Kind: MergeBegin}, nil)
	out = m.Step(MergeEvent{Kind: PageCame, Owner: 0, Page: Page{Next: PageEnd, Complete: true}}, out[:0])
	out = m.Step(MergeEvent{Kind: PageCame, Owner: 1, Page: Page{Next: 10, Complete: true, Items: []Item{testItem("a", 3, 5, 1)}}}, out)
	if len(out) != 1 || out[0].Kind != FetchRecord || out[0].Item.Key != "a" {
		t.Fatalf("%+v", out)
	}
	out = m.Step(MergeEvent{Kind: Fetched, Owner: 1, Job: out[0].Job}, nil)
	out = m.Step(MergeEvent{Kind: Given, Owner: 0, Job: out[0].Job}, nil)
	if len(out) != 3 || out[1].Kind != AskPage || out[1].From != 10 {
		t.Fatalf("%+v", out)
	}
	m.Step(MergeEvent{Kind: PageCame, Owner: 0, Page: Page{Next: PageEnd, Complete: true}}, nil)
	out = m.Step(MergeEvent{Kind: PageCame, Owner: 1, Page: Page{Next: 10, Complete: true}}, nil)
	if len(out) != 1 || out[0].Kind != MergeDone || out[0].Result.Regained {
		t.Fatalf("a page that goes nowhere: %+v", out)
	}
}
