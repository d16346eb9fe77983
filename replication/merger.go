package replication

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Syncer is one node's replicas as merging asks them: this node's own, or a
// peer's over the wire. Its methods wait, no longer than ctx, and may be called
// by any goroutine. Errors are *object.Error. A peer's are answered when it has
// learnt the history that counts for this node, or a newer one: requests carry its
// version.
type Syncer interface {
	// Survey tells what the node has of a partition.
	Survey(ctx context.Context, p ring.Partition) (Survey, error)

	// Page tells what it has of a lane from a position on, as much as one page
	// holds. What cannot be read now, but may be later, is an error.
	Page(ctx context.Context, lane Lane, from uint64) (Page, error)

	// Digest tells what its part of a lane sums up to.
	Digest(ctx context.Context, lane Lane) (LaneDigest, error)

	// Fetch reads the greatest version of a key, tombstones included; a row of the
	// index comes as one delta. The caller releases the record and verifies its
	// value.
	Fetch(ctx context.Context, lane Lane, key string) (object.Record, error)

	// Repair has it store a record, or of a row what it lacks of it, whatever the
	// rules for those who put. The greater version wins; over is another value
	// that may lose its key there, see [RescueRecord].
	Repair(ctx context.Context, lane Lane, rec object.Record, over object.Version) error
}

// An OwnSyncer is this node's own replicas.
type OwnSyncer interface {
	Syncer

	// InDoubt reports whether the node is not complete for all of a partition. It
	// is quick.
	InDoubt(p ring.Partition) bool
	// Doubts returns what speaks against that, what the Survey says apart.
	Doubts(p ring.Partition) ([]Doubt, error)
	// RaiseHorizon takes over a drop horizon, durably; a lower one is ignored.
	RaiseHorizon(p ring.Partition, bucketType, name string, to int64) error
	// Sync makes all records of a lane durable, whatever the bucket's policy.
	Sync(lane Lane) error
	// Clear takes back a doubt, durably, unless there is something new to doubt.
	Clear(p ring.Partition, d Doubt) error
	// Vouch has the replica vouch for more, durably.
	Vouch(p ring.Partition, since int64, plain bool) error
}

// A MergerConfig says how a [Merger] works. Zero values of the optional fields
// mean their defaults.
type MergerConfig struct {
	Self    ring.NodeID          // required
	History func() *ring.History // required
	Buckets func() *bucket.Set   // required
	Own     OwnSyncer            // required

	// Other returns the way to another node, nil if there is none; required.
	Other func(ring.NodeID) Syncer

	// Lost reports whether a node was declared lost for good: it is not asked, nor
	// waited for. Default: none was.
	Lost func(ring.NodeID) bool

	// Rescue stores a value that loses its key, under its name as a loser, and
	// indexes it; required. The record stays the caller's.
	Rescue func(ctx context.Context, rec object.Record) error

	// Owed is what nodes that were away are given when they are back; required.
	Owed *Owed

	// Completed brings to agreement what this node has taken over, by
	// [ring.History.Complete]. under is the version of the history under which the
	// first of it was merged; an error of CodeWrongOwner says that too much has
	// changed since, and it is merged again. Default: the history has no newcomers.
	Completed func(ctx context.Context, under ring.Version, done []ring.Completion) error

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: discards

	// Grace is how long after a doubt was first seen nothing is merged: puts that
	// this node may have acknowledged before it lost them must be over on all
	// other owners. It is also how long nothing is taken over from a node that has
	// learnt of a newcomer: puts under the history before must be over there. It is
	// at least the coordinators' WriteTimeout; default 11 s.
	Grace time.Duration
	// Timeout bounds each request. Default 10 s.
	Timeout time.Duration
	// BytesPerSecond bounds what is moved, on average; [Merger.SetBytesPerSecond]
	// changes it. Default 64 MiB.
	BytesPerSecond int64
	// PauseLeast and PauseMost bound the waiting between two rounds. It grows while
	// there is something to do that cannot be done. Default 50 ms and 1 s.
	PauseLeast, PauseMost time.Duration
}

