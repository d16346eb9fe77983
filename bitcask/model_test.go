package bitcask

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
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
	hurts   bool             // bytes may be damaged
	damaged bool             // bytes were damaged: absences must be doubted, no more
	ttl     map[uint64]int64 // seconds; changed now and then
	done    Stats            // of the disks that were closed: what must have happened
}

// drafts is a plain bucket with a TTL.
var drafts = Bucket{ID: 0xe5, Type: "default", Name: "drafts"}

// modelGrace is how long tombstones of plain buckets are kept, seconds.
const modelGrace = 40

// modelOps returns how many operations TestModel is to do, and in how many runs.
// MAYFLY_TEST_OPS=1000000 asks for a million.
func modelOps(t *testing.T) (runs, steps int) {
	text := os.Getenv("MAYFLY_TEST_OPS")
	if text == "" {
		if raceEnabled {
			return 2, 600
		}
		return 4, 1000
	}
	ops, err := strconv.Atoi(text)
	if err != nil || ops < 1 {
		t.Fatalf("MAYFLY_TEST_OPS=%q is not a number of operations", text)
	}
	const longest = 5000
	return (ops + longest - 1) / longest, min(ops, longest)
}

// TestModel does random things to a store and to a map, with restarts, kills,
// power cuts, damage, merges, and TTLs that change, and compares the two. A failure
// names its seed. In a long run, everything that is meant to happen must have
// happened.
func TestModel(t *testing.T) {
	runs, steps := modelOps(t)
	var sum Stats
	for seed := range runs {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Attr("seed", strconv.Itoa(seed))
			m := &model{
				t: t, rng: rand.New(rand.NewPCG(uint64(seed), 42)), cfg: testConfig(), fsys: vfs.NewMem(), now: t0,
				newest: map[string]*testObject{}, deltas: map[string][]*testObject{}, horizon: map[uint64]expiry.Horizon{},
				ttl: map[uint64]int64{events.ID: testTTL, epochs.ID: testTTL, drafts.ID: testTTL},
			}
			m.cfg.TTL = func(id uint64) int64 { return m.ttl[id] }
			m.hurts = seed%2 == 1
			m.cfg.MergeBytesPerSecond = 32 << 10
			m.cfg.TombstoneGraceSeconds = modelGrace
			m.cfg.mergeAfter = 1
			m.cfg.MaxSegmentBytes = 20 << 10
			m.cfg.MaxHandles = 8
			m.open()
			for range steps {
				m.step()
			}
			m.compare()
			if err := m.close(); err != nil {
				t.Fatal(err)
			}
			addStats(&sum, m.done)
			if found, totals := checkAll(t, m.fsys); !m.damaged && totals.Damage != 0 {
				t.Errorf("check: %+v", found)
			}
		})
	}
	t.Logf("%d runs of %d operations: %+v", runs, steps, sum)
	if runs < 50 {
		return
	}
	for what, n := range map[string]int64{
		"merges": sum.Merges, "tombstones reaped": sum.TombstonesReaped, "plain segments expired": sum.PlainExpired,
		"files expired": sum.FilesExpired, "merges that waited": sum.MergeWaits,
		"scans": sum.Recoveries, "stretches of damage": sum.Damage,
	} {
		if n == 0 {
			t.Errorf("no %s in a run this long", what)
		}
	}
}

// addStats adds the counts that TestModel looks at.
func addStats(sum *Stats, st Stats) {
	sum.Records += st.Records
	sum.Merges += st.Merges
	sum.MergedSegments += st.MergedSegments
	sum.MergeWrittenBytes += st.MergeWrittenBytes
	sum.MergeWaits += st.MergeWaits
	sum.MergeSkipped += st.MergeSkipped
	sum.MergeFailures += st.MergeFailures
	sum.TombstonesReaped += st.TombstonesReaped
	sum.PlainExpired += st.PlainExpired
	sum.FilesExpired += st.FilesExpired
	sum.Recoveries += st.Recoveries
	sum.Damage += st.Damage
	sum.TornTails += st.TornTails
}

// close closes the disk and keeps its counts.
func (m *model) close() error {
	addStats(&m.done, m.d.Stats())
	return m.d.Close()
}

func (m *model) open() {
	m.cfg.BootID = fmt.Sprint("boot-", m.boots)
	m.d, m.s = openAll(m.t, m.fsys, m.cfg)
}

func (m *model) step() {
	switch n := m.rng.IntN(1000); {
	case n < 600:
		m.put()
	case n < 880:
		m.get()
	case n < 920:
		m.now += m.rng.Int64N(4)
	case n < 965:
		m.maintain()
	case n < 972:
		b := []Bucket{events, epochs, plain, drafts}[m.rng.IntN(4)]
		if err := m.s.Seal(b, slotAt(m.now)); err != nil {
			m.t.Fatal(err)
		}
	case n < 976:
		m.compare()
	case n < 979: // in both directions
		m.ttl[[]uint64{events.ID, epochs.ID, drafts.ID}[m.rng.IntN(3)]] = 30 + m.rng.Int64N(2*testTTL)
	case n < 985:
		if err := m.close(); err != nil {
			m.t.Fatal(err)
		}
		m.open()
	case n < 990:
		m.kill()
	case n < 994:
		m.powerCut()
	case n < 995 && m.hurts:
		m.damage()
	}
}

