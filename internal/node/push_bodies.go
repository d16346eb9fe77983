package node

import (
	"sync"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// maxBodies bounds the blobs, present and taken, that a bodyMemory keeps count of.
const maxBodies = 64 << 10

// A bodyMemory holds, for a short while, blobs that were just stored and whose
// deltas are on their way: so the hub need not read them. It holds nothing while
// it is not enabled. Its methods may be called by many goroutines at once.
type bodyMemory struct {
	maxBytes int64 // of buffers
	maxAge   time.Duration

	mu      sync.Mutex
	enabled bool
	held    map[string]heldBody // by the text of the key
	order   []bodyTurn          // oldest first; those taken meanwhile included
	turn    uint64              // counts what was ever kept
	bytes   int64               // of buffers held
	counts  bodyStats
}

type heldBody struct {
	rec  object.Record // retained
	turn uint64
}

type bodyTurn struct {
	key  string
	turn uint64
	at   time.Time
}

// bodyStats are a bodyMemory's counts.
type bodyStats struct {
	kept, taken, unused uint64 // unused: let go of before a delta came
	items               int    // now
	bytes               int64  // of buffers, now
}

func newBodyMemory(maxBytes int64, maxAge time.Duration) *bodyMemory {
	return &bodyMemory{maxBytes: maxBytes, maxAge: maxAge, held: make(map[string]heldBody)}
}

// enable says whether anybody wants bodies; if not, those held are let go.
func (m *bodyMemory) enable(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled = on
	for !on && len(m.order) > 0 {
		m.dropOldestLocked()
	}
}

// keep retains a blob.
func (m *bodyMemory) keep(now time.Time, rec object.Record) {
	if rec.Buf == nil {
		return
	}
	size := int64(rec.Buf.Cap())
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.enabled || size > m.maxBytes {
		return
	}
	if old, ok := m.held[string(rec.Key)]; ok {
		if old.rec.Header.Checksum == rec.Header.Checksum {
			return
		}
		m.removeLocked(string(rec.Key), old)
		old.rec.Release()
		m.counts.unused++
	}
	for len(m.order) > 0 && (m.bytes+size > m.maxBytes || len(m.order) >= maxBodies) {
		m.dropOldestLocked()
	}
	key := string(rec.Key)
	m.turn++
	m.held[key] = heldBody{rec.Retain(), m.turn}
	m.order = append(m.order, bodyTurn{key, m.turn, now})
	m.bytes += size
	m.counts.kept++
}

// take gives out the blobs that a delta names, as far as they are held. The
// caller releases them.
func (m *bodyMemory) take(key event.IndexKey, delta index.Row) (bodies []object.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.held) == 0 {
		return nil
	}
	var room [event.MaxKeyBytes]byte
	for _, e := range delta.All() {
		k, err := e.Key(key)
		if err != nil {
			continue
		}
		text := k.AppendTo(room[:0])
		if h, ok := m.held[string(text)]; ok && h.rec.Header.Checksum == e.Checksum {
			bodies = append(bodies, h.rec)
			m.removeLocked(string(text), h)
			m.counts.taken++
		}
	}
	return bodies
}

// expire lets go of what has waited too long.
func (m *bodyMemory) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.order) > 0 && now.Sub(m.order[0].at) >= m.maxAge {
		m.dropOldestLocked()
	}
}

func (m *bodyMemory) stats() bodyStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.counts
	s.items, s.bytes = len(m.held), m.bytes
	return s
}

func (m *bodyMemory) dropOldestLocked() {
	first := m.order[0]
	m.order[0] = bodyTurn{}
	if m.order = m.order[1:]; len(m.order) == 0 {
		m.order = nil
	}
	if h, ok := m.held[first.key]; ok && h.turn == first.turn {
		m.removeLocked(first.key, h)
		h.rec.Release()
		m.counts.unused++
	}
}

// removeLocked takes a blob out, whose use passes to the caller.
func (m *bodyMemory) removeLocked(key string, h heldBody) {
	delete(m.held, key)
	m.bytes -= int64(h.rec.Buf.Cap())
}
