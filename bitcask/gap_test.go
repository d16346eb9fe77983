package bitcask

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// What a scan takes for unfinished puts ("?"), and what for damage ("!").
func TestScanHoles(t *testing.T) {
	const gen = 7
	a, b := framed(scanRecord(t, "a", 1, []byte("value a")), gen), framed(scanRecord(t, "b", 1, bytesOf(2, 300)), gen)
	big := framed(scanRecord(t, "c", 1, slices.Concat(bytesOf(1, 20_000), []byte{1})), gen)
	sparse := framed(scanRecord(t, "s", 1, append(bytesOf(1, 9000), make([]byte, 9000)...)), gen)
	flip := func(b []byte, at int) []byte { b = slices.Clone(b); b[at] ^= 1; return b }
	cut := func(b []byte, at, n int) []byte { // b, which is to lie at that offset, as far as a kernel that stops after n pages writes it
		b = slices.Clone(b)
		clear(b[(at/filePage+n)*filePage-at:])
		return b
	}
	to := func(at int) []byte { // a gap that makes the next thing lie at an offset
		return append(appendGap(nil, int64(at), gen), bytes.Repeat([]byte{0xee}, at-frameSize)...)
	}
	zero := func(n int) []byte { return make([]byte, n) }
	for _, tc := range []struct {
		name  string
		loose int64
		bytes []byte
		want  string
	}{
		{"one that was not begun", 1, slices.Concat(a, zero(len(b)), a), "a ? a"},
		{"a mebibyte of them", 1, slices.Concat(a, zero(1<<20), b), "a ? b"},
		{"one cut after a page", 1, slices.Concat(a, cut(big, len(a), 1), b), "a ? b"},
		{"one cut after four pages", 1, slices.Concat(a, cut(big, len(a), 4), b), "a ? b"},
		{"one cut in its header", 1, slices.Concat(to(filePage-24), cut(b, filePage-24, 1), a), "- ? a"},
		{"one cut in its frame", 1, slices.Concat(to(filePage-8), cut(b, filePage-8, 1), a), "- ? a"},
		{"one cut behind its frame", 1, slices.Concat(to(filePage-16), cut(b, filePage-16, 1), a), "- ? a"},
		{"several together", 1, slices.Concat(a, zero(len(a)), cut(big, 2*len(a), 2), zero(len(b)), b), "a ? b"},
		{"one and a torn one at the end", 1, slices.Concat(a, zero(len(b)), b[:200]), "a ?"},
		{"at the end", 1, slices.Concat(a, cut(big, len(a), 2)), "a ?"},
		{"a value that ends in zeros", 1, slices.Concat(a, sparse, b), "a s b"},
		{"such a value, damaged in its zeros", 1, slices.Concat(a, flip(sparse, 17_000), b), "a ! b"},
		{"a damaged value", 1, slices.Concat(a, flip(big, 9000), b), "a c b"}, // values are not looked at
		{"a damaged value that ends in a zero", 1, slices.Concat(a, flip(framed(scanRecord(t, "z", 1, append(bytesOf(3, 5000), 0)), gen), 900), b), "a ! b"},
		{"a damaged frame", 1, slices.Concat(a, flip(big, 1), b), "a ! b"},
		{"a damaged frame before zeros", 1, slices.Concat(a, flip(a, 1), zero(len(b)), b), "a ! b"},
		{"a page of zeros inside a record", 1, slices.Concat(a, zero(filePage), big[filePage:], b), "a ! b"},
		{"zeros that begin within a page", 1, slices.Concat(a, big[:9001], zero(len(big)-9001-3900), big[len(big)-3900:], b), "a c b"},
		{"zeros with something among them", 1, slices.Concat(a, flip(zero(8000), 4004), b), "a ! b"},
		{"another generation's frame in front of zeros", 1, slices.Concat(a, cut(framed(scanRecord(t, "c", 1, bytesOf(1, 20_000)), gen+1), len(a), 1), b), "a ! b"},
		{"where no puts were under way", 0, slices.Concat(a, zero(len(b)), a), "a ! a"},
		{"before those could be", 1 << 10, slices.Concat(a, zero(len(b)), a), "a ! a"},
		{"marked", 0, slices.Concat(a, to(4096), b, to(16), b), "a - b - b"},
		{"marked, and cut", 0, slices.Concat(a, to(4096)[:100]), "a ~"},
		{"marked in another generation", 0, slices.Concat(a, appendGap(nil, 4096, gen+1), zero(4080), b), "a ! b"},
		{"behind damage", 0, slices.Concat(flip(a, 1), to(24), b), "! - b"},
	} {
		sc := &scanner{f: memFile(t, tc.bytes), end: int64(len(tc.bytes)), generation: gen, typ: "t", name: "b", loose: tc.loose}
		var got []string
		at := int64(0)
		for {
			st, ok := sc.next()
			if !ok {
				break
			}
			if st.offset != at {
				t.Errorf("%s: a stretch at %d, want %d", tc.name, st.offset, at)
			}
			at += st.size
			got = append(got, map[stretchKind]string{damagedPart: "!", tornTail: "~", gapPart: "-", holePart: "?", wholeRecord: string(st.header.Key)}[st.kind])
		}
		if line := strings.Join(got, " "); line != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, line, tc.want)
		}
	}
}

