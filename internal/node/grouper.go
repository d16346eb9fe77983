package node

import (
	"context"
	"sync"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// A grouper turns many puts' index entries into few deltas. Entries for one row
// that arrive while a delta of that row is being written wait and go together
// in the next one: group commit. An entry for an idle row is written at once, by
// the goroutine that brought it.
//
// Add returns when the delta that holds the entry is written, so what it
// acknowledges is in the index.
type grouper struct {
	// write makes a delta of the row durable as its bucket's policy asks. It is
	// called once at a time for a row, from the goroutines that call add.
	write func(ctx context.Context, key event.IndexKey, delta index.Row) error

	mu   sync.Mutex
	rows map[event.IndexKey]*gathering // the rows being written
}

// A gathering is what waits for one row while a delta of it is being written.
type gathering struct{ next *delta }

// A delta is one group: the entries that go together, and who waits for them.
type delta struct {
	rows []index.Row
	lead chan struct{} // receives one token: whoever takes it writes the delta
	done chan struct{} // closed when it is written, err being set
	err  error
}

func newGrouper(write func(context.Context, event.IndexKey, index.Row) error) *grouper {
	return &grouper{write: write, rows: make(map[event.IndexKey]*gathering)}
}

// add writes row into the index row of key, together with what others bring at
// the same time, and returns the outcome of that write. If ctx ends first, the
// row may still be written.
func (g *grouper) add(ctx context.Context, key event.IndexKey, row index.Row) error {
	g.mu.Lock()
	writing := g.rows[key]
	if writing == nil {
		g.rows[key] = &gathering{}
		g.mu.Unlock()
		err := g.write(ctx, key, row)
		g.handOver(key)
		return err
	}
	if writing.next == nil {
		writing.next = &delta{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	d := writing.next
	d.rows = append(d.rows, row)
	g.mu.Unlock()

	select {
	case <-d.done:
		return d.err
	case <-d.lead:
		// The token comes when the delta is closed to newcomers: rows is ours. The
		// write serves all who wait, so it must not end with this one's context.
		d.err = g.write(context.WithoutCancel(ctx), key, index.Merge(d.rows...))
		close(d.done)
		g.handOver(key)
		return d.err
	case <-ctx.Done():
		g.abandon(key, d)
		return context.Cause(ctx)
	}
}

// handOver lets one of those who wait for the next delta of key write it, or
// marks the row idle.
func (g *grouper) handOver(key event.IndexKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	writing := g.rows[key]
	if writing.next == nil {
		delete(g.rows, key)
		return
	}
	writing.next.lead <- struct{}{}
	writing.next = nil
}

// abandon is called by one who stops waiting for d. If d's turn has come, or
// comes later, somebody must still write it: a goroutine takes this one's place.
// There is at most one for each request, and requests are bounded.
func (g *grouper) abandon(key event.IndexKey, d *delta) {
	go func() {
		select {
		case <-d.done:
		case <-d.lead:
			d.err = g.write(context.Background(), key, index.Merge(d.rows...))
			close(d.done)
			g.handOver(key)
		}
	}()
}
