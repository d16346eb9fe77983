package peer

import (
	"context"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A SyncLocal is what a [SyncHandler] serves: what this node's replicas have.
// Its methods may be called by any goroutine; their errors are *object.Error.
type SyncLocal interface {
	// Survey tells what the node has of a partition.
	Survey(ctx context.Context, p ring.Partition) (Survey, error)

	// Page tells what it has of a lane from a position on: a bounded part, made in
	// bounded time. rows tells that the lane is of an index.
	Page(ctx context.Context, lane Lane, from uint64) (page Page, rows bool, err error)

	// RepairRecord stores what another replica has, by the rules for that. The
	// record is the caller's.
	RepairRecord(ctx context.Context, rec object.Record, over object.Version) error
}

// A SyncHandlerConfig configures a SyncHandler. All fields must be set.
type SyncHandlerConfig struct {
	Local   SyncLocal
	Cluster wire.ID
	History func() ring.Version // this node's own; it must be quick
}

// A SyncHandler serves the requests of other nodes' [Syncer]s. It is a
// [wire.Handler] for the operations that [Syncs] names.
type SyncHandler struct {
	cfg      SyncHandlerConfig
	counters syncCounters
}

type syncCounters struct {
	surveys, pages, items, repairs, refused atomic.Uint64
}

// SyncStats are the counts of a SyncHandler since it was made.
type SyncStats struct {
	Surveys, Pages, Repairs uint64 // requests served, or refused after they were decoded
	Items                   uint64 // in the pages
	Refused                 uint64 // requests of strangers, of another history, or that could not be decoded
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
		Surveys: c.surveys.Load(), Pages: c.pages.Load(), Repairs: c.repairs.Load(),
		Items: c.items.Load(), Refused: c.refused.Load(),
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
	if err := h.check(r); err != nil {
		h.counters.refused.Add(1)
		return wire.Answer{}, err
	}
	switch r.Op {
	case OpSyncSurvey:
		return h.survey(ctx, r)
	case OpSyncPage:
		return h.page(ctx, r)
	}
	return h.repair(ctx, r)
}

// check refuses who is no peer, what peers do not ask, and another history: its
// owners may be others.
func (h *SyncHandler) check(r *wire.Request) error {
	who := r.Peer()
	ours, theirs := h.cfg.History(), ring.Version(r.History)
	switch {
	case !Syncs(r.Op):
		return object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known to this node: run the same release everywhere", r.Op)
	case !who.IsNode() || who.Cluster != h.cfg.Cluster:
		return errStranger
	case r.Class != wire.Repair:
		return object.Errorf(object.CodeBadRequest, object.NotDone, "operation %d in class %v", r.Op, r.Class)
	case ours.Before(theirs):
		return errBehind
	case ours != theirs:
		return errWrongOwner
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
