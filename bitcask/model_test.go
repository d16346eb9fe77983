package bitcask

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A model is what a store must hold, as a map.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	cfg     Config
	fsys    *vfs.Mem
	d       *Disk
	s       *Store
	now     int64
	newest  map[string]*testObject // by bucket and key
	deltas  map[string][]*testObject
	horizon map[uint64]expiry.Horizon
	boots   int
	stamp   int64
	damaged bool // bytes were damaged: absences must be doubted, no more
}

var (
	modelSteps = flag.Int("model.steps", 1000, "operations in each run of TestModel")
	modelSeeds = flag.Int("model.seeds", 3, "runs of TestModel")
)

// TestModel does random things to a store and to a map, with restarts, kills,
// power cuts and damage, and compares the two. A failure names its seed.
func TestModel(t *testing.T) {
	for seed := range *modelSeeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Attr("seed", strconv.Itoa(seed))
			m := &model{
				t: t, rng: rand.New(rand.NewPCG(uint64(seed), 42)), cfg: testConfig(), fsys: vfs.NewMem(), now: t0,
				newest: map[string]*testObject{}, deltas: map[string][]*testObject{}, horizon: map[uint64]expiry.Horizon{},
			}
			m.cfg.MaxSegmentBytes = 20 << 10
			m.cfg.MaxHandles = 8
			m.open()
			for range *modelSteps {
				m.step()
			}
			m.compare()
			if err := m.d.Close(); err != nil {
				t.Fatal(err)
			}
			if found, totals := checkAll(t, m.fsys); !m.damaged && totals.Damage != 0 {
				t.Errorf("check: %+v", found)
			}
		})
	}
}

func (m *model) open() {
	m.cfg.BootID = fmt.Sprint("boot-", m.boots)
	m.d, m.s = openAll(m.t, m.fsys, m.cfg)
}

func (m *model) step() {
	switch n := m.rng.IntN(1000); {
	case n < 600:
		m.put()
	case n < 900:
		m.get()
	case n < 940:
		m.now += m.rng.Int64N(4)
	case n < 960:
		m.maintain()
	case n < 970:
		b := []Bucket{events, epochs, plain}[m.rng.IntN(3)]
		if err := m.s.Seal(b, slotAt(m.now)); err != nil {
			m.t.Fatal(err)
		}
	case n < 975:
		m.compare()
	case n < 985:
		if err := m.d.Close(); err != nil {
			m.t.Fatal(err)
		}
		m.open()
	case n < 993:
		m.kill()
	case n < 997:
		m.powerCut()
	case n < 998:
		m.damage()
	}
}

// object makes a random object, often of a key that is there already.
func (m *model) object() *testObject {
	m.stamp++
	b := []Bucket{events, events, events, epochs, plain}[m.rng.IntN(5)].synced(SyncAlways)
	name := fmt.Sprint([]string{"k", "same", "near"}[m.rng.IntN(3)], m.rng.IntN(20))
	epoch := max(t0, m.now-m.rng.Int64N(testTTL+20))
	if m.rng.IntN(2) == 0 {
		epoch = m.now
	}
	stamp := t0*1e6 + m.stamp
	if m.rng.IntN(5) == 0 {
		stamp -= m.rng.Int64N(m.stamp + 1) // out of order
	}
	if !b.KeepAll && m.rng.IntN(10) == 0 {
		return tombstone(m.t, b, epoch, name, stamp)
	}
	return make1(m.t, b, epoch, name, stamp, bytesOf(uint64(m.stamp), m.rng.IntN(600)))
}

func (o *testObject) id() string { return o.b.Name + "/" + o.key }

// gone reports whether an object's time has expired.
func (m *model) gone(o *testObject) bool {
	return o.b.Timed && (expiry.Expired(o.epoch, testTTL, m.now) || m.s.Horizon(o.b).Covers(o.epoch))
}

func (m *model) put() {
	o := m.object()
	action, err := m.s.Put(o.b, o.hash(), o.epoch, m.now, o.rec, nil)
	if m.gone(o) {
		wantErr(m.t, err, ErrExpired, "a put of an expired "+o.key)
		return
	}
	if err != nil {
		m.t.Fatalf("put %q: %v", o.key, err)
	}
	if o.b.KeepAll {
		if action == Append {
			m.deltas[o.id()] = append(m.deltas[o.id()], o)
		}
		return
	}
	old := m.newest[o.id()]
	if newer := old == nil || o.rec.Version().Compare(old.rec.Version()) > 0; newer {
		if action != Append {
			m.t.Fatalf("put %q: %v of a newer version", o.key, action)
		}
		m.newest[o.id()] = o
	} else if action != Same && !m.damaged {
		m.t.Fatalf("put %q: %v of an older version", o.key, action)
	}
}

