package demo

import (
	"context"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/aggregate/generate"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A recordingSource notes each event that it hands on to be sent.
type recordingSource struct {
	source generate.Source
	ledger *ledger
	hash   *xxhash.Digest
}

// Next implements generate.Source.
func (r *recordingSource) Next() (generate.Event, error) {
	ev, err := r.source.Next()
	if err == nil {
		r.ledger.noteSent(eventHash(r.hash, ev.Type, ev.Subtype, ev.Body))
	}
	return ev, err
}

// A timedSink is the aggregator's way to the node, with a clock.
type timedSink struct {
	client *client.Client
	puts   *timing
}

// PutBatch implements aggregate.Sink.
func (s timedSink) PutBatch(ctx context.Context, recs []object.Record) []error {
	begun := time.Now()
	errs := s.client.PutBatch(ctx, recs)
	took := time.Since(begun)
	for _, err := range errs {
		if err == nil {
			s.puts.add(took, 1)
		}
	}
	return errs
}

// AppendIndex implements aggregate.Sink.
func (s timedSink) AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error {
	return s.client.AppendIndex(ctx, key, delta)
}

// A tailer follows the node over TCP and notes what it gets.
type tailer struct {
	ledger *ledger
	tails  *timing
	tail   *client.Tail
	stop   context.CancelFunc
	done   chan struct{} // closed when run has returned
	hash   *xxhash.Digest
	hashes []uint64
	buffer []byte

	// Read by others after done.
	watermarks map[string]int64 // by state
	err        error
}

// startTailer begins to follow at the node's present second.
func startTailer(ctx context.Context, c *client.Client, l *ledger, tails *timing) (*tailer, error) {
	t, err := c.Tail(client.TailOptions{})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	r := &tailer{ledger: l, tails: tails, tail: t, stop: stop, done: make(chan struct{}), hash: xxhash.New(), watermarks: make(map[string]int64)}
	go func() {
		defer close(r.done)
		r.err = r.run(ctx)
	}()
	return r, nil
}

// end stops following and returns what went wrong. It may be called again.
func (r *tailer) end() error {
	r.stop()
	<-r.done
	err := r.err
	r.err = nil
	return err
}

// run follows until ctx ends.
func (r *tailer) run(ctx context.Context) error {
	defer r.tail.Close() //nolint:errcheck // nothing is kept in it
	for {
		item, err := r.tail.Next(ctx)
		if ctx.Err() != nil {
			item.Release()
			return nil
		}
		if err != nil {
			r.ledger.giveUp()
			return err
		}
		switch item.Kind {
		case client.KindBlob:
			r.blob(&item, time.Now())
		case client.KindWatermark:
			r.watermarks[item.Watermark.Verdict.State.String()]++
		case client.KindGap:
			r.ledger.noteFault(0, "the tail has a gap in seconds %d to %d: %v", item.Gap.First, item.Gap.Last, item.Gap.Err)
		}
		item.Release()
	}
}

// blob notes one blob and how late it is.
func (r *tailer) blob(item *client.Item, now time.Time) {
	key, value := item.Blob.Key, item.Blob.Record.Value()
	blob, err := event.ParseBlob(value)
	if err != nil {
		r.ledger.noteFault(int64(item.Blob.Entry.Events), "%v is not a blob: %v", key, err)
		return
	}
	events, err := blob.Events(r.buffer)
	if err != nil {
		r.ledger.noteFault(int64(blob.Count), "%v cannot be decoded: %v", key, err)
		return
	}
	r.buffer = events.Document()[:0]
	r.hashes = r.hashes[:0]
	for _, e := range events.All() {
		r.hashes = append(r.hashes, eventHash(r.hash, key.Type, key.Subtype, e))
	}
	r.tails.add(now.Sub(time.Unix(key.Epoch+1, 0)), int64(events.Len()))
	r.ledger.noteTailed(key, r.hashes, object.Checksum(value))
}
