package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
	"github.com/mayflydb/mayfly/internal/wire"
)

// What a tail is asked for and gives out is described in package tail.
type (
	TailOptions = tail.Options
	Item        = tail.Item
)

// The kinds of an Item.
const (
	KindBlob      = tail.KindBlob
	KindWatermark = tail.KindWatermark
	KindGap       = tail.KindGap
)

// maxCursorBytes is the longest cursor that is sent to a node. A tail with a
// longer one begins from its second, and leaves out itself what it had.
const maxCursorBytes = 48 << 10

// A Tail follows the newest seconds. It keeps its own cursor: when its node or
// its connection is lost it goes on at any node, nothing left out and nothing
// twice. One goroutine uses it at a time.
type Tail struct {
	c      *Client
	o      TailOptions
	at     *cursor.Cursor // nil until it is known where the tail begins
	first  uint32         // which endpoint was asked first
	turn   uint32         // which is asked next
	pause  time.Duration  // before the next attempt
	asked  time.Time      // when Next was first called
	broken bool           // it was interrupted and has got nothing since
	via    *endpoint      // which is held; nil between attempts
	conn   *wire.Conn     // its own; the same
	stream *wire.Stream
}

// Tail begins a tail. Nothing is sent before the first Next; the error tells
// what is wrong with the options. The caller closes it.
func (c *Client) Tail(o TailOptions) (*Tail, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	t := &Tail{c: c, o: o, first: c.next.Add(1), pause: firstPause}
	t.turn = t.first
	switch {
	case o.Cursor != "":
		at, err := cursor.Parse(o.Cursor)
		if err != nil {
			return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "the tail cannot be resumed: %w", err)
		}
		t.at = at
	case o.From > 0:
		t.at = cursor.New(o.From)
	}
	c.stats.calls.Add(1)
	return t, nil
}

// Next waits for the next item, which the caller releases. The value of a blob
// has been verified against its checksum. The item counts as taken: Cursor
// includes it.
//
// Interruptions are mended here, however long they last: the error is the cause
// of ctx's end, an *object.Error that says why no node will serve this tail, or,
// with CodeStopping, that the Client is closed. After ctx's end Next may be called
// again and goes on where it was.
func (t *Tail) Next(ctx context.Context) (Item, error) {
	if t.asked.IsZero() {
		t.asked = time.Now()
	}
	for {
		item, err := t.next(ctx)
		switch {
		case err == nil:
			t.take(&item)
			return item, nil
		case ctx.Err() != nil:
			return Item{}, context.Cause(ctx)
		}
		t.drop()
		e := object.AsError(err)
		if t.c.closing.Load() {
			return Item{}, errClosed()
		}
		if !e.Code.Retryable() {
			return Item{}, e
		}
		if !t.broken {
			t.broken = true
			t.c.cfg.Log.Warn("a tail was interrupted; it goes on as soon as a node answers", "error", e)
		}
		t.c.sleep(ctx, jitter(t.pause))
		t.pause = min(2*t.pause, maxPause)
	}
}

