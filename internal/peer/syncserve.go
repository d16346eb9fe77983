package peer

import (
	"context"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A SyncLocal is what a [SyncHandler] serves: what this node's replicas have, of
// partitions that it owns or is a source of in some slot. Others it refuses with
// CodeWrongOwner. Its methods may be called by any goroutine; their errors are
// *object.Error.
type SyncLocal interface {
	// Survey tells what the node has of a partition.
	Survey(ctx context.Context, p ring.Partition) (Survey, error)

	// Page tells what it has of a lane from a position on: a bounded part, made in
	// bounded time. rows tells that the lane is of an index.
	Page(ctx context.Context, lane Lane, from uint64) (page Page, rows bool, err error)

	// Digest sums up what it has of a lane.
	Digest(ctx context.Context, lane Lane) (LaneDigest, error)

	// RepairRecord stores what another replica has, by the rules for that. The
	// record is the caller's.
	RepairRecord(ctx context.Context, rec object.Record, over object.Version) error
}

// A SyncHandlerConfig configures a SyncHandler. All fields but CatchUp must be set.
type SyncHandlerConfig struct {
	Local   SyncLocal
	Cluster wire.ID
	History func() ring.Version // this node's own; it must be quick
	// CatchUp is as in [HandlerConfig].
	CatchUp func(ctx context.Context, v ring.Version, from ring.NodeID) error
}

// A SyncHandler serves the requests of other nodes' [Syncer]s. It is a
// [wire.Handler] for the operations that [Syncs] names.
type SyncHandler struct {
	cfg      SyncHandlerConfig
	counters syncCounters
}

type syncCounters struct {
	surveys, pages, items, repairs, digests, refused, catchUps atomic.Uint64
}

// SyncStats are the counts of a SyncHandler since it was made.
type SyncStats struct {
	Surveys, Pages, Repairs, Digests uint64 // requests served, or refused after they were decoded
	Items                            uint64 // in the pages
	Refused                          uint64 // requests of strangers, of a newer history, or that could not be decoded
	CatchUps                         uint64 // requests that waited for a newer history
}

// NewSyncHandler returns a SyncHandler.
func NewSyncHandler(cfg SyncHandlerConfig) *SyncHandler {
	if cfg.Local == nil || cfg.Cluster.IsZero() || cfg.History == nil {
		panic("peer: BUG: a sync handler without replicas, cluster or history")
	}
	return &SyncHandler{cfg: cfg}
}

// Stats returns the SyncHandler's counts.
func (h *SyncHandler) Stats() SyncStats {
	c := &h.counters
	return SyncStats{
		Surveys: c.surveys.Load(), Pages: c.pages.Load(), Repairs: c.repairs.Load(), Digests: c.digests.Load(),
		Items: c.items.Load(), Refused: c.refused.Load(), CatchUps: c.catchUps.Load(),
	}
}

// ServeWire serves one request.
func (h *SyncHandler) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	a, err := h.serve(ctx, r)
	if err != nil {
		return wire.Answer{}, object.AsError(err)
	}
	return a, nil
}

func (h *SyncHandler) serve(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	err := h.check(r)
	if err == nil {
		err = h.fence(ctx, r)
	}
	if err != nil {
		h.counters.refused.Add(1)
		return wire.Answer{}, err
	}
	switch r.Op {
	case OpSyncSurvey:
		return h.survey(ctx, r)
	case OpSyncPage:
		return h.page(ctx, r)
	case OpSyncDigest:
		return h.digest(ctx, r)
	}
	return h.repair(ctx, r)
}

// check refuses who is no peer, and what peers do not ask.
func (h *SyncHandler) check(r *wire.Request) error {
	who := r.Peer()
	switch {
	case !Syncs(r.Op):
		return object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known to this node: run the same release everywhere", r.Op)
	case !who.IsNode() || who.Cluster != h.cfg.Cluster:
		return errStranger
	case r.Class != wire.Repair:
		return object.Errorf(object.CodeBadRequest, object.NotDone, "operation %d in class %v", r.Op, r.Class)
	}
	return nil
}

// fence answers nothing before this node has learnt the history of the request:
// from then on it takes nothing more from those whose owners were others, so that
// what it says of what it has is final. Who asks under an older history is told
// the same: what it makes of that is as true as before.
func (h *SyncHandler) fence(ctx context.Context, r *wire.Request) error {
	theirs := ring.Version(r.History)
	if !h.cfg.History().Before(theirs) {
		return nil
	}
	if h.cfg.CatchUp == nil {
		return errBehind
	}
	h.counters.catchUps.Add(1)
	if err := h.cfg.CatchUp(ctx, theirs, ring.NodeID(r.Peer().Node)); err != nil {
		return object.Errorf(object.CodeUnavailable, object.NotDone, "%s: %w", errBehind.Message, err)
	}
	if h.cfg.History().Before(theirs) {
		return errBehind
	}
	return nil
}

func (h *SyncHandler) malformed(err error) error {
	h.counters.refused.Add(1)
	return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
}

func (h *SyncHandler) survey(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	p, err := parsePartition(r.Meta)
	if err == nil && len(r.Body) > 0 {
		err = malformed("a survey with a body")
	}
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	h.counters.surveys.Add(1)
	s, err := h.cfg.Local.Survey(ctx, p)
	if err != nil {
		return wire.Answer{}, err
	}
	body := appendSurvey(nil, &s)
	return wire.Answer{Meta: appendSum(nil, body), Body: wire.Piece{Bytes: body}}, nil
}

func (h *SyncHandler) page(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	lane, from, err := parsePageRequest(r.Meta)
	if err == nil && len(r.Body) > 0 {
		err = malformed("a page with a body")
	}
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	h.counters.pages.Add(1)
	page, rows, err := h.cfg.Local.Page(ctx, lane, from)
	if err != nil {
		return wire.Answer{}, err
	}
	h.counters.items.Add(uint64(len(page.Items)))
	meta, body := appendPage(nil, nil, &page, rows)
	return wire.Answer{Meta: meta, Body: wire.Piece{Bytes: body}}, nil
}

func (h *SyncHandler) digest(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	lane, err := parseLane(r.Meta)
	if err == nil && len(r.Body) > 0 {
		err = malformed("a digest with a body")
	}
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	h.counters.digests.Add(1)
	d, err := h.cfg.Local.Digest(ctx, lane)
	if err != nil {
		return wire.Answer{}, err
	}
	body := appendLaneDigest(nil, &d)
	return wire.Answer{Meta: appendSum(nil, body), Body: wire.Piece{Bytes: body}}, nil
}

func (h *SyncHandler) repair(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	over, err := parseOver(r.Meta)
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	rec, err := object.ParseRecord(r.Body)
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	rec.Buf = r.Buf
	h.counters.repairs.Add(1)
	return wire.Answer{}, h.cfg.Local.RepairRecord(ctx, rec, over)
}
