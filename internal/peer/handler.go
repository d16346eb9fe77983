package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A Local is what a [Handler] serves: this node's own replicas. Its methods may
// be called by any goroutine; their errors are *object.Error.
type Local interface {
	// Judge compares the history that a request for an object was sent under with
	// this node's own. Puts are for owners; other requests are served by sources
	// as well. It must be quick. A put is judged again when it is stored: the
	// history may have changed meanwhile.
	Judge(theirs ring.Version, ref Ref, put bool) Judgement

	// Put stores a record, a delta of the index included, under its placement
	// hash. It returns when the record is as durable as its bucket's sync policy
	// asks. The record is the caller's: what is kept is retained. A delta for a
	// second that takes it no more is refused with CodeClosed.
	Put(ctx context.Context, hash uint64, rec object.Record) error

	// Get reads the greatest version of a key, tombstones included: the whole
	// record, or, without body, its header, see object.HeadRecord. The caller
	// releases it.
	// CodeAbsent and CodeExpired say what is known of the key; with them, too,
	// complete says whether the replica vouches for having every record it ever
	// acknowledged for the bucket and the time of the key. The Ref's slices are
	// valid until Get returns.
	Get(ctx context.Context, ref Ref, body bool) (rec object.Record, complete bool, err error)

	// Row reads an index row, empty if nothing was ever said of the second. The row
	// is shared and not modified. CodeExpired and complete are as for Get.
	Row(ctx context.Context, key event.IndexKey) (row index.Row, complete bool, err error)
}

// A Judgement says what becomes of a request, given its history and this node's.
type Judgement uint8

const (
	// Same: both histories name the same owners for the object, and this node may
	// be asked; it is served.
	Same Judgement = 1 + iota
	// Behind: this node's history is the older one.
	Behind
	// Differs: this node's history is not the older one, and names other owners
	// than the request's, or gives this node no part in the object.
	Differs
)

// A HandlerConfig configures a Handler. Local and Cluster must be set.
type HandlerConfig struct {
	Local   Local
	Cluster wire.ID
	// CatchUp gets this node the history v, which that peer has, before ctx ends,
	// or says why not. Many requests may wait in it at once. Without it, requests of
	// a newer history are refused.
	CatchUp func(ctx context.Context, v ring.Version, from ring.NodeID) error
	// Heard is told with each request which history a peer has adopted. It must be
	// quick. Default: nothing is done.
	Heard func(from ring.NodeID, v ring.Version)
}

// A Handler serves the requests of other nodes' Peers. It is a [wire.Handler]
// for the operations that [Serves] names. The server's ServerConfig.History must
// be set: it is how peers learn that the history has changed.
type Handler struct {
	cfg      HandlerConfig
	counters handlerCounters
}

// HandlerStats are the counts of a Handler since it was made.
type HandlerStats struct {
	Puts, Gets, Heads, Rows uint64 // requests of peers, served or refused
	Strangers               uint64 // requests of users, or of other clusters' nodes: refused
	Malformed               uint64 // requests that could not be decoded: refused
	CatchUps                uint64 // requests that waited for a newer history
	WrongOwner              uint64 // requests refused because the histories differ
	Announced               uint64 // histories that peers said they had adopted
}

type handlerCounters struct {
	requests                                    [4]atomic.Uint64
	strangers, malformed, catchUps, wrongOwners atomic.Uint64
	announced                                   atomic.Uint64
}

// NewHandler returns a Handler.
func NewHandler(cfg HandlerConfig) *Handler {
	if cfg.Local == nil || cfg.Cluster.IsZero() {
		panic("peer: BUG: a handler without replicas or cluster")
	}
	if cfg.Heard == nil {
		cfg.Heard = func(ring.NodeID, ring.Version) {}
	}
	return &Handler{cfg: cfg}
}

// Stats returns the Handler's counts.
func (h *Handler) Stats() HandlerStats {
	c := &h.counters
	return HandlerStats{
		Puts: c.requests[0].Load(), Gets: c.requests[1].Load(), Heads: c.requests[2].Load(), Rows: c.requests[3].Load(),
		Strangers: c.strangers.Load(), Malformed: c.malformed.Load(), CatchUps: c.catchUps.Load(), WrongOwner: c.wrongOwners.Load(),
		Announced: c.announced.Load(),
	}
}

// ServeWire serves one request.
func (h *Handler) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	if err := h.check(r); err != nil {
		return wire.Answer{}, err
	}
	h.cfg.Heard(ring.NodeID(r.Peer().Node), ring.Version(r.History))
	if r.Op == OpAdopted {
		return h.adopted(r)
	}
	h.counters.requests[r.Op-OpPut].Add(1)
	switch r.Op {
	case OpPut:
		return h.put(ctx, r)
	case OpGet:
		return h.get(ctx, r, true)
	case OpHead:
		return h.get(ctx, r, false)
	}
	return h.row(ctx, r)
}

// check refuses who is no peer, and what peers do not ask.
func (h *Handler) check(r *wire.Request) error {
	who := r.Peer()
	switch {
	case !Serves(r.Op):
		return object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known to this node: run the same release everywhere", r.Op)
	case !who.IsNode() || who.Cluster != h.cfg.Cluster:
		h.counters.strangers.Add(1)
		return errStranger
	case r.Op == OpAdopted:
		if r.Class == wire.Control {
			return nil
		}
	case r.Class == wire.Repair, r.Op == OpPut && r.Class == wire.Ingest, r.Op != OpPut && r.Class == wire.Get:
		return nil
	}
	return h.malformed(malformed(fmt.Sprintf("operation %d in class %v", r.Op, r.Class)))
}