// Items calls Next until it fails or the caller has had enough. Each item is the
// caller's to release; the last pair may be the error.
func (t *Tail) Items(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for {
			item, err := t.Next(ctx)
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Cursor returns where the tail is: a tail that begins with it goes on behind
// the last item that Next returned. It is empty as long as the tail has not
// begun, which asks a node for the time.
func (t *Tail) Cursor() string {
	if t.at == nil {
		return ""
	}
	return t.at.String()
}

// Close ends the tail.
func (t *Tail) Close() error {
	t.drop()
	return nil
}

// next returns the next item the tail has not had.
func (t *Tail) next(ctx context.Context) (Item, error) {
	if t.stream == nil {
		if err := t.open(ctx); err != nil {
			return Item{}, err
		}
	}
	for {
		reply, err := t.stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			err = object.Errorf(object.CodeStopping, object.NotDone, "the node ended the tail")
		}
		if err != nil {
			return Item{}, err
		}
		item, err := t.parse(ctx, &reply)
		if err != nil {
			return Item{}, err
		}
		if id := item.ID(); id != 0 && t.at.Has(id) {
			item.Release()
			continue
		}
		return item, nil
	}
}

// parse makes an item of a message, and sees that its record is whole.
func (t *Tail) parse(ctx context.Context, reply *wire.Reply) (Item, error) {
	item, err := proto.ParseItem(reply.Meta, reply.Body, reply.Buf)
	if err != nil {
		reply.Release()
		t.c.stats.corrupt.Add(1)
		return Item{}, object.Errorf(object.CodeCorrupt, object.NotDone, "the node sent an item that cannot be read: %w", err)
	}
	if item.Kind != KindBlob || len(reply.Body) == 0 {
		reply.Release()
		return item, nil
	}
	if err := item.Blob.Record.Verify(); err != nil {
		t.c.stats.corrupt.Add(1)
		return t.readAgain(ctx, item)
	}
	return item, nil
}

// readAgain replaces an item's damaged record by another copy, or the item by a
// gap if there is none. If that cannot be told now the stream is given up: the
// cursor has not passed the item, so that it comes again.
func (t *Tail) readAgain(ctx context.Context, item Item) (Item, error) {
	item.Release()
	rec, err := t.c.Get(ctx, bucket.DefaultType, bucket.Events, item.Blob.Key.String())
	if e := object.AsError(err); e != nil && e.Code.Retryable() && e.Code != object.CodeCorrupt {
		t.drop()
		return Item{}, e
	}
	if err == nil && rec.Header.Checksum != item.Blob.Entry.Checksum {
		rec.Release()
		err = object.Errorf(object.CodeCorrupt, object.NotDone, "%v has another value than the one that was announced", item.Blob.Key)
	}
	if err != nil {
		gap := tail.Gap{First: item.Arrival, Last: item.Arrival, Key: item.Blob.Key, Err: err}
		return Item{Kind: KindGap, Arrival: item.Arrival, Low: item.Low, Gap: gap}, nil
	}
	item.Blob.Record = rec
	return item, nil
}

// take notes an item that is about to be given out.
func (t *Tail) take(item *Item) {
	if t.broken {
		t.broken = false
		t.c.stats.resumes.Add(1)
		t.c.cfg.Log.Info("a tail goes on", "node", t.conn.RemoteAddr().String())
	}
	t.pause = firstPause
	if id := item.ID(); id != 0 {
		t.at.Add(item.Arrival, id)
	}
	t.at.Finish(item.Low)
}

// open connects to the next node and asks for what comes after the cursor.
func (t *Tail) open(ctx context.Context) error {
	if t.turn == t.first {
		t.c.meet(ctx)
	}
	e, err := t.c.chooseAny(ctx, t.turn)
	if err != nil {
		return err
	}
	t.turn++
	e.hold()
	t.via = e
	conn, err := e.connect(ctx, tailWindow)
	if err != nil {
		return err
	}
	t.conn = conn
	if t.at == nil {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	t.stream, err = conn.Stream(endless{ctx}, &wire.Call{Op: proto.OpTail, Class: wire.Tail, Meta: proto.AppendTailOptions(nil, t.options())})
	return err
}

// endless hides a context's deadline: that of one Next is not the stream's, whose
// request would carry it to the node.
type endless struct{ context.Context }

func (endless) Deadline() (time.Time, bool) { return time.Time{}, false }

// begin asks the node for the time and goes back to the second in which Next was
// first called: neither looking for a node nor an interruption before the first
// item skips anything.
func (t *Tail) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.c.cfg.AttemptTimeout)
	defer cancel()
	info, err := callInfo(ctx, t.conn)
	if err != nil {
		return err
	}
	t.at = cursor.New((info.NowMicros - time.Since(t.asked).Microseconds()) / 1e6)
	return nil
}

// options are those of a tail that goes on from the cursor.
func (t *Tail) options() TailOptions {
	o := t.o
	o.From, o.Cursor = 0, t.at.String()
	if len(o.Cursor) > maxCursorBytes {
		o.From, o.Cursor = t.at.Low(), ""
	}
	return o
}

// drop ends the stream and its connection.
func (t *Tail) drop() {
	if t.stream != nil {
		t.stream.Close()
		t.stream = nil
	}
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
	if t.via != nil {
		t.via.drop()
		t.via = nil
	}
}