func (m *model) get() {
	if len(m.newest) == 0 {
		return
	}
	keys := slices.Sorted(maps.Keys(m.newest))
	m.check(m.newest[keys[m.rng.IntN(len(keys))]])
	probe := m.object() // most likely not there
	if m.newest[probe.id()] == nil && !probe.b.KeepAll && !m.gone(probe) {
		rec, err := m.s.Get(probe.b, probe.hash(), probe.epoch, m.now, []byte(probe.key))
		if !errors.Is(err, ErrAbsent) && !(m.damaged && errors.Is(err, object.CodeCorrupt)) {
			m.t.Fatalf("get %q, which was never put: %v, %v", probe.key, rec.Version(), err)
		}
	}
}

func (m *model) check(o *testObject) {
	m.t.Helper()
	err := m.s.getErr(o, m.now)
	if m.gone(o) {
		wantErr(m.t, err, ErrExpired, "get of an expired "+o.key)
		return
	}
	if err != nil && !m.excused(o) {
		m.t.Fatalf("get %s: %v", o.id(), err)
	}
}

// excused reports whether damage may have taken an object; the store must know,
// once it has been told to look.
func (m *model) excused(o *testObject) bool {
	if !m.damaged {
		return false
	}
	if _, err := m.s.Recheck(o.b, o.hash(), o.epoch, m.now, []byte(o.key)); err != nil {
		m.t.Fatalf("recheck of %s: %v", o.id(), err)
	}
	return (&life{}).doubted(m.s, o)
}

// compare looks at everything, by key and by walking.
func (m *model) compare() {
	for _, o := range m.newest {
		m.check(o)
	}
	for _, list := range m.deltas {
		if m.gone(list[0]) {
			continue
		}
		found := map[string]bool{}
		for rec, err := range m.s.Each(list[0].b, list[0].hash(), list[0].epoch, m.now, []byte(list[0].key)) {
			if err == nil {
				found[string(rec.Raw())] = true
			}
		}
		for _, o := range list {
			if !found[string(o.rec.Raw())] && !m.excused(o) {
				m.t.Fatalf("delta of %s is lost", o.id())
			}
		}
	}
	for _, b := range []Bucket{events, plain} {
		m.compareWalk(b)
	}
}

func (m *model) compareWalk(b Bucket) {
	slots, err := m.s.Slots(b)
	if err != nil {
		m.t.Fatal(err)
	}
	if !b.Timed {
		slots = []expiry.Slot{0}
	}
	walked := map[string]object.Version{}
	for _, slot := range slots {
		for h, err := range m.s.Walk(b, slot, m.now) {
			if err != nil {
				if !m.damaged {
					m.t.Fatalf("walk: %v", err)
				}
				continue
			}
			id := b.Name + "/" + string(h.Key)
			if _, twice := walked[id]; twice {
				m.t.Fatalf("walked %s twice", id)
			}
			walked[id] = h.Version()
		}
	}
	for id, o := range m.newest {
		if o.b.Name != b.Name || m.gone(o) {
			continue
		}
		if v, ok := walked[id]; (!ok || v != o.rec.Version()) && !m.excused(o) {
			m.t.Fatalf("walk: %s has version %v, %v; want %v", id, v, ok, o.rec.Version())
		}
	}
}

func (m *model) maintain() {
	for {
		done, err := m.d.Maintain(m.now, true)
		if err != nil {
			m.t.Fatal(err)
		}
		if !done.Expired.More {
			return
		}
	}
}

func (m *model) kill() {
	fsys := m.fsys.Kill()
	_ = m.d.Close()
	m.fsys = fsys
	m.open()
}

// powerCut: all puts were synced, so nothing is lost.
func (m *model) powerCut() {
	fsys := m.fsys.PowerCut(m.rng)
	_ = m.d.Close()
	m.fsys = fsys
	m.boots++
	m.open()
}

// damage flips a byte somewhere while the disk is closed.
func (m *model) damage() {
	if err := m.d.Close(); err != nil {
		m.t.Fatal(err)
	}
	files := segmentsOf(m.t, m.fsys)
	if len(files) > 0 {
		name := files[m.rng.IntN(len(files))]
		if m.rng.IntN(3) == 0 {
			if _, err := m.fsys.Stat(hintName(name)); err == nil {
				name = hintName(name)
			}
		}
		edit(m.t, m.fsys, name, func(b []byte) []byte { b[m.rng.IntN(len(b))] ^= 1 << m.rng.IntN(8); return b })
		m.damaged = true
	}
	m.open()
}
