package tail

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// A memStore is a Source in memory that keeps the rules of index owners: a second
// is open for ten seconds, what comes later is listed.
type memStore struct {
	mu     sync.Mutex
	rows   map[event.IndexKey]*index.Accumulator
	bodies map[string]object.Record
	dcs    []string

	certain func(event.IndexKey) bool  // nil: always
	rowErr  func(event.IndexKey) error // nil: never
	getErr  func(event.Key) error      // nil: never
	getNow  func() object.Record       // nil: what was put last
	reads   map[event.IndexKey]int
	gets    int
}

func newMemStore(dcs ...string) *memStore {
	return &memStore{rows: map[event.IndexKey]*index.Accumulator{}, bodies: map[string]object.Record{}, dcs: dcs, reads: map[event.IndexKey]int{}}
}

func (m *memStore) Row(ctx context.Context, key event.IndexKey) (index.Row, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads[key]++
	if ctx.Err() != nil {
		return index.Row{}, false, ctx.Err()
	}
	if m.rowErr != nil {
		if err := m.rowErr(key); err != nil {
			return index.Row{}, false, err
		}
	}
	certain := m.certain == nil || m.certain(key)
	if a := m.rows[key]; a != nil {
		return a.Row(), certain, nil
	}
	return index.Row{}, certain, nil
}

func (m *memStore) Get(ctx context.Context, key event.Key) (object.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	if ctx.Err() != nil {
		return object.Record{}, ctx.Err()
	}
	if m.getErr != nil {
		if err := m.getErr(key); err != nil {
			return object.Record{}, err
		}
	}
	if m.getNow != nil {
		return m.getNow(), nil
	}
	rec, ok := m.bodies[key.String()]
	if !ok {
		return object.Record{}, object.Errorf(object.CodeAbsent, object.Done, "no blob %s", key)
	}
	return rec.Retain(), nil
}

func (m *memStore) DCs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.dcs)
}

// close releases what is stored.
func (m *memStore) close() {
	for _, r := range m.bodies {
		r.Release()
	}
}

// add merges a delta into a row, as its owners would: it returns the updates to
// publish, two if the second is closed and the delta goes to the late list.
func (m *memStore) add(key event.IndexKey, delta index.Row, bodies ...object.Record) []Update {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now().Unix(); now >= key.Epoch+10 {
		marked, list := index.Relist(key, delta, now)
		if list.Empty() {
			return nil
		}
		listKey := index.LateKey(key, now)
		m.merge(listKey, list)
		m.merge(key, marked)
		return []Update{{Index: listKey, Delta: list, Bodies: bodies}, {Index: key, Delta: marked, Bodies: bodies}}
	}
	m.merge(key, delta)
	return []Update{{Index: key, Delta: delta, Bodies: bodies}}
}

func (m *memStore) merge(key event.IndexKey, delta index.Row) {
	if err := delta.ValidateFor(key); err != nil {
		panic(err)
	}
	if m.rows[key] == nil {
		m.rows[key] = &index.Accumulator{}
	}
	m.rows[key].Add(delta)
	if !slices.Contains(m.dcs, key.DC) {
		m.dcs = append(m.dcs, key.DC)
	}
}

// put stores a blob and returns the updates to publish.
func (m *memStore) put(w index.Writer, key event.Key, value string) []Update {
	rec := record(w, key, value)
	m.mu.Lock()
	if old, ok := m.bodies[key.String()]; ok {
		old.Release()
	}
	m.bodies[key.String()] = rec
	m.mu.Unlock()
	ikey, delta, err := index.DeltaOf(&rec.Header)
	if err != nil {
		panic(err)
	}
	return m.add(ikey, delta, rec)
}

// erase leaves the mark of a blob that was erased.
func (m *memStore) erase(key event.Key) []Update {
	rec, err := object.Encode(object.Header{
		Kind: object.Tombstone, Flags: object.FlagErased, TimestampMicros: time.Now().UnixMicro(),
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key.String()),
	}, nil)
	if err != nil {
		panic(err)
	}
	defer rec.Release()
	m.mu.Lock()
	if old, ok := m.bodies[key.String()]; ok {
		old.Release()
		delete(m.bodies, key.String())
	}
	m.mu.Unlock()
	ikey, delta, err := index.DeltaOf(&rec.Header)
	if err != nil {
		panic(err)
	}
	return m.add(ikey, delta)
}

func record(w index.Writer, key event.Key, value string) object.Record {
	rec, err := object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: max(time.Now().UnixMicro(), 1), EventCount: 1, Incarnation: w.Incarnation,
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key.String()), Writer: []byte(w.Name),
	}, []byte(value))
	if err != nil {
		panic(err)
	}
	return rec
}

func marks(w index.Writer, change func(*index.Section)) index.Row {
	s := index.Section{Writer: w}
	change(&s)
	return index.Row{Sections: []index.Section{s}}
}

func hello(w index.Writer) index.Row { return marks(w, func(s *index.Section) { s.Hello = true }) }

func goodbye(w index.Writer) index.Row { return marks(w, func(s *index.Section) { s.Goodbye = true }) }

// finalOf is w's final of a second, over what the store has of it.
func (m *memStore) finalOf(w index.Writer, key event.IndexKey) index.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	var f index.Final
	if a := m.rows[key]; a != nil {
		if s := a.Row().Section(w); s != nil {
			f = index.FinalOf(s)
		}
	}
	return marks(w, func(s *index.Section) { s.Final = &f })
}

func blobKey(epoch int64, dc, kind string, n int) event.Key {
	return event.Key{Epoch: epoch, DC: dc, Type: kind, Subtype: "nl", Chunk: fmt.Sprint(n)}
}

// publish hands updates to the hub.
func publish(h *Hub, updates []Update) {
	for _, u := range updates {
		h.Publish(u)
	}
}

// next returns the next item, which must come within the time.
func next(t *testing.T, s *Subscription, within time.Duration) Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	item, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("no item within %v: %v", within, err)
	}
	return item
}

// describe is an item in one line.
func describe(i *Item) string {
	switch i.Kind {
	case KindBlob:
		late := ""
		if i.Blob.Late {
			late = " late"
		}
		return "blob " + i.Blob.Key.String() + late
	case KindWatermark:
		return fmt.Sprintf("watermark %d %s %v", i.Watermark.Epoch, i.Watermark.DC, i.Watermark.Verdict)
	}
	return fmt.Sprintf("gap %d-%d %s %v", i.Gap.First, i.Gap.Last, i.Gap.Key, i.Gap.Err)
}

// testFeed is a feed without a reader.
func testFeed(cfg *Config, from int64) *feed {
	return newFeed(cfg, filter{}, cursor.New(from), false)
}
