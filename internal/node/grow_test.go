package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A load puts blobs of the present second through nodes in turn, and remembers
// what was acknowledged.
type load struct {
	c    *council
	stop chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	nodes  []*Node
	acked  map[string]string // by key
	rows   map[event.IndexKey]int
	again  int // attempts that had to be repeated
	failed []error
}

func (c *council) load(nodes ...*Node) *load {
	l := &load{c: c, stop: make(chan struct{}), nodes: nodes, acked: map[string]string{}, rows: map[event.IndexKey]int{}}
	for w := range 3 {
		l.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				l.put(w, i)
			}
		})
	}
	return l
}

// through adds nodes to put through.
func (l *load) through(nodes ...*Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, nodes...)
}

func (l *load) put(w, i int) {
	now := l.c.clock.Load()
	key := event.Key{Epoch: now, DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.Chunk(uint64(w+1), uint64(i))}
	value := fmt.Sprint("value ", w, " ", i)
	rec, err := object.Encode(object.Header{
		Kind: object.Value, EventCount: 1, TimestampMicros: now * 1e6, Incarnation: uint64(w + 1),
		Type: []byte(bucket.DefaultType), Bucket: []byte(bucket.Events), Key: []byte(key.String()), Writer: []byte("w"),
	}, []byte(value))
	if err != nil {
		panic(err)
	}
	defer rec.Release()
	for attempt := range 400 {
		l.mu.Lock()
		n := l.nodes[(i+attempt)%len(l.nodes)]
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err = n.Store().Put(ctx, rec)
		cancel()
		if err == nil || !object.AsError(err).Code.Retryable() {
			break
		}
		l.mu.Lock()
		l.again++
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // what a client would do
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%v: %w", key, err))
		return
	}
	l.acked[key.String()] = value
	l.rows[key.Index()]++
}

// end stops the load, and fails the test if a put failed for good.
func (l *load) end() {
	l.c.t.Helper()
	close(l.stop)
	l.wg.Wait()
	for _, err := range l.failed[:min(len(l.failed), 5)] {
		l.c.t.Errorf("a put failed for good: %v", err)
	}
	l.c.t.Logf("%d blobs put, %d attempts repeated, %d failed", len(l.acked), l.again, len(l.failed))
}

// again repeats what is refused for now, as a client would, with a pause before each
// attempt but the first ones: the clock of these tests is fast, and deadlines with it.
func again(f func() error) (err error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.Now().Add(20 * time.Second)
	for n := 0; ; n++ {
		if err = f(); err == nil || !object.AsError(err).Code.Retryable() || time.Now().After(late) {
			return err
		}
		if n > 10 {
			<-tick.C
		}
	}
}

// getAgain is get, repeated.
func getAgain(n *Node, rec object.Record) (value string, err error) {
	err = again(func() (err error) {
		value, err = get(n, rec)
		return err
	})
	return value, err
}

// check fails unless each node finds all that was acknowledged, and lists it.
func (l *load) check(claim string, nodes ...*Node) {
	t := l.c.t
	t.Helper()
	missing := 0
	for i, n := range nodes {
		for key, value := range l.acked {
			var got object.Record
			err := again(func() (err error) {
				got, err = n.Store().Get(t.Context(), []byte(bucket.DefaultType), []byte(bucket.Events), []byte(key))
				return err
			})
			if err != nil {
				if missing++; missing < 5 {
					t.Errorf("%s: node %d: %s: %v", claim, i, key, err)
				}
				continue
			}
			if string(got.Value()) != value {
				t.Errorf("%s: node %d: %s: %q", claim, i, key, got.Value())
			}
			got.Release()
		}
		for key, count := range l.rows {
			var row index.Row
			var certain bool
			err := again(func() (err error) {
				if row, certain, err = n.Store().Row(t.Context(), key); err == nil && !certain {
					err = object.Errorf(object.CodeUnknown, object.NotDone, "uncertain")
				}
				return err
			})
			if err != nil || !certain || row.Len() < count {
				if missing++; missing < 5 {
					t.Errorf("%s: node %d: row %v has %d of %d, certain %v, %v", claim, i, key, row.Len(), count, certain, err)
				}
			}
		}
		absent := event.Key{Epoch: l.c.clock.Load() - 30, DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.Chunk(99, 99)}
		if err := again(func() error {
			_, err := n.Store().Get(t.Context(), []byte(bucket.DefaultType), []byte(bucket.Events), []byte(absent.String()))
			return err
		}); !errors.Is(err, object.CodeAbsent) {
			t.Errorf("%s: node %d: what is absent: %v", claim, i, err)
		}
	}
}

// slotsOf returns the slots of which a node has blobs.
func slotsOf(t testing.TB, n *Node) map[int64]bool {
	t.Helper()
	all := map[int64]bool{}
	if err := n.eachTimedSlot(func(slots []expiry.Slot) {
		for _, s := range slots {
			all[int64(s)] = true
		}
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGrow: three nodes become six under load. Nothing that was put before moves,
// nothing acknowledged is lost, what is put after the boundary is on all six.
func TestGrow(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	c.run(40 * time.Millisecond)
	load := c.load(nodes...)
	until(t, "there is something in three slots", func() bool { return len(slotsOf(t, nodes[0])) >= 3 })

	c.join(numbered(4, 6)...)
	nodes = append(nodes, c.startAll(numbered(4, 6)...)...)
	load.through(nodes[3:]...)
	c.commit()
	boundary := c.awaitFixed()
	until(t, "two slots of the new ring are over", func() bool { return c.clock.Load() > (boundary+2)*councilSlot })
	load.end()
	load.check("after growing", nodes...)
	for i, n := range nodes[3:] {
		before, after := 0, 0
		for slot := range slotsOf(t, n) {
			if slot < boundary {
				before++
			} else {
				after++
			}
		}
		if before > 0 || after == 0 {
			t.Errorf("node %d has %d slots of before the boundary, %d of after", i+4, before, after)
		}
		if s := n.merger.Stats(); s.PulledBytes+s.PushedBytes > 0 {
			t.Errorf("node %d moved %d bytes here, %d away", i+4, s.PulledBytes, s.PushedBytes)
		}
	}
}
