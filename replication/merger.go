package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A Syncer is one node's replicas as merging asks them: this node's own, or a
// peer's over the wire. Its methods wait, no longer than ctx, and may be called
// by any goroutine. Errors are *object.Error.
type Syncer interface {
	// Survey tells what the node has of a partition.
	Survey(ctx context.Context, p ring.Partition) (Survey, error)

	// Page tells what it has of a lane from a position on, as much as one page
	// holds.
	Page(ctx context.Context, lane Lane, from uint64) (Page, error)

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

	// Rescue stores a value that loses its key, under its name as a loser, and
	// indexes it; required. The record stays the caller's.
	Rescue func(ctx context.Context, rec object.Record) error

	// Owed is what nodes that were away are given when they are back; required.
	Owed *Owed

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: discards

	// Grace is how long after a doubt was first seen nothing is merged: puts that
	// this node may have acknowledged before it lost them must be over on all
	// other owners. It is at least the coordinators' WriteTimeout; default 11 s.
	Grace time.Duration
	// Timeout bounds each request. Default 10 s.
	Timeout time.Duration
	// BytesPerSecond bounds what is moved, on average. Default 64 MiB.
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
	c.Grace = cmp.Or(c.Grace, 11*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.BytesPerSecond = cmp.Or(c.BytesPerSecond, 64<<20)
	c.PauseLeast = cmp.Or(c.PauseLeast, 50*time.Millisecond)
	c.PauseMost = max(cmp.Or(c.PauseMost, time.Second), c.PauseLeast)
	return c
}

// A Merger makes this node's replicas complete, and gives nodes that were away
// what they are owed: the thin driver of [MergeView.Plan] and [Merge]. It works
// on one goroutine, one lane after the other. What it has not finished when the
// process ends it begins anew.
type Merger struct {
	cfg      MergerConfig
	counters mergeCounters
	seen     map[ring.Partition]time.Time // when it was first seen in doubt; Round's
	retries  map[ring.Partition]retry     // of those that failed; Round's
	unpaid   map[ring.NodeID]retry        // nodes that could not be given what they are owed; Round's
	doubts   map[seenDoubt]time.Time      // the same of doubts, which come at any time; Round's
}

type seenDoubt struct {
	partition ring.Partition
	doubt     Doubt
}

type mergeCounters struct {
	lanes, failed                             atomic.Uint64
	pulled, pushed, pulledBytes, pushedBytes  atomic.Uint64
	rescued, unpushed, cleared, uncertain     atomic.Uint64
	debtsPaid, copiesPaid, debtsFailed        atomic.Uint64
	partitionsInDoubt, partitionsUnattainable atomic.Int64
}

// MergerStats are the counts of a Merger since it was made.
type MergerStats struct {
	Lanes         uint64 // slots walked to the end, and regained
	LanesFailed   uint64 // slots that will be walked again
	Pulled        uint64 // records given to this node
	Pushed        uint64 // records given to others
	PulledBytes   uint64 // of values
	PushedBytes   uint64
	Rescued       uint64 // values that lost their key and were kept under another name
	Unpushed      uint64 // records that others could not be given
	DoubtsCleared uint64
	Uncertain     uint64 // of these, those for which too few other owners were complete: what all lost is lost
	DebtsPaid     uint64 // places that were given all they were owed
	DebtsFailed   uint64 // attempts that ended before
	CopiesPaid    uint64 // records given to pay

	PartitionsInDoubt      int64 // now: partitions for which this node is not complete
	PartitionsUnattainable int64 // of these, those for which too few other owners are reachable
}

// Stats returns the counts. Any goroutine may call it.
func (m *Merger) Stats() MergerStats {
	c := &m.counters
	return MergerStats{
		Lanes: c.lanes.Load(), LanesFailed: c.failed.Load(),
		Pulled: c.pulled.Load(), Pushed: c.pushed.Load(), PulledBytes: c.pulledBytes.Load(), PushedBytes: c.pushedBytes.Load(),
		Rescued: c.rescued.Load(), Unpushed: c.unpushed.Load(), DoubtsCleared: c.cleared.Load(), Uncertain: c.uncertain.Load(),
		DebtsPaid: c.debtsPaid.Load(), DebtsFailed: c.debtsFailed.Load(), CopiesPaid: c.copiesPaid.Load(),
		PartitionsInDoubt: c.partitionsInDoubt.Load(), PartitionsUnattainable: c.partitionsUnattainable.Load(),
	}
}

// NewMerger returns a Merger.
func NewMerger(cfg MergerConfig) *Merger {
	if cfg.History == nil || cfg.Buckets == nil || cfg.Own == nil || cfg.Other == nil || cfg.Rescue == nil || cfg.Owed == nil || cfg.Self.IsZero() {
		panic("replication: BUG: a merger without node, history, buckets, replicas, rescue or debts")
	}
	return &Merger{cfg: cfg.withDefaults(), seen: make(map[ring.Partition]time.Time), doubts: make(map[seenDoubt]time.Time), retries: make(map[ring.Partition]retry), unpaid: make(map[ring.NodeID]retry)}
}

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
	r := m.cfg.History().Newest()
	began := m.cfg.Now()
	sum := roundSum{gone: make(map[ring.NodeID]bool)}
	doubted := m.doubted(r)
	inDoubt, unattainable := int64(len(doubted)), int64(0)
	m.counters.partitionsInDoubt.Store(inDoubt)
	paid, owing := m.payAll(ctx)
	for _, p := range doubted {
		if ctx.Err() != nil {
			return did, true
		}
		switch m.partition(ctx, r, p, &sum) {
		case mergedAll:
			did = true
			sum.partitions++
			delete(m.seen, p)
			inDoubt--
			m.counters.partitionsInDoubt.Store(inDoubt)
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
	if sum.partitions > 0 || sum.lanes > 0 {
		m.cfg.Log.Info("slots were merged with the other owners", "partitions_complete", sum.partitions, "partitions_in_doubt", inDoubt,
			"slots", sum.lanes, "pulled", sum.pulled, "pushed", sum.pushed, "bytes", sum.bytes, "took", m.cfg.Now().Sub(began))
	}
	return did || paid, waits || owing
}

// doubted returns this node's partitions that are in doubt, and remembers since
// when.
func (m *Merger) doubted(r *ring.Ring) (doubted []ring.Partition) {
	for p := range r.OwnedBy(m.cfg.Self) {
		if !m.cfg.Own.InDoubt(p) {
			delete(m.seen, p)
			delete(m.retries, p)
			continue
		}
		doubted = append(doubted, p)
		if m.seen[p].IsZero() {
			m.seen[p] = m.cfg.Now()
		}
	}
	return doubted
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

// partition works through the plan of one partition, or a part of it.
func (m *Merger) partition(ctx context.Context, r *ring.Ring, p ring.Partition, sum *roundSum) merged {
	if m.cfg.Now().Before(m.retries[p].at) {
		return mergedNone
	}
	view, err := m.view(ctx, r, p, sum)
	if err != nil {
		m.cfg.Log.Warn("a partition cannot be merged with the other owners", "partition", p.String(), "error", err)
		return mergedNone
	}
	if !view.Reachable() {
		return notReachable
	}
	if !m.ripe(view) {
		return mergedNone
	}
	did, failed, mayVouch := false, false, true
	left := slotsPerRound
	for _, t := range view.Plan() {
		if left == 0 && !view.Own.All {
			break // other partitions have newer slots
		}
		done, err := m.task(ctx, r, view, &t, mayVouch, sum)
		if ctx.Err() != nil {
			return mergedNone
		}
		if err != nil {
			m.cfg.Log.Warn("a slot stays in doubt: reads there answer unknown instead of absent", "partition", p.String(), "slot", slotOf(&t), "error", err)
		}
		if done && len(t.Lanes) > 0 {
			left--
		}
		did = did || done && (t.Vouch || len(t.Clear) > 0)
		failed = failed || err != nil
		mayVouch = mayVouch && (done || !t.Needed)
	}
	m.postpone(p, failed && !did)
	switch {
	case !m.cfg.Own.InDoubt(p):
		return mergedAll
	case did:
		return mergedSome
	}
	return mergedNone
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

// view asks the others what they have of a partition, and this node if enough of
// them answer.
func (m *Merger) view(ctx context.Context, r *ring.Ring, p ring.Partition, sum *roundSum) (*MergeView, error) {
	owners := r.Owners(p)
	v := &MergeView{Partition: p, Self: slices.Index(owners, m.cfg.Self), Others: make([]*Survey, len(owners)), Buckets: m.cfg.Buckets()}
	for i, id := range owners {
		if i == v.Self || sum.gone[id] {
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
			v.Others[i] = &s
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
func (m *Merger) task(ctx context.Context, r *ring.Ring, view *MergeView, t *MergeTask, mayVouch bool, sum *roundSum) (done bool, err error) {
	quorum := true
	for _, lane := range t.Lanes {
		props := view.Buckets.Lookup(lane.Type, lane.Bucket)
		n, need := mergeQuorum(&props, len(view.Others))
		if view.Self >= n {
			continue // not this node's
		}
		sides := []Syncer{m.cfg.Own}
		ids := []ring.NodeID{m.cfg.Self}
		for i, id := range r.Owners(view.Partition)[:n] {
			if i != view.Self {
				sides, ids = append(sides, m.cfg.Other(id)), append(ids, id)
			}
		}
		res := m.lane(ctx, lane, NewMerge(n, need, props.Rows, props.WriteOnce), sides, ids)
		sum.pulled, sum.pushed, sum.bytes = sum.pulled+res.Pulled, sum.pushed+res.Pushed, sum.bytes+res.PulledBytes+res.PushedBytes
		if !res.Regained {
			m.counters.failed.Add(1)
			return false, res.Err
		}
		m.counters.lanes.Add(1)
		sum.lanes++
		quorum = quorum && res.Quorum
	}
	return m.settle(view, t, mayVouch, quorum)
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

// lane drives one merge to its end, one action after the other.
func (m *Merger) lane(ctx context.Context, lane Lane, state *Merge, sides []Syncer, ids []ring.NodeID) MergeResult {
	d := laneDrive{m: m, ctx: ctx, lane: lane, sides: sides, ids: ids, recs: make(map[int]object.Record)}
	defer d.drop()
	actions := state.Step(MergeEvent{Kind: MergeBegin}, nil)
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		if a.Kind == MergeDone {
			m.count(&a.Result)
			return a.Result
		}
		if ctx.Err() != nil {
			return MergeResult{Err: object.Errorf(object.CodeStopping, object.NotDone, "%w", context.Cause(ctx))}
		}
		if ev, ok := d.perform(&a); ok {
			actions = state.Step(ev, actions)
		}
	}
	panic("replication: BUG: a merge without an end")
}

func (m *Merger) count(r *MergeResult) {
	c := &m.counters
	c.pulled.Add(r.Pulled)
	c.pushed.Add(r.Pushed)
	c.pulledBytes.Add(r.PulledBytes)
	c.pushedBytes.Add(r.PushedBytes)
	c.rescued.Add(r.Rescued)
	c.unpushed.Add(r.Unpushed)
}

// A laneDrive performs the actions of one merge.
type laneDrive struct {
	m     *Merger
	ctx   context.Context
	lane  Lane
	sides []Syncer
	ids   []ring.NodeID
	recs  map[int]object.Record // by job
}

func (d *laneDrive) drop() {
	for _, rec := range d.recs {
		rec.Release()
	}
}

// perform does what an action says; ok is false if that causes no event.
func (d *laneDrive) perform(a *MergeAction) (ev MergeEvent, ok bool) {
	ctx, cancel := context.WithTimeout(d.ctx, d.m.cfg.Timeout)
	defer cancel()
	ev = MergeEvent{Owner: a.Owner, Job: a.Job}
	var err error
	switch a.Kind {
	case AskPage:
		ev.Kind, err = PageCame, errNoWay
		if side := d.sides[a.Owner]; side != nil {
			ev.Page, err = side.Page(ctx, d.lane, a.From)
		}
	case FetchRecord:
		ev.Kind = Fetched
		err = d.fetch(ctx, a)
	case RescueRecord:
		ev.Kind = Rescued
		err = d.m.cfg.Rescue(ctx, d.recs[a.Job])
	case GiveRecord:
		ev.Kind = Given
		rec := d.recs[a.Job]
		err = d.sides[a.Owner].Repair(ctx, d.lane, rec, a.Over)
		d.m.slowDown(d.ctx, len(rec.Raw()))
	case DropRecord:
		rec := d.recs[a.Job]
		rec.Release()
		delete(d.recs, a.Job)
		return ev, false
	case OweRecord:
		d.m.cfg.Owed.Add(placeOf(d.ids[a.Owner], d.lane), []byte(a.Item.Key))
		return ev, false
	case Prepare:
		ev.Kind = Prepared
		err = errors.Join(
			d.m.cfg.Own.RaiseHorizon(d.lane.Partition, d.lane.Type, d.lane.Bucket, a.Horizon),
			d.m.cfg.Own.Sync(d.lane))
	default:
		panic(fmt.Sprintf("replication: BUG: merge action %d", a.Kind))
	}
	ev.Err = asError(err)
	return ev, true
}

func asError(err error) *object.Error {
	if err == nil {
		return nil
	}
	return object.AsError(err)
}

// fetch reads a record and verifies its value.
func (d *laneDrive) fetch(ctx context.Context, a *MergeAction) error {
	rec, err := d.sides[a.Owner].Fetch(ctx, d.lane, a.Item.Key)
	if err != nil {
		return err
	}
	if err := rec.Verify(); err != nil {
		rec.Release()
		return object.Errorf(object.CodeCorrupt, object.NotDone, "%w", err)
	}
	if rec.Kind != object.Delta && rec.Version().Compare(a.Item.Version) < 0 {
		rec.Release()
		return object.Errorf(object.CodeCorrupt, object.NotDone, "%q is older than the page of the same replica said", a.Item.Key)
	}
	d.recs[a.Job] = rec
	return nil
}

// slowDown keeps to the rate: it waits as long as the bytes may take.
func (m *Merger) slowDown(ctx context.Context, sizeBytes int) {
	if d := time.Duration(float64(sizeBytes) / float64(m.cfg.BytesPerSecond) * float64(time.Second)); d >= time.Millisecond {
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