func (c MergerConfig) withDefaults() MergerConfig {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Lost == nil {
		c.Lost = func(ring.NodeID) bool { return false }
	}
	c.Grace = cmp.Or(c.Grace, 11*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.BytesPerSecond = cmp.Or(c.BytesPerSecond, 64<<20)
	c.PauseLeast = cmp.Or(c.PauseLeast, 50*time.Millisecond)
	c.PauseMost = max(cmp.Or(c.PauseMost, time.Second), c.PauseLeast)
	return c
}

// A Merger makes this node's replicas complete, takes over what this node is a
// newcomer of, and gives nodes that were away what they are owed: the thin driver
// of [MergeView.Plan] and [Merge]. It works on one goroutine, one lane after the
// other. What it has not finished when the process ends it begins anew; digests
// tell what is done already.
type Merger struct {
	cfg      MergerConfig
	rate     atomic.Int64 // bytes a second
	counters mergeCounters
	seen     map[ring.Partition]time.Time // when it was first seen in doubt; Round's
	retries  map[ring.Partition]retry     // of those that failed; Round's
	unpaid   map[ring.NodeID]retry        // nodes that could not be given what they are owed; Round's
	doubts   map[seenDoubt]time.Time      // the same of doubts, which come at any time; Round's
	held     heldParts                    // Round's
	duties   dutyBook                     // Round's
	heard    hearsay                      // Round's
	toGet    map[ring.Partition]int64     // lanes not merged yet, as far as known; Round's
	report   retry                        // of what could not be brought to agreement; Round's
	waited   time.Duration                // owed to the rate; Round's
}

type seenDoubt struct {
	partition ring.Partition
	doubt     Doubt
}

// NewMerger returns a Merger.
func NewMerger(cfg MergerConfig) *Merger {
	if cfg.History == nil || cfg.Buckets == nil || cfg.Own == nil || cfg.Other == nil || cfg.Rescue == nil || cfg.Owed == nil || cfg.Self.IsZero() {
		panic("replication: BUG: a merger without node, history, buckets, replicas, rescue or debts")
	}
	m := &Merger{
		cfg: cfg.withDefaults(), seen: make(map[ring.Partition]time.Time), doubts: make(map[seenDoubt]time.Time),
		retries: make(map[ring.Partition]retry), unpaid: make(map[ring.NodeID]retry),
		heard: make(hearsay), toGet: make(map[ring.Partition]int64),
	}
	m.SetBytesPerSecond(m.cfg.BytesPerSecond)
	return m
}

// SetBytesPerSecond bounds what is moved, on average, from now on: at least 1. Any
// goroutine may call it.
func (m *Merger) SetBytesPerSecond(n int64) { m.rate.Store(max(n, 1)) }

// Run merges and pays until ctx ends.
func (m *Merger) Run(ctx context.Context) {
	pause := m.cfg.PauseLeast
	for ctx.Err() == nil {
		switch did, waits := m.Round(ctx); {
		case did || !waits:
			pause = m.cfg.PauseLeast
		default:
			pause = min(2*pause, m.cfg.PauseMost)
		}
		if !rest(ctx, pause) {
			return
		}
	}
}

// rest waits, or tells that ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Round goes once through this node's partitions and through what others are
// owed. It reports whether it got anything done, and whether there is something
// that could not be done yet. One goroutine calls it at a time; with a Syncer
// that does not wait, it does not either, but for the rate.
func (m *Merger) Round(ctx context.Context) (did, waits bool) {
	h := m.cfg.History()
	began := m.cfg.Now()
	sum := roundSum{gone: make(map[ring.NodeID]bool)}
	work, inDoubt := m.work(h)
	m.counters.partitionsInDoubt.Store(inDoubt)
	paid, owing := m.payAll(ctx, h)
	unattainable := int64(0)
	for _, p := range work {
		if ctx.Err() != nil {
			return did, true
		}
		wasInDoubt := m.cfg.Own.InDoubt(p)
		result := m.partition(ctx, h, p, &sum)
		if wasInDoubt && !m.cfg.Own.InDoubt(p) {
			sum.partitions++
			delete(m.seen, p)
			inDoubt--
			m.counters.partitionsInDoubt.Store(inDoubt)
		}
		switch result {
		case mergedAll:
			did = true
		case mergedSome:
			did, waits = true, true
		case mergedNone:
			waits = true
		case notReachable:
			waits = true
			unattainable++
		}
	}
	m.counters.partitionsUnattainable.Store(unattainable)
	m.countToGet(work)
	reported, unreported := m.reportDone(ctx)
	if sum.partitions > 0 || sum.lanes > 0 {
		m.cfg.Log.Info("slots were merged with the other owners", "partitions_complete", sum.partitions, "partitions_in_doubt", inDoubt,
			"slots", sum.lanes, "pulled", sum.pulled, "pushed", sum.pushed, "bytes", sum.bytes, "took", m.cfg.Now().Sub(began))
	}
	return did || paid || reported, waits || owing || unreported
}

// work returns the partitions with something to merge: those in doubt, whose
// number it tells, and those with a duty. It remembers since when.
func (m *Merger) work(h *ring.History) (work []ring.Partition, inDoubt int64) {
	m.held.update(h, m.cfg.Self, m.oldest(h))
	m.noteDuties(h)
	for _, p := range m.held.partitions {
		doubted := m.cfg.Own.InDoubt(p)
		if doubted {
			inDoubt++
			if m.seen[p].IsZero() {
				m.seen[p] = m.cfg.Now()
			}
		} else {
			delete(m.seen, p)
		}
		if doubted || m.hasDuty(p) {
			work = append(work, p)
			continue
		}
		delete(m.retries, p)
	}
	return work, inDoubt
}

// oldest returns the first slot that has not expired in every timed bucket.
func (m *Merger) oldest(h *ring.History) int64 {
	ttl := int64(0)
	for props := range m.cfg.Buckets().All() {
		switch {
		case !props.Timed:
		case props.TTLSeconds == 0:
			return 0
		default:
			ttl = max(ttl, props.TTLSeconds)
		}
	}
	return max(0, h.SlotOf(m.cfg.Now().Unix()-ttl))
}

// A heldParts is the partitions that this node has to do with, worked out when the
// history or the oldest slot changes.
type heldParts struct {
	history    *ring.History
	oldest     int64
	partitions []ring.Partition
}

func (p *heldParts) update(h *ring.History, self ring.NodeID, oldest int64) {
	if p.history == h && p.oldest == oldest {
		return
	}
	*p = heldParts{h, oldest, slices.SortedFunc(maps.Keys(h.Stretches(self, oldest)), ring.Partition.Compare)}
}

// A roundSum is what one round did, to be told in one line, and who did not
// answer in it: they are not asked again before the next.
type roundSum struct {
	gone                  map[ring.NodeID]bool
	partitions, lanes     int
	pulled, pushed, bytes uint64
}

type merged uint8

const (
	mergedNone merged = iota
	mergedSome
	mergedAll
	notReachable
)

// slotsPerRound is how many slots of one partition are merged before the newer
// ones of others have their turn.
const slotsPerRound = 4

// partition works through the plan of one partition, and through its duties, or a
// part of them.
func (m *Merger) partition(ctx context.Context, h *ring.History, p ring.Partition, sum *roundSum) merged {
	if m.cfg.Now().Before(m.retries[p].at) {
		return mergedNone
	}
	view, err := m.view(ctx, h, p, sum)
	if err != nil {
		m.cfg.Log.Warn("a partition cannot be merged with the other owners", "partition", p.String(), "error", err)
		return mergedNone
	}
	if !view.Reachable() {
		return notReachable
	}
	w := partWork{left: slotsPerRound}
	if m.cfg.Own.InDoubt(p) && m.ripe(view) {
		m.plan(ctx, view, &w, sum)
	}
	for _, d := range m.duties.of[p] {
		if ctx.Err() != nil {
			return mergedNone
		}
		if !d.done {
			m.takeOver(ctx, view, d, &w, sum)
		}
	}
	if ctx.Err() != nil {
		return mergedNone
	}
	m.toGet[p] = w.toGet
	m.postpone(p, w.failed && !w.did)
	switch {
	case w.did && !m.cfg.Own.InDoubt(p) && !m.hasDuty(p):
		return mergedAll
	case w.did:
		return mergedSome
	}
	return mergedNone
}

// A partWork is what a round did of one partition.
type partWork struct {
	left        int   // slots that may be merged yet
	toGet       int64 // lanes that are left, as far as known
	did, failed bool
}

// plan does what makes this node's replica of a partition complete.
func (m *Merger) plan(ctx context.Context, view *MergeView, w *partWork, sum *roundSum) {
	mayVouch := true
	for _, t := range view.Plan() {
		if w.left <= 0 && !view.Own.All {
			w.toGet += int64(len(t.Lanes))
			continue // other partitions have newer slots
		}
		done, err := m.task(ctx, view, &t, mayVouch, sum)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.toGet += int64(len(t.Lanes))
			m.cfg.Log.Warn("a slot stays in doubt: reads there answer unknown instead of absent", "partition", view.Partition.String(), "slot", slotOf(&t), "error", err)
		}
		if done && len(t.Lanes) > 0 {
			w.left--
		}
		w.did = w.did || done && (t.Vouch || len(t.Clear) > 0)
		w.failed = w.failed || err != nil
		mayVouch = mayVouch && (done || !t.Needed)
	}
}

