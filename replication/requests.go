package replication

import (
	"context"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// Put stores a value, or deletes if it is a tombstone, and returns when w owners
// have it as durable as the bucket's sync policy asks. The record stays the
// caller's; the coordinator retains it, or copies it if it has no Buffer.
//
// An error says by its Outcome what may be assumed; to send the identical record
// again is always safe, and settles it. When ctx ends Put returns, but the owners
// get their copies all the same.
func (c *Coordinator) Put(ctx context.Context, rec object.Record) error {
	if rec.Kind == object.Delta {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "an index delta was put as an object: use the operation for the index")
	}
	return c.write(ctx, rec)
}

// Delete is Put of a tombstone.
func (c *Coordinator) Delete(ctx context.Context, rec object.Record) error {
	if rec.Kind != object.Tombstone {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "a delete is the put of a tombstone")
	}
	return c.write(ctx, rec)
}

// AppendDelta adds to an index row and returns when w owners have the delta.
// CodeClosed says that too many of them do not take it any more for its second:
// its entries may be sent again as late ones. Otherwise it is as Put.
func (c *Coordinator) AppendDelta(ctx context.Context, rec object.Record) error {
	if rec.Kind != object.Delta {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "an object was sent as a delta of the index")
	}
	return c.write(ctx, rec)
}

var errLeft = &object.Error{Code: object.CodeDeadline, Outcome: object.NotDone, Message: "the time allowed was over before anything was done"}

func (c *Coordinator) write(ctx context.Context, rec object.Record) error {
	if ctx.Err() != nil {
		return errLeft
	}
	o, err := c.beginWrite(rec, nil)
	if err != nil {
		return err
	}
	o.sendRemote(0)
	o.sendLocal(0)
	return plainError(o.wait(ctx))
}

// batchGoroutines bounds those that put the records of one batch into the local
// replica where each put waits for the disk, so that they share its syncs.
const batchGoroutines = 32

// batchBytes is how much of a batch is under way at once: little against what may
// be under way to a node, so that one batch does not shut others out.
const batchBytes = 8 << 20

// PutBatch puts records side by side, and returns an error for each, nil for
// those that are stored. It is as many puts as there are records; one that fails
// does not stop the others.
func (c *Coordinator) PutBatch(ctx context.Context, recs []object.Record) []error {
	errs := make([]error, len(recs))
	ops := make([]*writeOp, 0, len(recs))
	from, size := 0, 0
	for i := range recs {
		o, err := c.beginOfBatch(ctx, recs[i])
		ops, errs[i] = append(ops, o), err
		if size += len(recs[i].Raw()); size >= batchBytes || i == len(recs)-1 {
			finishBatch(ctx, ops, errs[from:i+1])
			from, size, ops = i+1, 0, ops[:0]
		}
	}
	return errs
}

// beginOfBatch begins a put and asks the remote owners.
func (c *Coordinator) beginOfBatch(ctx context.Context, rec object.Record) (*writeOp, error) {
	if rec.Kind == object.Delta {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "an index delta was put as an object: use the operation for the index")
	}
	if ctx.Err() != nil {
		return nil, errLeft
	}
	o, err := c.beginWrite(rec, nil)
	if err != nil {
		return nil, err
	}
	o.sendRemote(0)
	return o, nil
}

// finishBatch asks the local replica for what of a batch was begun, and waits.
func finishBatch(ctx context.Context, ops []*writeOp, errs []error) {
	waits := false
	for _, o := range ops {
		waits = waits || o != nil && o.routes[0].bucket.Sync == bucket.SyncAlways
	}
	sendLocal(ops, waits)
	for i, o := range ops {
		if o != nil {
			errs[i] = plainError(o.wait(ctx))
		}
	}
}

// sendLocal puts the records of a batch into the local replica: one after the
// other if that is a matter of appending, at once if each waits for the disk.
func sendLocal(ops []*writeOp, waits bool) {
	if !waits {
		for _, o := range ops {
			if o != nil {
				o.sendLocal(0)
			}
		}
		return
	}
	var wg sync.WaitGroup
	workers := min(batchGoroutines, len(ops))
	for first := range workers {
		wg.Go(func() {
			for i := first; i < len(ops); i += workers {
				if ops[i] != nil {
					ops[i].sendLocal(0)
				}
			}
		})
	}
	wg.Wait()
}

// BeginWrite is Put, Delete or AppendDelta for callers that do not wait: done is
// called once, by any goroutine, perhaps before BeginWrite returns. The owners
// have until Config.WriteTimeout.
func (c *Coordinator) BeginWrite(rec object.Record, done func(err *object.Error)) {
	o, err := c.beginWrite(rec, done)
	if err != nil {
		done(err)
		return
	}
	o.sendRemote(0)
	o.sendLocal(0)
	o.drop()
}

// Get returns an object with its value, whose checksum has not been checked. The
// caller releases the record. A row of the index comes as one record, merged.
//
// Errors: CodeAbsent if it is certain that there is nothing, CodeExpired,
// CodeUnknown and others that are retryable if it cannot be told.
func (c *Coordinator) Get(ctx context.Context, bucketType, name, key []byte) (object.Record, error) {
	if c.rulebook.of(bucketType, name).Rows {
		return c.getRow(ctx, bucketType, name, key)
	}
	return c.read(ctx, readValue, bucketType, name, key)
}

