package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

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
	case AskDigest:
		ev.Kind, err = DigestCame, errNoWay
		if side := d.sides[a.Owner]; side != nil {
			ev.Digest, err = side.Digest(ctx, d.lane)
		}
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
