package replication

import (
	"cmp"
	"fmt"
	"math/bits"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Lane is what is merged at once: a slot of a bucket in a partition, or all of
// a plain bucket in it. It is an alias, as are [Page] and [Survey], so that
// packages below this one can spell the same types.
type Lane = struct {
	Type, Bucket string
	Timed        bool
	Partition    ring.Partition
	Slot         int64 // -1 in a plain bucket
}

// An Item is one object of a lane, or one row of an index.
type Item = struct {
	Position   uint64 // the low 32 bits of its placement hash
	Key        string
	Version    object.Version // zero of a row
	Checksum   uint64         // of the value; zero of a row
	ValueBytes uint32
	Row        object.Digest // of a row's content; zero of an object
}

// A LaneDigest sums up what a replica has of a lane. Replicas with equal digests
// hold the same.
type LaneDigest = struct {
	Complete bool  // the replica vouched for the lane before and after it summed up
	Horizon  int64 // the bucket's drop horizon there; 0 in a plain bucket
	Minutes  []MinuteDigest
}

// A MinuteDigest sums up one minute of a lane.
type MinuteDigest = struct {
	Minute int64 // epoch / 60; 0 for everything in a plain bucket
	Count  int64 // objects, or rows
	Digest object.Digest
}

// A Page is a part of what a replica has of a lane: all from the position it was
// asked for up to, but not including, Next.
type Page = struct {
	Items    []Item // ascending by Position
	Next     uint64 // PageEnd: there is no more
	Complete bool   // the replica vouched for the lane before and after it made the page
	Horizon  int64  // the bucket's drop horizon there; 0 in a plain bucket
}

// PageEnd is the position behind the last one.
const PageEnd = uint64(1) << 32

// A Merge makes one replica complete for a lane again, or the first time: it
// walks the lane of all owners side by side, a page at a time, gives each what
// it lacks, and decides at the end whether the replica may vouch for the lane.
// The replica, its own node's, is side 0. Sources are walked as well while there
// are newcomers; they are given nothing.
//
// # The rule
//
// Side 0 has lost something it may have acknowledged, or cannot know that it has
// not. It may vouch again if the other sides whose pages all were complete include
// one that has whatever was acknowledged under any row of owners (see [Quorum]: of
// each row n-w+1, where nobody is a newcomer n-w+1 other owners), or if all other
// sides were walked to the end, and no more could be asked; who was declared lost is
// none. One that vouches for nothing counts for the latter only: its word that it has
// nothing proves nothing, but what it has was taken, and there is nobody else to ask.
// One that could not read all it has was not walked: its page is an error.
//
// Why that is enough, of an object that was acknowledged before side 0 lost it,
// or before it was new: w nodes of a row had it then. Any n-w+1 others of the row
// include one of them, for w + (n-w+1) > n would be needed to avoid it. That one
// vouched at the page that covers the object's position, so it still had the
// object, or a greater version, or its successor under the same rule; page and
// position are the same for all sides; so side 0 was given it, and it was made
// durable before the rule is applied. Two incomplete replicas cannot lift each
// other: neither counts for the first half, and the second asks for all, of which
// each has then been asked for what it still has. What all have lost cannot be
// brought back by anybody; that is beyond what w copies promise.
//
// Side 0 is a newcomer: it has what those before it in its place could have
// acknowledged by the same rule. If it lost nothing itself the rows before its own
// are enough, or those that had its place, frozen as they are: each of them was
// walked to the end, and was complete.
//
// An acknowledgement that was still under way when the walk passed the object's
// position is not covered: the caller begins no merge before the puts that side
// 0 may have acknowledged and lost, or those under an earlier row, are over, see
// [MergerConfig.Grace].
//
// # Digests
//
// If side 0 is complete but for what it may never have had, digests are compared
// before the walk: if those that suffice by the rule sum up to the same as side 0
// nothing is walked. So a merge that was cut short goes on where it was. After a
// walk that brought something they are compared again; if they differ in minutes
// that have settled the lane is walked again, until they agree or a walk has
// changed nothing on side 0.
//
// # Two bodies
//
// Of two versions the greater wins, everywhere. In a write-once bucket the lesser
// value may have been acknowledged, so it is kept under another name first
// ([RescueRecord]); only then may the greater one take its place.
type Merge struct {
	n         int // sides
	party     party
	writeOnce bool
	rows      bool
	mend      bool

	digests      bool  // they are compared
	since, until int64 // the minutes of which they are, and those that have settled
	walks        int
	pulled       uint64         // before the present walk
	summing      bool           // digests were asked for
	own          []MinuteDigest // side 0's, when they were asked for last

	from    uint64
	cover   uint64
	sides   [1 + maxAsked]mergeSide
	waiting int // pages asked for and not come
	queue   []mergeJob
	jobs    map[int]*mergeJob
	nextJob int
	bytes   int64 // of the jobs begun

	prepared bool
	done     bool
	result   MergeResult
}

// mergeSide is what is known of one owner.
type mergeSide struct {
	out        bool // it could not be walked to the end
	incomplete bool // it did not vouch for every page
	refuses    bool // it cannot be given anything at present
	asked      bool
	page       Page
	digest     LaneDigest
}

const (
	mergeWalks       = 3        // of one lane, if digests differ
	mergeWindow      = 8        // jobs at once
	mergeWindowBytes = 16 << 20 // their records
)

// A MergeEvent is something that happened to a merge.
type MergeEvent struct {
	Kind   MergeEventKind
	Owner  int        // for PageCame, DigestCame, Fetched and Given: the side
	Page   Page       // for PageCame without Err
	Digest LaneDigest // for DigestCame without Err
	Job    int        // for Fetched, Rescued and Given
	Err    *object.Error
}

// A MergeEventKind says what happened.
type MergeEventKind uint8

const (
	// MergeBegin comes first.
	MergeBegin MergeEventKind = iota + 1
	// PageCame answers AskPage.
	PageCame
	// Fetched answers FetchRecord.
	Fetched
	// Rescued answers RescueRecord. CodeExpired and CodeConflict are as good as nil: the
	// name has the value's checksum, so that only an erasure can be in its way.
	Rescued
	// Given answers GiveRecord. CodeExpired is as good as nil.
	Given
	// Prepared answers Prepare.
	Prepared
	// DigestCame answers AskDigest.
	DigestCame
)

// A MergeAction is something the driver must do.
type MergeAction struct {
	Kind    MergeActionKind
	Owner   int            // for AskPage, AskDigest, FetchRecord, GiveRecord and OweRecord: the side
	From    uint64         // for AskPage
	Job     int            // for FetchRecord, RescueRecord, GiveRecord and DropRecord
	Item    Item           // for FetchRecord and OweRecord
	Over    object.Version // for GiveRecord: what may lose its key there
	Horizon int64          // for Prepare
	Result  MergeResult    // for MergeDone
}

// A MergeActionKind says what to do.
type MergeActionKind uint8

const (
	// AskPage: ask the side for its page from a position on.
	AskPage MergeActionKind = iota + 1
	// FetchRecord: read the object, or the row as a delta, from the side, verify
	// its value, and keep it as the job's record.
	FetchRecord
	// RescueRecord: put the job's record, which is about to lose its key, under
	// its name as a loser, and index it.
	RescueRecord
	// GiveRecord: have the side store the job's record, if it lacks it.
	GiveRecord
	// DropRecord: the job's record is not needed any more.
	DropRecord
	// OweRecord: the side could not be given the object, or has a damaged copy;
	// remember it.
	OweRecord
	// Prepare: raise side 0's drop horizon of the bucket, durably, and sync the
	// lane's records there, whatever the bucket's policy.
	Prepare
	// AskDigest: ask the side what its part of the lane sums up to.
	AskDigest
	// MergeDone: it is over. It comes once and last; no record is kept any more.
	MergeDone
)

// A MergeResult is how a merge ended and what it did.
type MergeResult struct {
	// Regained: side 0 may vouch for the lane, durably.
	Regained bool
	// TakenOver: side 0 has what those could have acknowledged whose place it took.
	TakenOver bool
	// Complete is how many other sides vouched for all they said.
	Complete int
	// Quorum: these were enough. Otherwise all had to be asked, and what all of them
	// lost is lost.
	Quorum bool
	// Skipped: by the digests there was nothing to walk for. Verified: by them, or by
	// a walk, nothing is left.
	Skipped, Verified bool
	Err               *object.Error // why it is neither regained nor taken over

	Pulled, Pushed uint64 // records given to side 0, and to others
	PulledBytes    uint64 // of values
	PushedBytes    uint64
	Rescued        uint64 // values kept under another name
	Unpushed       uint64 // records that others could not be given
}

// NewMerge returns the state of merging a lane that has n owners, side 0 among
// them, of which need others must be complete. rows tells an index, writeOnce a
// bucket of that kind.
func NewMerge(n, need int, rows, writeOnce bool) *Merge {
	if n < 1 || n > MaxOwners || need < 1 || need > n {
		panic(fmt.Sprintf("replication: BUG: a merge of %d owners, %d needed", n, need))
	}
	others := uint32(1)<<n - 2
	return newMerge(party{others: make([]ring.NodeID, n-1), owners: others, quorums: []Quorum{{Members: others, Need: need}}}, rows, writeOnce)
}

// newMerge is NewMerge for whatever party.
func newMerge(p party, rows, writeOnce bool) *Merge {
	return &Merge{n: 1 + len(p.others), party: p, rows: rows, writeOnce: writeOnce, jobs: make(map[int]*mergeJob)}
}

// NewMend is NewMerge for side 0 being a node that was away and is given what
// others have: nobody vouches for anything at the end, and Regained says that it
// has taken everything.
func NewMend(n int, rows, writeOnce bool) *Merge {
	m := NewMerge(n, 1, rows, writeOnce)
	m.mend = true
	return m
}

// Step takes one event and appends the actions it causes to out. After MergeDone
// nothing causes anything.
func (m *Merge) Step(ev MergeEvent, out []MergeAction) []MergeAction {
	if m.done {
		return out
	}
	switch ev.Kind {
	case MergeBegin:
		if m.digests {
			return m.askDigests(out)
		}
		return m.ask(out)
	case DigestCame:
		return m.digestCame(ev, out)
	case PageCame:
		return m.came(ev, out)
	case Fetched:
		return m.fetched(ev, out)
	case Rescued:
		return m.rescued(ev, out)
	case Given:
		return m.given(ev, out)
	case Prepared:
		m.prepared = true
		m.fail(ev.Err)
		return m.end(out)
	}
	panic(fmt.Sprintf("replication: BUG: merge event %d", ev.Kind))
}

// takes reports whether a side is given what it lacks: sources are not.
func (m *Merge) takes(side int) bool { return side == 0 || m.party.owners>>side&1 != 0 }

// ask asks all sides for their next page.
func (m *Merge) ask(out []MergeAction) []MergeAction {
	if m.hopeless() {
		return m.end(out)
	}
	for i := range m.n {
		s := &m.sides[i]
		if s.page = (Page{}); !s.out {
			s.asked = true
			m.waiting++
			out = append(out, MergeAction{Kind: AskPage, Owner: i, From: m.from})
		}
	}
	return out
}

// hopeless reports whether the rule cannot be kept any more.
func (m *Merge) hopeless() bool {
	if m.result.Err != nil {
		return true
	}
	reached, _ := m.reached()
	if m.mend {
		return reached == 0
	}
	return !m.party.suffices(reached, reached, true)
}

// reached returns the other sides that were walked so far, and of these the
// complete ones.
func (m *Merge) reached() (reached, complete uint32) {
	for i := 1; i < m.n; i++ {
		if s := &m.sides[i]; !s.out {
			reached |= 1 << i
			if !s.incomplete {
				complete |= 1 << i
			}
		}
	}
	return reached, complete
}

func (m *Merge) came(ev MergeEvent, out []MergeAction) []MergeAction {
	s := &m.sides[ev.Owner]
	if m.summing || !s.asked {
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
		s.page = ev.Page
		s.incomplete = s.incomplete || !ev.Page.Complete
	}
	if m.waiting > 0 {
		return out
	}
	if m.hopeless() {
		return m.end(out)
	}
	m.compare()
	return m.proceed(out)
}

// fail notes why the merge cannot succeed; the first reason stays.
func (m *Merge) fail(err *object.Error) {
	if m.result.Err == nil {
		m.result.Err = err
	}
}

// conclude applies the rule, all pages having been compared.
func (m *Merge) conclude(out []MergeAction) []MergeAction {
	if m.mend {
		return m.end(out)
	}
	if regained, takenOver := m.allowed(); !regained && !takenOver {
		return m.end(out)
	}
	horizon := int64(0)
	for i := range m.n {
		if s := &m.sides[i]; !s.out {
			horizon = max(horizon, s.page.Horizon, s.digest.Horizon)
		}
	}
	return append(out, MergeAction{Kind: Prepare, Horizon: horizon})
}

// allowed is the rule.
func (m *Merge) allowed() (regained, takenOver bool) {
	reached, complete := m.reached()
	return m.party.regains(reached, complete), m.party.suffices(reached, complete, !m.sides[0].incomplete)
}

// end tells the result. Jobs that are still open keep no record: they are all
// between two moves, or over.
func (m *Merge) end(out []MergeAction) []MergeAction {
	m.done = true
	r := &m.result
	_, complete := m.reached()
	regained, takenOver := m.allowed()
	r.Complete = bits.OnesCount32(complete)
	r.Quorum = provesAll(&m.party.quorums[0], m.party.quorums[1:], complete)
	r.Regained = r.Err == nil && (m.mend && !m.hopeless() || m.prepared && regained)
	r.TakenOver = r.Err == nil && m.prepared && takenOver
	if !r.Regained && !r.TakenOver && r.Err == nil {
		r.Err = object.Errorf(object.CodeUnknown, object.NotDone,
			"%d other owners are complete, and %d, or all owners, are needed", r.Complete, m.party.quorums[0].Need)
	}
	return append(out, MergeAction{Kind: MergeDone, Result: *r})
}

// compareLanes orders lanes: newest slot first, then by bucket.
func compareLanes(a, b Lane) int {
	return cmp.Or(cmp.Compare(b.Slot, a.Slot), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Bucket, b.Bucket))
}