// begin gives a put of o its place, as Put does, and no more.
func begin(t *testing.T, s *Store, o *testObject) (*lane, *putOp) {
	t.Helper()
	l, err := s.lane(laneOf(o.b, o.epoch, testSlot), true)
	if err != nil {
		t.Fatal(err)
	}
	op := &putOp{stripe: s.disk.stripes.next(), hash: o.hash(), epoch: o.epoch, now: t0, sync: o.b.Sync, raw: o.rec.Raw(), next: o.rec.Header, version: o.rec.Version(), digest: o.rec.Version().Short(), size: framedSize(len(o.rec.Raw()))}
	if _, err := l.claim(o.b, op, Newest); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !op.reserved && !l.reserveLocked(op) {
		t.Fatal("no place to put it")
	}
	return l, op
}

// writePages writes a put's record as far as a kernel does that stops after n pages; it
// reports whether that is all of it.
func writePages(t *testing.T, d *Disk, op *putOp, n int64) (whole bool) {
	t.Helper()
	b := slices.Concat(op.frameIn(nil)...)
	upTo := min(max((op.offset/filePage+n)*filePage-op.offset, 0), int64(len(b)))
	if n == 0 || upTo == 0 {
		return false
	}
	if _, err := d.writev(d.stripes.first(), op.seg, [][]byte{b[:upTo]}, op.offset); err != nil {
		t.Fatal(err)
	}
	return upTo == int64(len(b))
}

// TestKilledInFlight kills processes with puts under way: all that others have put
// behind them is there, nothing is doubted, and check finds no damage, before the next
// process and after it.
func TestKilledInFlight(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		fsys := vfs.NewMem()
		cfg := testConfig()
		cfg.BootID = "boot-1"
		var there, never []*testObject
		for life := range 3 {
			d, s := openAll(t, fsys, cfg)
			policy := []Sync{SyncNone, SyncInterval}[rng.IntN(2)]
			put := func(i int) {
				o := make1(t, events.synced(policy), t0, fmt.Sprintf("%d-%d", life, i), t0*1e6, bytesOf(seed+uint64(i), rng.IntN(12_000)))
				mustPut(t, s, o)
				there = append(there, o)
			}
			put(0)
			for i := range rng.IntN(20) {
				if rng.IntN(3) > 0 {
					put(1 + i)
					continue
				}
				o := make1(t, events.synced(policy), t0, fmt.Sprintf("%d-%d never", life, i), t0*1e6, bytesOf(seed+uint64(i), rng.IntN(12_000)))
				l, op := begin(t, s, o)
				if !writePages(t, d, op, rng.Int64N(4)) {
					never = append(never, o)
				}
				defer func() { // for the closing of what was killed
					l.mu.Lock()
					defer l.mu.Unlock()
					l.flight.remove(op)
				}()
			}
			fsys = fsys.Kill()
			if found, totals := checkKilled(t, fsys, cfg.BootID); totals.Damage > 0 {
				t.Fatalf("seed %d: check: %+v", seed, found)
			}
			d, s = openAll(t, fsys, cfg)
			verify := func() {
				t.Helper()
				for _, o := range there {
					mustGet(t, s, o)
				}
				for _, o := range never {
					wantErr(t, s.getErr(o, t0), ErrAbsent, "a put that did not finish")
				}
				if doubts, damage := s.Doubts(), d.Stats().Damage; len(doubts) > 0 || damage > 0 {
					t.Fatalf("seed %d: %d damaged, doubts %v", seed, damage, doubts)
				}
			}
			verify()
			if rng.IntN(2) == 0 { // and others go on where it was
				if err := s.Seal(events, slotAt(t0)); err != nil {
					t.Fatal(err)
				}
				verify()
			}
			if rng.IntN(2) == 0 {
				fsys = fsys.Kill()
			} else if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if found, totals := checkKilled(t, fsys, cfg.BootID); totals.Damage > 0 {
				t.Fatalf("seed %d: check of what was mended: %+v", seed, found)
			}
			again := cfg
			again.BootID = "boot-2" // then what was open is scanned as after a loss of power
			_, s = openAll(t, fsys.Kill(), again)
			for _, o := range there {
				mustGet(t, s, o)
			}
		}
	}
}

