package replication

import (
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

const (
	// mendAfterSeconds: what is newer is not mended, as its puts may be under way.
	mendAfterSeconds = 30
	mendQueue        = 64 // records waiting to be mended
)

// mendable decides whether an object that a read found lacking on an owner is
// old enough to be mended. epoch counts in timed buckets, the time of the
// version in others.
func mendable(timed bool, epoch, versionMicros, nowSeconds int64) bool {
	if !timed {
		epoch = versionMicros / 1_000_000
	}
	return nowSeconds-epoch >= mendAfterSeconds
}

// A mend is one copy to be given to an owner that a read found without it.
type mend struct {
	rec   object.Record // a use of its own
	route route
	owner int
}

// A mender gives owners the copies they lack, from one goroutine, bounded in
// number and bytes. What it has no room for, or cannot give, is owed.
type mender struct {
	c     *Coordinator
	queue chan mend
	bytes atomic.Int64 // queued and under way

	closed atomic.Bool // nobody takes from the queue any more
}

// offer queues a mend. The record stays the caller's.
func (m *mender) offer(rt *route, owner int, rec object.Record) {
	size := int64(len(rec.Raw()))
	if size == 0 || m.closed.Load() {
		m.c.owed.Add(rt.place(owner), rec.Key) // only its header is at hand
		return
	}
	if now := m.bytes.Add(size); now > m.c.cfg.RepairBytes && now > size {
		m.bytes.Add(-size)
		m.fail(rt, owner, rec.Key)
		return
	}
	item := mend{rec: rec.Retain(), route: *rt, owner: owner}
	select {
	case m.queue <- item:
	default:
		m.drop(item)
	}
}

// repairer returns the way to an owner for repair, nil if there is none.
func (c *Coordinator) repairer(rt *route, owner int) Replica { return c.cfg.Repair(rt.owners[owner]) }

func (m *mender) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case item := <-m.queue:
			m.send(item)
		}
	}
}

// drain takes what is queued and hands it to f.
func (m *mender) drain(f func(mend)) {
	for {
		select {
		case item := <-m.queue:
			f(item)
		default:
			return
		}
	}
}

// send begins a mend; its answer may come at any time. Who reads checks values
// himself: a damaged one has come this far, and goes no further.
func (m *mender) send(item mend) {
	to := m.c.repairer(&item.route, item.owner)
	if to == nil || item.rec.Verify() != nil {
		m.drop(item)
		return
	}
	ask := Ask{Hash: item.route.hash, History: item.route.history, Deadline: m.now().Add(m.c.cfg.WriteTimeout)}
	var answered atomic.Bool
	to.Put(ask, item.rec, func(_ uint64, err *object.Error) {
		switch {
		case answered.Swap(true):
			m.c.counters.stray.Add(1)
		case err != nil && err.Code == object.CodeConflict: // whoever pays the debt keeps both values
			m.c.counters.mendConflicts.Add(1)
			m.drop(item)
		case err != nil && !final(err.Code):
			m.drop(item)
		default:
			m.c.counters.mended.Add(1)
			m.over(item)
		}
	})
}

// drop gives a mend up: its copy is owed.
func (m *mender) drop(item mend) {
	m.fail(&item.route, item.owner, item.rec.Key)
	m.over(item)
}

func (m *mender) fail(rt *route, owner int, key []byte) {
	m.c.counters.mendsFailed.Add(1)
	m.c.owed.Add(rt.place(owner), key)
}

func (m *mender) over(item mend) {
	m.bytes.Add(-int64(len(item.rec.Raw())))
	item.rec.Release()
}

func (m *mender) now() time.Time { return m.c.cfg.Now() }