// Head is Get without the value: of the record only Header and Buf are set, for
// a row of the index all of it.
func (c *Coordinator) Head(ctx context.Context, bucketType, name, key []byte) (object.Record, error) {
	if c.rulebook.of(bucketType, name).Rows {
		return c.getRow(ctx, bucketType, name, key)
	}
	return c.read(ctx, readHead, bucketType, name, key)
}

func (c *Coordinator) read(ctx context.Context, kind readKind, bucketType, name, key []byte) (object.Record, error) {
	c.counters.reads.Add(1)
	if ctx.Err() != nil {
		return object.Record{}, errLeft
	}
	deadline, _ := ctx.Deadline()
	o, err := c.beginRead(kind, bucketType, name, key, event.IndexKey{}, deadline, nil)
	if err != nil {
		return object.Record{}, err
	}
	result := o.wait(ctx)
	c.countRead(result.err)
	return result.rec, plainError(result.err)
}

func (c *Coordinator) countRead(err *object.Error) {
	if err != nil && err.Code != object.CodeAbsent && err.Code != object.CodeExpired {
		c.counters.readsUnknown.Add(1)
	}
}

// BeginGet is Get, or Head without body, for callers that do not wait, of
// anything but rows of the index: done is called once, by any goroutine, perhaps before BeginGet returns,
// and releases the record.
func (c *Coordinator) BeginGet(bucketType, name, key []byte, body bool, done func(rec object.Record, err *object.Error)) {
	c.counters.reads.Add(1)
	if c.rulebook.of(bucketType, name).Rows {
		done(object.Record{}, object.Errorf(object.CodeBadRequest, object.NotDone, "index rows are read as rows"))
		return
	}
	kind := readHead
	if body {
		kind = readValue
	}
	o, err := c.beginRead(kind, bucketType, name, key, event.IndexKey{}, time.Time{}, func(o *readOp) {
		c.countRead(o.result.err)
		done(o.result.rec, o.result.err)
	})
	if err != nil {
		done(object.Record{}, err)
		return
	}
	o.drop()
}

// Row returns the index row of a second, united from its owners. certain says
// that nothing acknowledged is missing in it. CodeExpired says that its time is
// over; other errors that nobody answered.
func (c *Coordinator) Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error) {
	if ctx.Err() != nil {
		return index.Row{}, false, errLeft
	}
	deadline, _ := ctx.Deadline()
	o, fault := c.beginRow(key, deadline, nil)
	if fault != nil {
		return index.Row{}, false, fault
	}
	result := o.wait(ctx)
	c.countRow(&result)
	return result.row, result.certain, plainError(result.err)
}

// BeginRow is Row for callers that do not wait: done is called once, by any
// goroutine, perhaps before BeginRow returns.
func (c *Coordinator) BeginRow(key event.IndexKey, done func(row index.Row, certain bool, err *object.Error)) {
	o, err := c.beginRow(key, time.Time{}, func(o *readOp) {
		c.countRow(&o.result)
		done(o.result.row, o.result.certain, o.result.err)
	})
	if err != nil {
		done(index.Row{}, false, err)
		return
	}
	o.drop()
}

var (
	rowType   = []byte(bucket.DefaultType)
	rowBucket = []byte(bucket.Epochs)
)

func (c *Coordinator) beginRow(key event.IndexKey, deadline time.Time, reply func(*readOp)) (*readOp, *object.Error) {
	c.counters.rows.Add(1)
	if err := key.Validate(); err != nil {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	var room [128]byte
	return c.beginRead(readRow, rowType, rowBucket, key.AppendTo(room[:0]), key, deadline, reply)
}

func (c *Coordinator) countRow(r *readResult) {
	if !r.certain || r.err != nil {
		c.counters.rowsUncertain.Add(1)
	}
}

// getRow answers a get of an index row. An uncertain row is not the object.
func (c *Coordinator) getRow(ctx context.Context, bucketType, name, key []byte) (object.Record, error) {
	k, err := event.ParseIndexKey(string(key))
	if err != nil {
		return object.Record{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	row, certain, err := c.Row(ctx, k)
	switch {
	case err != nil:
		return object.Record{}, err
	case !certain:
		return object.Record{}, object.Errorf(object.CodeUnknown, object.NotDone, "not enough complete owners of the index row answered; try again")
	case row.Empty():
		return object.Record{}, object.Errorf(object.CodeAbsent, object.NotDone, "nothing was said of this second")
	}
	scratch := object.NewBuffer(row.Size())
	defer scratch.Release()
	return object.Encode(object.Header{
		Kind: object.Delta, TimestampMicros: newest(k, row),
		Type: bucketType, Bucket: name, Key: k.AppendTo(nil),
	}, index.AppendRow(scratch.Bytes()[:0], row))
}

// newest is the greatest timestamp of a row's entries, or its second, so that
// equal rows make equal records.
func newest(key event.IndexKey, row index.Row) int64 {
	micros := key.Epoch * 1_000_000
	for _, e := range row.All() {
		micros = max(micros, e.Version.TimestampMicros)
	}
	return micros
}
