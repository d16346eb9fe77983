package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// Put stores an object. When it returns nil the object is as durable as its
// bucket promises; of an error, the Outcome says what may be so.
func (c *Client) Put(ctx context.Context, o Object) error {
	rec, err := c.Encode(o)
	if err != nil {
		return err
	}
	defer rec.Release()
	return c.PutRecord(ctx, rec)
}

// PutRecord is Put of an object that is encoded already. The record remains the
// caller's.
func (c *Client) PutRecord(ctx context.Context, rec object.Record) error {
	size := len(rec.Raw())
	return c.do(ctx, &request{
		what: "put", plan: plan{about: recordName(&rec)}, bytes: size, cost: int64(size),
		ask: func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
			return conn.Call(ctx, &wire.Call{Op: proto.OpPut, Class: wire.Ingest, Body: []wire.Piece{{Bytes: rec.Raw(), Buf: rec.Buf}}})
		},
	})
}

// Get returns an object with its value, whose checksum has been verified. The
// caller releases the record. Errors that are answers: CodeAbsent, CodeExpired.
// CodeUnknown means that whether it is there cannot be told now.
func (c *Client) Get(ctx context.Context, bucketType, name, key string) (rec object.Record, err error) {
	meta, about, err := appendName(bucketType, name, key)
	if err != nil {
		return object.Record{}, err
	}
	err = c.do(ctx, &request{
		what: "get", plan: plan{about: about}, reads: true, cost: expectedAnswer, latency: &c.latencies.get,
		ask: func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
			return conn.Call(ctx, &wire.Call{Op: proto.OpGet, Class: wire.Get, Meta: meta})
		},
		take: func(reply *wire.Reply) (err error) {
			if rec, err = c.checked(reply, bucketType, name, key); err != nil {
				reply.Release()
			}
			return err
		},
	})
	return rec, err
}

// checked returns the record in an answer, if it is what was asked for and not
// damaged. It takes over the answer's Buffer.
func (c *Client) checked(reply *wire.Reply, bucketType, name, key string) (object.Record, error) {
	rec, err := object.ParseRecord(reply.Body)
	if err == nil {
		err = rec.Verify()
	}
	if err == nil && !names(&rec.Header, bucketType, name, key) {
		err = errors.New("it is another object's")
	}
	if err != nil {
		c.stats.corrupt.Add(1)
		return object.Record{}, object.Errorf(object.CodeCorrupt, object.NotDone, "the answer for %q was damaged: %w", key, err)
	}
	rec.Buf = reply.Buf
	return rec, nil
}

// names tells whether h is the header of that object. An index row's key has two
// spellings, of which the store keeps one.
func names(h *object.Header, bucketType, name, key string) bool {
	if string(h.Type) != cmp.Or(bucketType, bucket.DefaultType) || string(h.Bucket) != name {
		return false
	}
	if string(h.Key) == key {
		return true
	}
	k, err := event.ParseIndexKey(key)
	return err == nil && name == bucket.Epochs && string(h.Key) == k.String()
}

// Head returns an object's header. Errors are those of Get.
func (c *Client) Head(ctx context.Context, bucketType, name, key string) (h object.Header, err error) {
	meta, about, err := appendName(bucketType, name, key)
	if err != nil {
		return object.Header{}, err
	}
	err = c.do(ctx, &request{
		what: "head", plan: plan{about: about}, reads: true, latency: &c.latencies.head,
		ask: func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
			return conn.Call(ctx, &wire.Call{Op: proto.OpHead, Class: wire.Get, Meta: meta})
		},
		take: func(reply *wire.Reply) (err error) {
			defer reply.Release()
			if h, _, err = object.ParseHeader(bytes.Clone(reply.Body)); err == nil && !names(&h, bucketType, name, key) {
				err = errors.New("it is another object's")
			}
			if err != nil {
				return object.Errorf(object.CodeCorrupt, object.NotDone, "the answer for %q was damaged: %w", key, err)
			}
			return nil
		},
	})
	return h, err
}

// Delete removes an object: the value it has now, whichever clock stamped it. In
// a write-once bucket the key never takes a value again. CodeAbsent says that
// there was nothing to delete.
func (c *Client) Delete(ctx context.Context, bucketType, name, key string) error {
	h, err := c.Head(ctx, bucketType, name, key)
	if err != nil {
		return err
	}
	rec, err := object.Encode(object.Header{
		Kind: object.Tombstone, TimestampMicros: max(c.stampMicros(), h.TimestampMicros+1),
		Type: h.Type, Bucket: h.Bucket, Key: h.Key,
		Writer: h.Writer, Incarnation: h.Incarnation, // whose entry in the index is marked
	}, nil)
	if err != nil {
		return err
	}
	defer rec.Release()
	return c.PutRecord(ctx, rec)
}

