package demo

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

const (
	readPause   = 10 * time.Millisecond // between two reads through one node
	readTimeout = 2 * time.Second       // of one of them
)

// Readers read what is acknowledged through each node while something happens to
// the nodes.
type readers struct {
	d    *Demo
	ctx  context.Context // of the readers
	stop context.CancelFunc
	wg   sync.WaitGroup

	reads, failed, absent atomic.Int64
}

// startReaders begins to read through all nodes there are.
func (d *Demo) startReaders(whole context.Context) *readers {
	r := &readers{d: d}
	r.ctx, r.stop = context.WithCancel(whole)
	for _, p := range d.places {
		r.start(p)
	}
	return r
}

// start begins to read through one node more.
func (r *readers) start(p place) {
	r.wg.Go(func() { r.read(r.ctx, p) })
}

// end stops reading, and waits.
func (r *readers) end() {
	r.stop()
	r.wg.Wait()
}

// read reads acknowledged blobs through one node until ctx ends, the newest
// more often than the old.
func (r *readers) read(ctx context.Context, p place) {
	c, err := client.New(client.Config{Addrs: []string{p.addr}, Pinned: true, User: "demo reader", Timeout: readTimeout})
	if err != nil {
		panic("demo: BUG: " + err.Error())
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	for pause(ctx, readPause) {
		keys := r.d.ledger.acknowledgedFrom(0)
		if len(keys) == 0 {
			continue
		}
		age := min(rand.IntN(len(keys)), rand.IntN(len(keys)))
		r.readOne(ctx, c, p, keys[len(keys)-1-age])
	}
}

// readAll reads those blobs through one node.
func (r *readers) readAll(ctx context.Context, p place, keys []event.Key) error {
	c, err := client.New(client.Config{Addrs: []string{p.addr}, Pinned: true, User: "demo reader", Timeout: readTimeout})
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	for _, key := range keys {
		r.readOne(ctx, c, p, key)
	}
	return nil
}

func (r *readers) readOne(ctx context.Context, c *client.Client, p place, key event.Key) {
	rec, err := c.Get(ctx, bucket.DefaultType, bucket.Events, key.String())
	switch {
	case err == nil:
		r.d.ledger.noteReadBack(p.name, key, object.Checksum(rec.Value()), nil)
		rec.Release()
	case errors.Is(err, object.CodeAbsent):
		r.absent.Add(1)
		r.d.ledger.noteFault(0, "%s says that %v is absent, which was acknowledged", p.name, key)
	case ctx.Err() != nil:
		return
	default: // nobody was told anything untrue
		r.failed.Add(1)
		return
	}
	r.reads.Add(1)
}