// object makes a random object, often of a key that is there already.
func (m *model) object() *testObject {
	m.stamp++
	b := []Bucket{events, events, events, epochs, plain, plain, drafts}[m.rng.IntN(7)].synced(SyncAlways)
	name := fmt.Sprint([]string{"k", "same", "near"}[m.rng.IntN(3)], m.rng.IntN(20))
	epoch := max(t0, m.now-m.rng.Int64N(testTTL+20))
	if m.rng.IntN(2) == 0 {
		epoch = m.now
	}
	stamp := m.now*1e6 + m.stamp
	if m.rng.IntN(5) == 0 {
		stamp -= m.rng.Int64N(5e6) // out of order
	}
	if !b.KeepAll && m.rng.IntN(7) == 0 {
		return tombstone(m.t, b, epoch, name, stamp)
	}
	return make1(m.t, b, epoch, name, stamp, bytesOf(uint64(m.stamp), m.rng.IntN(600)))
}

func (o *testObject) id() string { return o.b.Name + "/" + o.key }

// time returns an object's epoch.
func (o *testObject) time() int64 {
	if o.b.Timed {
		return o.epoch
	}
	return timestampEpoch(&o.rec.Header)
}

// gone reports whether an object's time has expired.
func (m *model) gone(o *testObject) bool {
	return expiry.Expired(o.time(), m.ttl[o.b.ID], m.now) || m.s.Horizon(o.b).Covers(o.time())
}

// mayBeGone reports whether an object may be forgotten: a plain one that has
// expired, or was deleted a while ago.
func (m *model) mayBeGone(o *testObject) bool {
	return !o.b.Timed && (m.gone(o) || o.rec.Kind == object.Tombstone && expiry.Expired(o.time(), modelGrace, m.now))
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
		forgotten := !probe.b.Timed && errors.Is(err, ErrExpired) // prune forgot it, its file is still there
		if !errors.Is(err, ErrAbsent) && !forgotten && !(m.damaged && errors.Is(err, object.CodeCorrupt)) {
			m.t.Fatalf("get %q, which was never put: %v, %v", probe.key, rec.Version(), err)
		}
	}
}

func (m *model) check(o *testObject) {
	m.t.Helper()
	err := m.s.getErr(o, m.now)
	if m.mayBeGone(o) && errors.Is(err, ErrAbsent) {
		return
	}
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
	if _, err := m.s.Recheck(o.b, o.hash(), o.epoch, m.now, []byte(o.key), object.Version{}); err != nil {
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
	for _, b := range []Bucket{events, plain, drafts} {
		m.compareWalk(b)
	}
	m.prune()
}

// prune forgets what has been dropped for good.
func (m *model) prune() {
	maps.DeleteFunc(m.newest, func(_ string, o *testObject) bool { return m.s.Horizon(o.b).Covers(o.time()) })
	maps.DeleteFunc(m.deltas, func(_ string, list []*testObject) bool { return m.s.Horizon(list[0].b).Covers(list[0].epoch) })
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
		if v, ok := walked[id]; (!ok || v != o.rec.Version()) && (ok || !m.mayBeGone(o)) && !m.excused(o) {
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
	_ = m.close()
	m.fsys = fsys
	m.open()
}

// powerCut: all puts were synced, so nothing is lost.
func (m *model) powerCut() {
	fsys := m.fsys.PowerCut(m.rng)
	_ = m.close()
	m.fsys = fsys
	m.boots++
	m.open()
}

// damage flips a byte somewhere while the disk is closed.
func (m *model) damage() {
	m.scanAll() // what the machine's last stop has left, before it is damaged: see flip
	if err := m.close(); err != nil {
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
		m.flip(name)
	}
	m.open()
	m.scanAll()
}

// flip changes a bit of a file, but not in the last record of an open segment: when
// the machine stops next, that could not be told from a write that was never
// finished.
func (m *model) flip(name string) {
	size := int64(0)
	at, bit := 0, m.rng.IntN(8)
	turn := func(b []byte) []byte { b[at] ^= 1 << bit; return b }
	edit(m.t, m.fsys, name, func(b []byte) []byte {
		size, at = int64(len(b)), m.rng.IntN(len(b))
		return turn(b)
	})
	found, _ := checkAll(m.t, m.fsys.Kill())
	_, sealed := m.fsys.Stat(hintName(name))
	if sealed != nil && slices.ContainsFunc(found, func(f Finding) bool { return f.File == name && f.Offset+f.Bytes >= size }) {
		edit(m.t, m.fsys, name, turn)
		return
	}
	m.damaged = true
}

// scanAll has every slot opened, and what that finds said in the manifest, as
// Maintain does.
func (m *model) scanAll() {
	for _, b := range []Bucket{events, epochs, plain, drafts} {
		slots, err := m.s.Slots(b)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, slot := range append(slots, plainSlot) {
			if _, err := m.s.Sealed(b, slot); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	if err := m.s.publish("scanning"); err != nil {
		m.t.Fatal(err)
	}
}