var errStranger = &object.Error{Code: object.CodeRefused, Outcome: object.NotDone,
	Message: "replicas are for the nodes of the cluster: put and get through a node's door"}

func (h *Handler) malformed(err error) error {
	h.counters.malformed.Add(1)
	code := object.CodeBadRequest
	if errors.Is(err, object.ErrCorrupt) || errors.Is(err, object.ErrTorn) {
		code = object.CodeCorrupt
	}
	return object.Errorf(code, object.NotDone, "%w", err)
}

// fence serves nothing under a history that names other owners.
func (h *Handler) fence(ctx context.Context, r *wire.Request, ref Ref) error {
	theirs, put := ring.Version(r.History), r.Op == OpPut
	j := h.cfg.Local.Judge(theirs, ref, put)
	if j == Behind {
		h.counters.catchUps.Add(1)
		if h.cfg.CatchUp == nil {
			return errBehind
		}
		if err := h.cfg.CatchUp(ctx, theirs, ring.NodeID(r.Peer().Node)); err != nil {
			return object.Errorf(object.CodeUnavailable, object.NotDone, "%s: %w", errBehind.Message, err)
		}
		j = h.cfg.Local.Judge(theirs, ref, put)
	}
	switch j {
	case Same:
		return nil
	case Behind:
		return errBehind
	case Differs:
		h.counters.wrongOwners.Add(1)
		return errWrongOwner
	}
	panic(fmt.Sprintf("peer: BUG: judgement %d", j))
}

var (
	errBehind = &object.Error{Code: object.CodeUnavailable, Outcome: object.NotDone,
		Message: "this node has not learnt yet who owns what: send again a little later"}
	errWrongOwner = &object.Error{Code: object.CodeWrongOwner, Outcome: object.NotDone,
		Message: "the owners of the key have changed: ask again under the new history"}
	errMovedMeanwhile = &object.Error{Code: object.CodeWrongOwner, Outcome: object.MaybeDone,
		Message: "the owners of the key changed while it was stored: ask again under the new history"}
)

// adopted answers an announcement: with the version that every answer carries.
func (h *Handler) adopted(r *wire.Request) (wire.Answer, error) {
	if len(r.Meta)+len(r.Body) > 0 {
		return wire.Answer{}, h.malformed(malformed("an announcement with arguments"))
	}
	h.counters.announced.Add(1)
	return wire.Answer{}, nil
}

func (h *Handler) put(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	if len(r.Meta) > 0 {
		return wire.Answer{}, h.malformed(malformed("a put with arguments"))
	}
	rec, err := object.ParseRecord(r.Body)
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	rec.Buf = r.Buf
	ref := Ref{rec.Type, rec.Bucket, rec.Key, ring.Hash(rec.Type, rec.Bucket, rec.Key)}
	if err := h.fence(ctx, r, ref); err != nil {
		return wire.Answer{}, err
	}
	if err := h.cfg.Local.Put(ctx, ref.Hash, rec); err != nil {
		return wire.Answer{}, err
	}
	// What was stored for a ring that does not count any more is no copy that may be
	// acknowledged.
	if h.cfg.Local.Judge(ring.Version(r.History), ref, true) != Same {
		h.counters.wrongOwners.Add(1)
		return wire.Answer{}, errMovedMeanwhile
	}
	return wire.Answer{}, nil
}

func (h *Handler) get(ctx context.Context, r *wire.Request, body bool) (wire.Answer, error) {
	ref, err := parseName(r.Meta)
	if err == nil && len(r.Body) > 0 {
		err = malformed("a get with a body")
	}
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	if err := h.fence(ctx, r, ref); err != nil {
		return wire.Answer{}, err
	}
	rec, complete, err := h.cfg.Local.Get(ctx, ref, body)
	v, err := judge(complete, err)
	if err != nil {
		return wire.Answer{}, err
	}
	a := wire.Answer{Meta: v.encoded()}
	switch {
	case v.state != found:
	case body:
		a.Body = wire.Piece{Bytes: rec.Raw(), Buf: rec.Buf}
	default:
		a.Body = wire.Piece{Bytes: rec.RawHeader(), Buf: rec.Buf}
	}
	return a, nil
}

// judge separates what a replica says of a key from errors.
func judge(complete bool, err error) (verdict, error) {
	switch {
	case err == nil:
		return verdict{found, complete}, nil
	case errors.Is(err, object.CodeAbsent):
		return verdict{absent, complete}, nil
	case errors.Is(err, object.CodeExpired):
		return verdict{expired, complete}, nil
	}
	return verdict{}, err
}

func (h *Handler) row(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	key, err := event.ParseIndexKey(string(r.Meta))
	if err == nil && len(r.Body) > 0 {
		err = malformed("a row with a body")
	}
	if err != nil {
		return wire.Answer{}, h.malformed(err)
	}
	if err := h.fence(ctx, r, rowRef(key)); err != nil {
		return wire.Answer{}, err
	}
	row, complete, err := h.cfg.Local.Row(ctx, key)
	v, err := judge(complete, err)
	if err != nil {
		return wire.Answer{}, err
	}
	if v.state == found && row.Empty() {
		v.state = absent
	}
	var body wire.Piece
	if v.state == found {
		buf := object.NewBuffer(row.Size())
		body = wire.Piece{Bytes: index.AppendRow(buf.Bytes()[:0], row), Buf: buf}
	}
	return wire.Answer{Meta: appendRowMeta(nil, v, body.Bytes), Body: body}, nil
}

func rowRef(key event.IndexKey) Ref {
	ref := Ref{Type: []byte(rowBucketType), Bucket: []byte(rowBucket), Key: key.AppendTo(nil)}
	ref.Hash = ring.Hash(ref.Type, ref.Bucket, ref.Key)
	return ref
}
