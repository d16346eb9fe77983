package aggregate

import (
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

const (
	maxBatchBlobs = 64
	maxBatchBytes = 4 << 20 // of records

	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// takeBatch gives blobs to be stored together: the oldest ones, of one second and
// dc. It gives none while the sink is left in peace after a failure.
func (c *core) takeBatch(now time.Time) (batch []*blob) {
	if c.paused(now) {
		return nil
	}
	c.blobs.due(now)
	size := int64(0)
	for {
		b, ok := c.blobs.peek()
		if !ok || len(batch) > 0 && (len(batch) == maxBatchBlobs || size+b.size > maxBatchBytes || b.key.Index() != batch[0].key.Index()) {
			break
		}
		c.blobs.pop()
		batch = append(batch, b)
		size += b.size
	}
	if len(batch) > 0 {
		c.inFlight++
		c.counters.Batches.Add(1)
	}
	return batch
}

// batchDone takes the errors of a batch and returns the blobs that are
// acknowledged. Their records must not be used any more.
func (c *core) batchDone(now time.Time, batch []*blob, errs []error) (acknowledged []*blob) {
	if len(errs) != len(batch) {
		panic(fmt.Sprintf("aggregate: BUG: the sink gave %d errors for %d records", len(errs), len(batch)))
	}
	c.inFlight--
	var again []*blob
	for i, b := range batch {
		switch err := errs[i]; {
		case err == nil:
			c.acknowledge(b)
			acknowledged = append(acknowledged, b)
		case permanent(err):
			c.discard(b, Refused)
		case c.abandoned:
			c.discard(b, Stopped)
		default:
			b.attempts++
			again = append(again, b)
		}
	}
	c.counters.BlobRetries.Add(int64(len(again)))
	if len(again) == len(batch) {
		c.failed(now)
		c.blobs.putBack(again)
	} else {
		c.failures = 0
		for _, b := range again {
			c.blobs.pushAt(b, now.Add(c.backoff(b.attempts)))
		}
	}
	c.sayGoodbye()
	c.gauges()
	return acknowledged
}

// acknowledge ends a blob that is stored.
func (c *core) acknowledge(b *blob) {
	c.counters.BlobsAcknowledged.Add(1)
	c.counters.EventsAcknowledged.Add(int64(b.events))
	c.counters.BytesAcknowledged.Add(int64(b.record.ValueBytes))
	if b.second != nil {
		_, entry, err := index.EntryOf(&b.record.Header)
		if err != nil {
			panic("aggregate: BUG: a blob has no entry: " + err.Error())
		}
		b.second.final.Add(entry)
	}
	c.end(b)
}

// discard ends a blob that will not be stored, or is not known to be.
func (c *core) discard(b *blob, r Reason) {
	c.drop(r, int64(b.events))
	c.end(b)
}

func (c *core) end(b *blob) {
	c.buffered -= b.size
	b.record.Release()
	c.settle(b.second)
}

// takeOp gives the next addition to the index, nil if there is none.
func (c *core) takeOp(now time.Time) *op {
	if c.paused(now) {
		return nil
	}
	c.ops.due(now)
	o, ok := c.ops.pop()
	if !ok {
		return nil
	}
	if o.kind == opHello {
		o.key.Epoch = helloSecond(now)
		if d := c.dcNamed(o.key.DC); d != nil {
			d.greeted = o.key.Epoch
		}
	}
	c.inFlight++
	return o
}

// opDone takes the outcome of an op.
func (c *core) opDone(now time.Time, o *op, err error) {
	c.inFlight--
	switch {
	case err == nil:
		c.failures = 0
		c.opAcknowledged(now, o)
	case c.abandoned || o.kind == opHello && (c.stopping || c.dcNamed(o.key.DC) == nil):
	case permanent(err) && o.kind == opFinal:
		c.counters.FinalsMissed.Add(1)
	case permanent(err) && o.kind == opGoodbye:
	default:
		o.attempts++
		c.counters.IndexRetries.Add(1)
		c.ops.pushAt(o, now.Add(c.backoff(o.attempts)))
		if !permanent(err) {
			c.failed(now)
		}
	}
	c.sayGoodbye()
}

func (c *core) opAcknowledged(now time.Time, o *op) {
	switch o.kind {
	case opHello:
		c.counters.Hellos.Add(1)
	case opFinal:
		c.counters.Finals.Add(1)
	case opGoodbye:
		c.counters.Goodbyes.Add(1)
		return
	}
	if d := c.dcNamed(o.key.DC); d != nil {
		d.standing.Acknowledged(o.key.Epoch, now.Unix())
		d.greeting = d.greeting && o.kind != opHello
	}
	c.greetAgain(now)
}

// paused tells whether the sink is to be left in peace: after a call that failed
// as a whole nothing is sent for a while, then one call at a time until one
// succeeds.
func (c *core) paused(now time.Time) bool {
	return c.failures > 0 && (c.inFlight > 0 || now.Before(c.pauseUntil))
}

// failed notes a call that failed as a whole.
func (c *core) failed(now time.Time) {
	c.failures++
	c.pauseUntil = now.Add(c.backoff(c.failures))
}

// backoff is how long to wait after so many failures: from 50 to 100 ms at
// first, doubling up to 2.5 to 5 s.
func (c *core) backoff(failures int) time.Duration {
	d := min(firstBackoff<<min(failures-1, 10), maxBackoff)
	return d/2 + time.Duration(c.random.Int64N(int64(d/2)))
}

// records are the records of a batch, as the sink takes them.
func records(batch []*blob) []object.Record {
	all := make([]object.Record, len(batch))
	for i, b := range batch {
		all[i] = b.record
	}
	return all
}