// A retry says when a partition is tried again that failed.
type retry struct {
	at   time.Time
	wait time.Duration
}

const (
	retryLeast = time.Second
	retryMost  = time.Minute
)

// postpone has a partition wait after a failure, each time twice as long.
func (m *Merger) postpone(p ring.Partition, failed bool) {
	if !failed {
		delete(m.retries, p)
		return
	}
	wait := min(max(retryLeast, 2*m.retries[p].wait), retryMost)
	m.retries[p] = retry{m.cfg.Now().Add(wait), wait}
}

// ripe reports whether merging may begin: whether the puts are over that this
// node may have acknowledged and lost. Doubts that are too young are taken out
// of the view.
func (m *Merger) ripe(view *MergeView) bool {
	now := m.cfg.Now()
	if view.Bootstrap(now.Unix()) {
		return true
	}
	maps.DeleteFunc(m.doubts, func(s seenDoubt, _ time.Time) bool {
		return s.partition == view.Partition && !slices.Contains(view.Doubts, s.doubt)
	})
	view.Doubts = slices.DeleteFunc(view.Doubts, func(d Doubt) bool {
		id := seenDoubt{view.Partition, d}
		if m.doubts[id].IsZero() {
			m.doubts[id] = now
		}
		return now.Sub(m.doubts[id]) < m.cfg.Grace
	})
	return now.Sub(m.seen[view.Partition]) >= m.cfg.Grace
}

