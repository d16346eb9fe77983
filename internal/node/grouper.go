package node

import (
	"context"
	"sync"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/replication"
)

// A grouper turns many puts' index entries into few deltas, as its
// [replication.Gatherer] decides: what is brought while a delta of the row is being
// written waits and goes together in the next one. An entry for an idle row is
// written at once, by the goroutine that brought it.
//
// Add returns when the delta that holds the entry is written, so what it
// acknowledges is in the index.
type grouper struct {
	// write makes a delta of the row durable as its bucket's policy asks. It is
	// called once at a time for a row, from the goroutines that call add.
	write func(ctx context.Context, key event.IndexKey, delta index.Row) error

	mu       sync.Mutex
	gatherer replication.Gatherer[*group]
}

// A gathering is what waits for a row while a delta of it is being written.
type gathering = replication.Gathering[*group]

// A group is those who wait for one delta.
type group struct {
	lead chan struct{} // receives one token: whoever takes it writes the delta
	done chan struct{} // closed when it is written, err being set
	err  error
}

func newGrouper(write func(context.Context, event.IndexKey, index.Row) error) *grouper {
	return &grouper{write: write}
}

// add writes row into the index row of key, together with what others bring at
// the same time, and returns the outcome of that write. If ctx ends first, the
// row may still be written.
func (g *grouper) add(ctx context.Context, key event.IndexKey, row index.Row) error {
	g.mu.Lock()
	next := g.gatherer.Add(key, row)
	if next != nil && next.Waiting == nil {
		next.Waiting = &group{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	g.mu.Unlock()
	if next == nil {
		err := g.write(ctx, key, row)
		g.handOver(key)
		return err
	}
	select {
	case <-next.Waiting.done:
		return next.Waiting.err
	case <-next.Waiting.lead:
		// The write serves all who wait, so it must not end with this one's context.
		g.lead(context.WithoutCancel(ctx), key, next)
		return next.Waiting.err
	case <-ctx.Done():
		g.abandon(key, next)
		return context.Cause(ctx)
	}
}

// lead writes what was gathered. Who has the token calls it: the gathering is
// closed to newcomers then.
func (g *grouper) lead(ctx context.Context, key event.IndexKey, gathered *gathering) {
	gathered.Waiting.err = g.write(ctx, key, gathered.Row())
	close(gathered.Waiting.done)
	g.handOver(key)
}

// handOver lets one of those who wait for the next delta of key write it, or
// leaves the row idle.
func (g *grouper) handOver(key event.IndexKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if next := g.gatherer.Written(key); next != nil {
		next.Waiting.lead <- struct{}{}
	}
}

// abandon is called by one who stops waiting. If the turn of what was gathered has
// come, or comes later, somebody must still write it: a goroutine takes this one's
// place. There is at most one for each request, and requests are bounded.
func (g *grouper) abandon(key event.IndexKey, gathered *gathering) {
	go func() {
		select {
		case <-gathered.Waiting.done:
		case <-gathered.Waiting.lead:
			g.lead(context.Background(), key, gathered)
		}
	}()
}