// appendName encodes the name of an object, and returns it as it is placed.
func appendName(bucketType, name, key string) (meta []byte, about proto.Name, err error) {
	bucketType = cmp.Or(bucketType, bucket.DefaultType)
	if err := errors.Join(bucket.CheckNames(bucketType, name), bucket.CheckKey(key)); err != nil {
		return nil, proto.Name{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	meta = proto.AppendName(nil, proto.Name{Type: []byte(bucketType), Bucket: []byte(name), Key: []byte(key)})
	about, err = proto.ParseName(meta)
	return meta, objectName(about), err
}

// Row returns the index row of a second of a dc: which blobs it has, and which
// writers said what. certain tells that nothing acknowledged can be missing.
func (c *Client) Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error) {
	if err := key.Validate(); err != nil {
		return index.Row{}, false, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	about := rowName(key)
	err = c.do(ctx, &request{
		what: "row", plan: plan{about: about}, reads: true, cost: expectedAnswer, latency: &c.latencies.row,
		ask: func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
			return conn.Call(ctx, &wire.Call{Op: proto.OpRow, Class: wire.Get, Meta: about.Key})
		},
		take: func(reply *wire.Reply) (err error) {
			defer reply.Release()
			if certain, err = proto.ParseRowMeta(reply.Meta, reply.Body); err == nil {
				row, err = index.ParseRow(reply.Body)
			}
			if err == nil {
				err = row.ValidateFor(key)
			}
			if err != nil {
				return object.Errorf(object.CodeCorrupt, object.NotDone, "the answer for row %v was damaged: %w", key, err)
			}
			return nil
		},
	})
	if err != nil {
		return index.Row{}, false, err
	}
	return row, certain, nil
}

// Keys returns the keys of the blobs of one second of a dc, in order, without
// those that were erased. certain is that of Row.
func (c *Client) Keys(ctx context.Context, epoch int64, dc string) (keys []event.Key, certain bool, err error) {
	at := event.IndexKey{Epoch: epoch, DC: dc}
	row, certain, err := c.Row(ctx, at)
	if err != nil {
		return nil, false, err
	}
	for _, e := range row.Blobs() {
		if e.Flags&index.Erased != 0 {
			continue
		}
		k, err := e.Key(at)
		if err != nil {
			return nil, false, object.Errorf(object.CodeCorrupt, object.NotDone, "row %v: %w", at, err)
		}
		keys = append(keys, k)
	}
	return keys, certain, nil
}

// AppendIndex adds a writer's hello, final or goodbye to an index row.
func (c *Client) AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error {
	if err := errors.Join(key.Validate(), delta.ValidateFor(key)); err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	body, about := index.AppendRow(nil, delta), rowName(key)
	return c.do(ctx, &request{
		what: "index entry", plan: plan{about: about}, bytes: len(body),
		ask: func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
			return conn.Call(ctx, &wire.Call{Op: proto.OpAppendIndex, Class: wire.Ingest, Meta: about.Key, Body: []wire.Piece{{Bytes: body}}})
		},
	})
}

// Info asks one of the nodes about itself and its buckets.
func (c *Client) Info(ctx context.Context) (info proto.Info, err error) {
	err = c.do(ctx, &request{what: "request for information", reads: true, ask: askInfo, take: func(reply *wire.Reply) (err error) {
		info, err = takeInfo(reply)
		return err
	}})
	return info, err
}

func askInfo(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
	return conn.Call(ctx, &wire.Call{Op: proto.OpInfo, Class: wire.Control})
}

func takeInfo(reply *wire.Reply) (proto.Info, error) {
	defer reply.Release()
	info, err := proto.ParseInfo(reply.Body)
	if err != nil {
		return proto.Info{}, object.Errorf(object.CodeCorrupt, object.NotDone, "the node's information: %w", err)
	}
	return info, nil
}

// callInfo asks the node at the other end about itself.
func callInfo(ctx context.Context, conn *wire.Conn) (proto.Info, error) {
	reply, err := askInfo(ctx, conn)
	if err != nil {
		return proto.Info{}, err
	}
	return takeInfo(&reply)
}