func slotOf(t *MergeTask) int64 {
	if len(t.Lanes) > 0 {
		return t.Lanes[0].Slot
	}
	return t.Since
}

func (m *Merger) newView(h *ring.History, self ring.NodeID, p ring.Partition) *MergeView {
	return &MergeView{
		Partition: p, Self: self, History: h, Others: make(map[ring.NodeID]*Survey), Buckets: m.cfg.Buckets(), Oldest: m.held.oldest, Lost: m.cfg.Lost,
	}
}

// view asks the others what they have of a partition, and this node if enough of
// them answer.
func (m *Merger) view(ctx context.Context, h *ring.History, p ring.Partition, sum *roundSum) (*MergeView, error) {
	v := m.newView(h, m.cfg.Self, p)
	for _, id := range v.everyone() {
		if sum.gone[id] {
			continue
		}
		other := m.cfg.Other(id)
		if other == nil {
			continue
		}
		timed, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
		s, err := other.Survey(timed, p)
		cancel()
		switch {
		case err == nil:
			v.Others[id] = &s
			m.heard.add(id, h.Version(), m.cfg.Now(), m.cfg.Grace)
		case errors.Is(err, object.CodeUnavailable), errors.Is(err, object.CodeDeadline), errors.Is(err, object.CodeStopping):
			sum.gone[id] = true
		}
	}
	if !v.Reachable() {
		return v, nil
	}
	var err error
	if v.Doubts, err = m.cfg.Own.Doubts(p); err != nil {
		return nil, err
	}
	if v.Own, err = m.cfg.Own.Survey(ctx, p); err != nil {
		return nil, err
	}
	return v, nil
}

// task does one task. done tells that all of it was.
func (m *Merger) task(ctx context.Context, view *MergeView, t *MergeTask, mayVouch bool, sum *roundSum) (done bool, err error) {
	quorum := true
	for _, lane := range t.Lanes {
		res, mine := m.laneOf(ctx, view, lane, sum)
		if !mine {
			continue
		}
		if !res.Regained {
			m.counters.failed.Add(1)
			return false, cmp.Or(res.Err, errNotRegained)
		}
		m.counters.lanes.Add(1)
		sum.lanes++
		quorum = quorum && res.Quorum
	}
	return m.settle(view, t, mayVouch, quorum)
}

