package client

import (
	"context"
	"sync"

	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

const (
	// maxBatchBytes is where a batch is divided: with its sizes, what goes into one
	// request fits the largest pooled Buffer of the node that reads it. A larger
	// record goes alone.
	maxBatchBytes = 1<<20 - 32<<10
	// maxParts is how many requests of one batch are under way at once.
	maxParts = 8
)

// PutBatch stores records together, which costs less than one by one: blobs of
// one second get their index entries in one step. It returns an error for each,
// in their order, nil where it is acknowledged; those that may succeed later
// have been tried again. The records remain the caller's.
func (c *Client) PutBatch(ctx context.Context, recs []object.Record) []error {
	errs := make([]error, len(recs))
	if n, size := firstPart(recs); n == len(recs) {
		if n > 0 {
			c.putPart(ctx, recs, errs, size, 0)
		}
		return errs
	}
	var wg sync.WaitGroup
	turns := make(chan struct{}, maxParts)
	for from, number := 0, 0; from < len(recs); number++ {
		n, size := firstPart(recs[from:])
		part, partErrs := recs[from:from+n], errs[from:from+n]
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c.putPart(ctx, part, partErrs, size, number)
		})
		from += n
	}
	wg.Wait()
	return errs
}

// firstPart returns how many of the records go into one request, and their
// bytes.
func firstPart(recs []object.Record) (n, size int) {
	for n < len(recs) && n < proto.MaxBatch {
		next := size + len(recs[n].Raw())
		if n > 0 && next > maxBatchBytes {
			break
		}
		n, size = n+1, next
	}
	return n, size
}

// putPart stores what fits into one request. It goes to an owner of the index row
// that it adds to, which so writes that in one step of its own; the parts of a
// large batch go to each of the owners in turn.
func (c *Client) putPart(ctx context.Context, recs []object.Record, errs []error, size, number int) {
	b := newBatch(recs, errs)
	err := c.do(ctx, &request{
		what: "batch", plan: plan{about: batchName(recs), part: number}, bytes: size, cost: int64(size), ask: b.ask, take: b.take,
	})
	b.close(err)
}

// A batch is a part of a PutBatch while it is tried.
type batch struct {
	recs []object.Record
	errs []error         // one a record, nil where it is acknowledged
	open []int           // records still to be stored
	was  []*object.Error // of each record the first failure after which it may have been done
}

func newBatch(recs []object.Record, errs []error) *batch {
	b := &batch{recs: recs, errs: errs, open: make([]int, len(recs)), was: make([]*object.Error, len(recs))}
	for i := range b.open {
		b.open[i] = i
	}
	return b
}

// ask sends the records that are still open.
func (b *batch) ask(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
	sent := make([]object.Record, len(b.open))
	pieces := make([]wire.Piece, len(b.open))
	for j, i := range b.open {
		sent[j] = b.recs[i]
		pieces[j] = wire.Piece{Bytes: b.recs[i].Raw(), Buf: b.recs[i].Buf}
	}
	reply, err := conn.Call(ctx, &wire.Call{Op: proto.OpPutBatch, Class: wire.Ingest, Meta: proto.AppendSizes(nil, sent), Body: pieces})
	if err != nil {
		b.fail(object.AsError(err))
	}
	return reply, err
}

// fail notes an attempt that failed as a whole.
func (b *batch) fail(e *object.Error) {
	for _, i := range b.open {
		b.note(i, e)
	}
}

// take notes an attempt's answer, and returns the error of one of the records
// that deserve another.
func (b *batch) take(reply *wire.Reply) (again error) {
	defer reply.Release()
	failures, err := proto.ParseFailures(reply.Body, len(b.open))
	if err != nil {
		e := object.Errorf(object.CodeCorrupt, object.MaybeDone, "the answer to a batch of %d records: %w", len(b.open), err)
		b.fail(e)
		return e
	}
	left := b.open[:0]
	for j, i := range b.open {
		e := object.AsError(failures[j])
		if e == nil {
			b.errs[i] = nil
			continue
		}
		b.note(i, e)
		if e.Code.Retryable() {
			left = append(left, i)
			again = e
		}
	}
	b.open = left
	return again
}

func (b *batch) note(i int, e *object.Error) {
	if b.was[i] == nil && e.Outcome != object.NotDone {
		b.was[i] = e
	}
	b.errs[i] = e
}

// close gives each record that failed the error of the whole call; err is that
// of the loop of attempts.
func (b *batch) close(err error) {
	for _, i := range b.open {
		if b.errs[i] == nil && err != nil { // no attempt got as far as sending it
			b.errs[i] = err
		}
	}
	for i, e := range b.errs {
		if e == nil {
			continue
		}
		b.errs[i] = (&request{}).settle(b.was[i], object.AsError(e))
	}
}
