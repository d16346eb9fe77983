// Package native is the door for the native protocol: it takes requests from
// [wire], calls the node's store, and answers. The operations and their
// encodings are in package proto, which the client shares.
package native

import (
	"context"
	"errors"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A Store is what the door serves. Its methods may be called by any goroutine;
// their errors are *object.Error.
type Store interface {
	// Put stores a record, or deletes if it is a tombstone, and returns when it is
	// acknowledged. The record is the caller's: what is kept is retained.
	Put(ctx context.Context, rec object.Record) error

	// PutBatch is Put of many, with an error a record.
	PutBatch(ctx context.Context, recs []object.Record) []error

	// Get returns an object with its value; the caller releases it.
	Get(ctx context.Context, bucketType, bucket, key []byte) (object.Record, error)

	// Head calls f with an object's header, parsed and as it is encoded. Both live
	// until f returns.
	Head(ctx context.Context, bucketType, bucket, key []byte, f func(h *object.Header, raw []byte)) error

	// Row returns an index row, and whether it surely lacks nothing acknowledged.
	// The row is not modified.
	Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error)

	// AppendIndex adds a writer's hello, final or goodbye to an index row.
	AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error

	// Subscribe begins a tail; the caller closes it.
	Subscribe(o tail.Options) (*tail.Subscription, error)

	// Info tells about the node and its buckets.
	Info(ctx context.Context) (proto.Info, error)

	// History tells who owns what, and where the members are.
	History(ctx context.Context) (proto.History, error)
}

// A Handler serves the native protocol over a Store. It is a [wire.Handler].
type Handler struct {
	store   Store
	cluster Cluster // nil: the node takes no part in one that can change
}

// NewHandler returns the door to a store.
func NewHandler(s Store) *Handler { return &Handler{store: s} }

// ServeWire serves one request.
func (h *Handler) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	switch r.Op {
	case proto.OpPut:
		return h.put(ctx, r)
	case proto.OpPutBatch:
		return h.putBatch(ctx, r)
	case proto.OpGet:
		return h.get(ctx, r)
	case proto.OpHead:
		return h.head(ctx, r)
	case proto.OpRow:
		return h.row(ctx, r)
	case proto.OpAppendIndex:
		return h.appendIndex(ctx, r)
	case proto.OpTail:
		return h.tail(ctx, r)
	case proto.OpInfo:
		return h.info(ctx)
	case proto.OpHistory:
		return h.history(ctx)
	case proto.OpDocument, proto.OpPropose, proto.OpReport:
		return h.administer(ctx, r)
	}
	return wire.Answer{}, object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known to this node: use a client of its version", r.Op)
}

func badRequest(err error) error {
	code := object.CodeBadRequest
	if errors.Is(err, object.ErrCorrupt) || errors.Is(err, object.ErrTorn) {
		code = object.CodeCorrupt
	}
	return object.Errorf(code, object.NotDone, "%w", err)
}

func (h *Handler) put(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	rec, err := object.ParseRecord(r.Body)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	rec.Buf = r.Buf
	return wire.Answer{}, h.store.Put(ctx, rec)
}

func (h *Handler) putBatch(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	recs, err := proto.ParseBatch(r.Meta, r.Body)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	for i := range recs {
		recs[i].Buf = r.Buf
	}
	failures := proto.AppendFailures(nil, h.store.PutBatch(ctx, recs))
	return wire.Answer{Body: wire.Piece{Bytes: failures}}, nil
}

func (h *Handler) get(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	n, err := proto.ParseName(r.Meta)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	rec, err := h.store.Get(ctx, n.Type, n.Bucket, n.Key)
	if err != nil {
		return wire.Answer{}, err
	}
	return wire.Answer{Body: wire.Piece{Bytes: rec.Raw(), Buf: rec.Buf}}, nil
}

func (h *Handler) head(ctx context.Context, r *wire.Request) (a wire.Answer, err error) {
	n, err := proto.ParseName(r.Meta)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	err = h.store.Head(ctx, n.Type, n.Bucket, n.Key, func(_ *object.Header, raw []byte) {
		buf := object.NewBuffer(len(raw))
		copy(buf.Bytes(), raw)
		a.Body = wire.Piece{Bytes: buf.Bytes(), Buf: buf}
	})
	return a, err
}

func (h *Handler) row(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	key, err := event.ParseIndexKey(string(r.Meta))
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	row, certain, err := h.store.Row(ctx, key)
	if err != nil {
		return wire.Answer{}, err
	}
	buf := object.NewBuffer(row.Size())
	body := index.AppendRow(buf.Bytes()[:0], row)
	return wire.Answer{Meta: proto.AppendRowMeta(nil, certain, body), Body: wire.Piece{Bytes: body, Buf: buf}}, nil
}

func (h *Handler) appendIndex(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	key, err := event.ParseIndexKey(string(r.Meta))
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	delta, err := index.ParseRow(r.Body)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	return wire.Answer{}, h.store.AppendIndex(ctx, key, delta)
}

// tail sends items until the caller goes away or the subscription ends. A
// caller that does not read stops this goroutine, in Send; the hub goes on
// without it.
func (h *Handler) tail(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	o, err := proto.ParseTailOptions(r.Meta)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	sub, err := h.store.Subscribe(o)
	if err != nil {
		return wire.Answer{}, err
	}
	defer sub.Close()
	var meta []byte
	for {
		item, err := sub.Next(ctx)
		if err != nil {
			return wire.Answer{}, err
		}
		meta = proto.AppendItem(meta[:0], &item)
		var body wire.Piece
		if item.Kind == tail.KindBlob {
			body = wire.Piece{Bytes: item.Blob.Record.Raw(), Buf: item.Blob.Record.Buf}
		}
		if err := r.Send(meta, body); err != nil {
			return wire.Answer{}, err
		}
	}
}

func (h *Handler) info(ctx context.Context) (wire.Answer, error) {
	info, err := h.store.Info(ctx)
	if err != nil {
		return wire.Answer{}, err
	}
	b, err := proto.AppendInfo(nil, info)
	if err != nil {
		return wire.Answer{}, err
	}
	return wire.Answer{Body: wire.Piece{Bytes: b}}, nil
}

func (h *Handler) history(ctx context.Context) (wire.Answer, error) {
	history, err := h.store.History(ctx)
	if err != nil {
		return wire.Answer{}, err
	}
	return wire.Answer{Body: wire.Piece{Bytes: proto.AppendHistory(nil, history)}}, nil
}