// errNotRegained: what the sources had was taken, but what this node lost itself may
// be elsewhere.
var errNotRegained = &object.Error{Code: object.CodeUnknown, Outcome: object.NotDone,
	Message: "too few other owners are complete for what this node lost itself"}

// errOtherSizes: plain data would have to move between partitions.
var errOtherSizes = &object.Error{Code: object.CodeUnsupported, Outcome: object.NotDone,
	Message: "plain data cannot be taken over between rings of different numbers of partitions: give the newest ring as many as those before"}

// laneOf merges one lane with those who own it, and the sources. mine is false if
// this node is none of them.
func (m *Merger) laneOf(ctx context.Context, view *MergeView, lane Lane, sum *roundSum) (res MergeResult, mine bool) {
	props := view.Buckets.Lookup(lane.Type, lane.Bucket)
	p := view.party(&props, lane.Slot)
	switch {
	case !p.member:
		return MergeResult{}, false
	case p.never:
		return MergeResult{Err: errOtherSizes}, true
	}
	sides := []Syncer{m.cfg.Own}
	for _, id := range p.others {
		sides = append(sides, m.cfg.Other(id))
	}
	state := newMerge(p, props.Rows, props.WriteOnce)
	if !view.doubted(lane) {
		state.compareDigests(m.settledMinutes(&props))
	}
	res = m.lane(ctx, lane, state, sides, append([]ring.NodeID{m.cfg.Self}, p.others...))
	sum.pulled, sum.pushed, sum.bytes = sum.pulled+res.Pulled, sum.pushed+res.Pushed, sum.bytes+res.PulledBytes+res.PushedBytes
	return res, true
}

// settleSeconds is how long puts may be under way: what is newer is not compared
// after a walk.
const settleSeconds = mendAfterSeconds

// settledMinutes returns the minutes of a bucket that have not expired, up to those
// in which puts may be under way.
func (m *Merger) settledMinutes(props *bucket.Properties) (since, until int64) {
	if !props.Timed {
		return math.MinInt64, math.MaxInt64
	}
	now := m.cfg.Now().Unix()
	since = math.MinInt64
	if props.TTLSeconds > 0 {
		since = (now-props.TTLSeconds)/60 + 2 // a clock may be ahead by less than a minute
	}
	return since, (now - settleSeconds) / 60
}

// settle says durably what a task whose lanes are regained allows to say.
func (m *Merger) settle(view *MergeView, t *MergeTask, mayVouch, quorum bool) (done bool, err error) {
	p := view.Partition
	done = true
	for _, h := range t.Horizons {
		if err := m.cfg.Own.RaiseHorizon(p, h.Type, h.Bucket, h.Horizon); err != nil {
			return false, err
		}
	}
	if t.Vouch && mayVouch {
		if err := m.cfg.Own.Vouch(p, t.Since, t.Plain); err != nil {
			return false, err
		}
	} else if t.Vouch {
		done = false
	}
	for _, d := range t.Clear {
		if d.All && !done {
			continue
		}
		if err := m.cfg.Own.Clear(p, d); err != nil {
			return false, err
		}
		m.counters.cleared.Add(1)
		if !quorum {
			m.counters.uncertain.Add(1)
			m.cfg.Log.Warn("acknowledged objects may have been lost: too few other owners were complete, and what all of them lost is lost",
				"partition", p.String(), "bucket", bucket.ID(d.Bucket).String(), "slot", d.Slot, "reason", d.Reason)
		}
	}
	return done, nil
}

// slowDown keeps to the rate: it waits as long as the bytes may take, a millisecond
// at least at a time.
func (m *Merger) slowDown(ctx context.Context, sizeBytes int) {
	m.waited += time.Duration(float64(sizeBytes) / float64(m.rate.Load()) * float64(time.Second))
	if d := m.waited; d >= time.Millisecond {
		m.waited = 0
		rest(ctx, d)
	}
}

// placeOf is where a lane is owed to a node.
func placeOf(id ring.NodeID, l Lane) Place {
	p := Place{Node: id, Type: l.Type, Bucket: l.Bucket, Timed: l.Timed, Partition: l.Partition, Slot: l.Slot}
	if !l.Timed {
		p.Slot = 0
	}
	return p
}