func checkKilled(t *testing.T, fsys vfs.FS, bootID string) (found []Finding, totals Totals) {
	t.Helper()
	totals, err := Check(fsys, CheckOptions{Hash: testHash, BootID: bootID}, func(f Finding) bool {
		found = append(found, f)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, totals
}

// TestFailedInFlight: a put that fails in front of others that were put meanwhile is
// not there, and they are.
func TestFailedInFlight(t *testing.T) {
	full, broken := error(syscall.ENOSPC), error(syscall.EIO)
	for _, tc := range []struct {
		name        string
		first, last error // of the two puts that fail, in front of one that does not and behind it
		then        error // of marking and cutting
		outcome     object.Outcome
	}{
		{"full", full, full, nil, object.NotDone},
		{"full, and not to be mended", full, full, full, object.NotDone},
		{"full halfway", &vfs.Partial{Bytes: 5000, Err: full}, &vfs.Partial{Bytes: 9, Err: full}, nil, object.NotDone},
		{"failing", broken, &vfs.Partial{Bytes: 5000, Err: broken}, nil, object.MaybeDone},
		{"failing, and not to be mended", &vfs.Partial{Bytes: 5000, Err: broken}, broken, broken, object.MaybeDone},
		{"only the first", full, nil, nil, object.NotDone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			d, s := openAll(t, fsys, testConfig())
			object1 := func(name string) *testObject {
				return make1(t, events, t0, name, t0*1e6, bytesOf(uint64(name[0]), 10_000))
			}
			mustPut(t, s, object1("before"))
			first, last := object1("first"), object1("last")
			l, opFirst := begin(t, s, first)
			mustPut(t, s, object1("between"))
			_, opLast := begin(t, s, last)
			fail := func(op *putOp, cause error) {
				t.Helper()
				fsys.Inject(func(o vfs.Op) error {
					switch {
					case o.Kind == vfs.OpWrite && o.Offset == op.offset && o.Bytes == op.size:
						return cause
					case o.Kind == vfs.OpWrite || o.Kind == vfs.OpTruncate:
						return tc.then
					}
					return nil
				})
				defer fsys.Inject(nil)
				err := l.writeReserved(op)
				var fault *object.Error
				if cause == nil && err != nil || cause != nil && (!errors.As(err, &fault) || fault.Outcome != tc.outcome) {
					t.Errorf("got %v, want %v", err, tc.outcome)
				}
			}
			done := make(chan struct{})
			go func() { defer close(done); fail(opFirst, tc.first) }() // it waits for the other
			for waiting := int32(0); waiting == 0; {
				l.mu.Lock()
				waiting = l.waiting
				l.mu.Unlock()
			}
			fsys.Inject(nil)
			fail(opLast, tc.last)
			<-done
			d.space.refresh(d)
			mustPut(t, s, object1("after"))
			verify := func() {
				t.Helper()
				for _, name := range []string{"before", "between", "after"} {
					mustGet(t, s, object1(name))
				}
				wantErr(t, s.getErr(first, t0), ErrAbsent, "a put that failed")
				if tc.last != nil {
					wantErr(t, s.getErr(last, t0), ErrAbsent, "a put that failed")
				} else {
					mustGet(t, s, last)
				}
			}
			verify()
			if found, totals := checkAll(t, fsys.Kill()); totals.Damage > 0 {
				t.Errorf("check: %v", found)
			}
			killed, sealed := fsys.Kill(), fsys
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
			verify()
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			for _, fsys := range []*vfs.Mem{killed, sealed} {
				if found, totals := checkAll(t, fsys); totals.Damage > 0 {
					t.Errorf("check: %v", found)
				}
				d, s = openAll(t, fsys, testConfig())
				verify()
				if n := d.Stats().Damage; n > 0 || len(s.Doubts()) > 0 {
					t.Errorf("%d damaged, doubts %v", n, s.Doubts())
				}
			}
		})
	}
}

// Puts are not put further than maxAhead from one that does not finish: they wait for it.
func TestMaxAhead(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	mustPut(t, s, make1(t, events, t0, "first", t0*1e6, nil))
	slow := make1(t, events, t0, "slow", t0*1e6, nil)
	l, op := begin(t, s, slow)
	const size = 1 << 20
	n := 0
	for range maxAhead/size - 1 {
		mustPut(t, s, make1(t, events, t0, fmt.Sprint(n), t0*1e6, bytesOf(1, size)))
		n++
	}
	done := make(chan error)
	go func() {
		_, err := s.putTest(make1(t, events, t0, "waits", t0*1e6, bytesOf(1, size)))
		done <- err
	}()
	for waiting := int32(0); waiting == 0; {
		l.mu.Lock()
		waiting = l.waiting
		l.mu.Unlock()
	}
	if err := l.writeReserved(op); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustGet(t, s, slow)
	if st := d.Stats(); st.Records != int64(n)+3 {
		t.Errorf("%d records, want %d", st.Records, n+3)
	}
}

// What was written while an earlier put was under way is synced with the next sync,
// and what was written after that sync began is not taken for synced.
func TestSyncInFlight(t *testing.T) {
	fsys := vfs.NewMem()
	cfg := testConfig()
	cfg.Manual, cfg.BootID = true, "boot-1"
	d, s := openAll(t, fsys, cfg)
	b := events.synced(SyncInterval)
	mustPut(t, s, make1(t, b, t0, "first", t0*1e6, nil))
	slow, quick := make1(t, b, t0, "slow", t0*1e6, bytesOf(1, 9000)), make1(t, b, t0, "quick", t0*1e6, bytesOf(2, 9000))
	l, op := begin(t, s, slow)
	mustPut(t, s, quick)
	durable := func(o *testObject) bool {
		for seed := range 20 {
			cfg.BootID = fmt.Sprint("boot-", seed+2)
			_, s := openAll(t, fsys.PowerCut(newRand(seed)), cfg)
			if s.getErr(o, t0) != nil {
				return false
			}
		}
		return true
	}
	if durable(quick) {
		t.Fatal("the test does not see what is unsynced")
	}
	for range syncSteps {
		d.Tick()
	}
	if !durable(quick) {
		t.Error("a put is not synced, as one before it is under way")
	}
	if err := l.writeReserved(op); err != nil {
		t.Fatal(err)
	}
	if durable(slow) {
		t.Fatal("the test does not see what is unsynced")
	}
	for range syncSteps {
		d.Tick()
	}
	if !durable(slow) || !durable(quick) {
		t.Error("a put that ended after the sync of others is not synced")
	}
}

// A put waits for a sync that covers its own write, not for those that ended later.
func TestSyncOwnWrite(t *testing.T) {
	d, s := openAll(t, vfs.NewMem(), testConfig())
	mustPut(t, s, make1(t, events.synced(SyncAlways), t0, "a", t0*1e6, nil))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	seg, syncs := l.active, d.Stats().Syncs
	own := seg.written.Load()
	seg.wrote() // another's
	if err := l.syncOp(seg, own); err != nil || d.Stats().Syncs != syncs {
		t.Errorf("%v, %d syncs, want none", err, d.Stats().Syncs-syncs)
	}
	for range 2 {
		if err := seg.sync(d); err != nil || d.Stats().Syncs != syncs+1 {
			t.Errorf("%v, %d syncs, want one", err, d.Stats().Syncs-syncs)
		}
	}
}
