package bitcask

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// The keydir is a multimap by hash that reads out sorted, whatever is put in.
func TestKeydirAgainstMap(t *testing.T) {
	for _, spread := range []uint32{1, 50, 1 << 16, 1<<32 - 1} {
		rng := rand.New(rand.NewPCG(uint64(spread), 7))
		var k keydir
		want := map[uint32][]location{}
		for i := range uint32(5000) {
			l := location{rng.Uint32N(spread), i, 1 + rng.Uint32N(maxSize8), rng.Uint32()}
			if rng.IntN(8) == 0 {
				l.hash = 1<<32 - 1 - rng.Uint32N(4) // the last homes overflow
			}
			if old := want[l.hash]; len(old) > 0 && rng.IntN(3) == 0 {
				at := rng.IntN(len(old))
				if !k.replace(old[at], l) {
					t.Fatalf("spread %d: %+v is not there to be replaced", spread, old[at])
				}
				old[at] = l
				continue
			}
			k.insert(l)
			want[l.hash] = append(want[l.hash], l)
		}
		n := 0
		for hash, list := range want {
			n += len(list)
			if got := slices.Collect(k.find(hash)); !slices.Equal(got, list) {
				t.Fatalf("spread %d: hash %x: got %v, want %v", spread, hash, got, list)
			}
		}
		if k.len() != n {
			t.Errorf("spread %d: %d entries, want %d", spread, k.len(), n)
		}
		all := slices.Collect(k.all())
		if len(all) != n || !slices.IsSortedFunc(all, func(a, b location) int { return cmp.Compare(a.hash, b.hash) }) {
			t.Errorf("spread %d: not read out sorted", spread)
		}
		for range 1000 {
			if hash := rng.Uint32(); want[hash] == nil {
				for l := range k.find(hash) {
					t.Fatalf("spread %d: hash %x, which was never put: %+v", spread, hash, l)
				}
			}
		}
	}
}

// A table is full at the same share of its homes, however many a segment has room for.
func TestKeydirFull(t *testing.T) {
	const most = maxSegmentBytes / 72 // the smallest records
	for homes := int32(keydirMinHome); ; homes += homes/5 + 1 {
		last := int32(int64(homes) * 5 / 6)
		for n, want := range map[int32]bool{0: false, last / 2: false, last - 1: false, last: true} {
			if k := (keydir{homes: homes, n: n}); k.full() != want {
				t.Errorf("%d entries of %d homes: full is %t", n, homes, k.full())
			}
		}
		if last > most {
			return
		}
	}
}

// Sums are those of all that was added and not removed, whatever minute came when.
func TestKeydirSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []int64{1, 2, 70} {
		seg := &segment{keydir: &keydir{}}
		if sums := seg.allSums(); len(sums) != 0 {
			t.Errorf("sums of nothing: %v", sums)
		}
		var want minutes
		for i := range uint64(3000) {
			minute, v := rng.Int64N(spread), object.Version{TimestampMicros: int64(i)}
			for _, d := range []*MinuteDigest{seg.keydir.sums(minute, &seg.sums), want.at(minute)} {
				if d.Count > 0 && i%3 == 0 { // as when a record replaces one
					d.remove(i, v)
				}
				d.add(i/2, v)
			}
			seg.keydir.insert(location{uint32(i), 0, 1, 0})
			if got := seg.allSums(); i%7 == 0 && !slices.Equal(got, want) {
				t.Fatalf("%d minutes: after %d: %v, want %v", spread, i, got, want)
			}
		}
	}
}

// At no size does an entry cost more than 26 bytes.
func TestKeydirBytesPerKey(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var k keydir
	worst := 0.0
	for n := 1; n <= 300_000; n++ {
		k.insert(location{hash: rng.Uint32(), size8: 1})
		if n >= 300 { // a smaller table costs kilobytes in all
			worst = max(worst, float64(k.sizeBytes())/float64(n))
		}
	}
	t.Logf("at worst %.1f bytes a key", worst)
	if worst > 26 {
		t.Errorf("%.1f bytes a key", worst)
	}
}

// Every hash of a hint is found, in one page read where hashes are spread as
// placement hashes are, and correctly however they are.
func TestHintLookup(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, n := range []int{0, 1, hintFirstPage, hintFirstPage + 1, hintFirstPage + hintFullPage, hintFirstPage + hintFullPage + 1, 20_000} {
		for _, spread := range []uint32{1, 3, 1 << 12, 1<<32 - 1} {
			var all []location
			for i := range uint32(n) {
				all = append(all, location{rng.Uint32N(spread), i + 16, 1, rng.Uint32()})
			}
			slices.SortStableFunc(all, func(a, b location) int { return cmp.Compare(a.hash, b.hash) })
			f := memFile(t, encodeHint(&hintHeader{records: n, sealedLength: 1 << 30}, all, nil))
			h, err := readHintHeader(f)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < n; {
				j := i + 1
				for j < n && all[j].hash == all[i].hash {
					j++
				}
				if j-i > 1 || n < 1000 || rng.IntN(10) == 0 {
					got, err := lookupHint(t, f, &h, all[i].hash)
					if err != nil || !slices.Equal(got, all[i:j]) {
						t.Fatalf("%d entries of %d: hash %x: %d found, %v, want %d", n, spread, all[i].hash, len(got), err, j-i)
					}
				}
				i = j
			}
			for range 100 {
				hash := rng.Uint32()
				_, there := slices.BinarySearchFunc(all, hash, func(l location, h uint32) int { return cmp.Compare(l.hash, h) })
				if got, err := lookupHint(t, f, &h, hash); err != nil || !there && len(got) > 0 {
					t.Fatalf("hash %x: %v, %v", hash, got, err)
				}
			}
			whole := encodeHint(&hintHeader{records: n, sealedLength: 1 << 30}, all, nil)
			for _, wrong := range [][]byte{whole[:len(whole)-1], append(whole, 0)} {
				if _, err := readHintHeader(memFile(t, wrong)); err == nil {
					t.Fatalf("a hint of %d bytes instead of %d is accepted", len(wrong), len(whole))
				}
			}
			if loaded, err := loadHint(f, &h); err != nil || !slices.Equal(loaded, all) {
				t.Fatalf("loaded %d of %d, %v", len(loaded), n, err)
			}
		}
	}
}

// A sealed key costs at most 16 bytes on disk, and a lookup little more than
// one page read.
func TestHintCosts(t *testing.T) {
	const n = 200_000
	rng := rand.New(rand.NewPCG(4, 4))
	var all []location
	for i := range uint32(n) {
		all = append(all, location{rng.Uint32(), i + 16, 1, 0})
	}
	slices.SortFunc(all, func(a, b location) int { return cmp.Compare(a.hash, b.hash) })
	sums := make(minutes, 60)
	for i := range sums {
		sums[i] = MinuteDigest{Minute: int64(i), Count: 1}
	}
	b := encodeHint(&hintHeader{records: n, sealedLength: 1 << 30, minutes: len(sums)}, all, sums)
	perKey := float64(len(b)) / n
	fsys := vfs.NewMem()
	if err := vfs.PublishBytes(fsys, "h", b); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open("h")
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHintHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead {
			reads++
		}
		return nil
	})
	for i := range 1000 {
		r := hintReader{header: &h, kept: newHintCache(0), file: f}
		if _, err := r.lookup(nil, all[i*n/1000].hash); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%.2f bytes a key, %.2f reads a lookup", perKey, float64(reads)/1000)
	if perKey > 16 || reads > 3000 {
		t.Errorf("%.2f bytes a key, %.2f reads a lookup", perKey, float64(reads)/1000)
	}
}

// No more files are open than allowed, nothing is opened twice in a row, and
// what is in use is not closed.
func TestHandles(t *testing.T) {
	fsys := vfs.NewMem()
	c := newHandles(fsys, 8)
	var files []*handle
	for i := range 20 {
		name := fmt.Sprint("f", i)
		if err := vfs.PublishBytes(fsys, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
		files = append(files, &handle{name: name})
	}
	use := func(h *handle) {
		t.Helper()
		f, err := c.acquire(h)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(h.name))
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != h.name {
			t.Fatalf("read %q of %s, %v", b, h.name, err)
		}
	}
	use(files[0]) // stays in use
	for _, h := range files[1:] {
		use(h)
		c.release(h)
	}
	if open, opened, _ := c.counts(); open != 8 || opened != 20 {
		t.Errorf("%d open, %d opened", open, opened)
	}
	for range 3 { // the last seven are open, and the first
		for _, h := range files[13:] {
			use(h)
			c.release(h)
		}
		use(files[0])
		c.release(files[0])
	}
	if _, opened, _ := c.counts(); opened != 20 {
		t.Errorf("%d opened: files in the cache were opened again", opened)
	}
	c.drop(files[0]) // in use: closed with its last release
	if _, err := c.acquire(files[0]); err != errGone {
		t.Errorf("a dropped file: %v", err)
	}
	before, _, _ := c.counts()
	c.release(files[0])
	if open, _, _ := c.counts(); open != before-1 {
		t.Errorf("a dropped file stays open after its last use: %d open, %d before", open, before)
	}
	c.drop(files[19])
	c.closeIdle()
	if open, opened, closed := c.counts(); open != 0 || opened != closed {
		t.Errorf("%d open, %d opened, %d closed", open, opened, closed)
	}
	if _, err := c.acquire(&handle{name: "missing"}); !vfs.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

// An epoch is read from a key in one way only.
func TestEpochOf(t *testing.T) {
	for key, want := range map[string]int64{
		"1763712000:1:web": 1763712000, "1763712000-1": 1763712000, "1:": 1, "9007199254740992:x": 1 << 53,
		"": 0, ":": 0, "x:1": 0, "01:a": 0, "0:a": 0, "-1:a": 0, "12": 0, "9007199254740993:x": 0, "99999999999999999999999:x": 0,
	} {
		if got, ok := epochOf(key); ok != (want != 0) || ok && got != want {
			t.Errorf("%q: %d, %v", key, got, ok)
		}
	}
}

// Bad arguments are refused with what is wrong with them, and nothing is made.
func TestBadPuts(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	o := make1(t, events, t0, "a", t0*1e6, []byte("x"))
	refused := func(what string, _ Action, err error) {
		t.Helper()
		wantErr(t, err, object.CodeBadRequest, what)
	}
	a, err := s.Put(events, o.hash(), t0+1, t0, o.rec, nil)
	refused("another epoch than the key's", a, err)
	other := events
	other.Name = "other"
	a, err = s.Put(other, o.hash(), t0, t0, o.rec, nil)
	refused("another bucket than the record's", a, err)
	a, err = s.Put(events, o.hash(), t0, t0, make1(t, plain, 0, "doc", 1, nil).rec, nil)
	refused("a plain key in a timed bucket", a, err)
	half, err := d.Store(Partition{1, 1 - uint32(o.hash()>>63)})
	if err != nil {
		t.Fatal(err)
	}
	a, err = half.Put(events, o.hash(), t0, t0, o.rec, nil)
	refused("a hash of another partition", a, err)
	if _, err := d.Store(Partition{3, 9}); !isCode(err, object.CodeBadRequest) {
		t.Errorf("an impossible partition: %v", err)
	}
	if n := countFiles(t, fsys, bucketDir(events.ID)); n != 0 {
		t.Errorf("%d files were made", n)
	}
	mustPut(t, s, o)
	changed := events
	changed.KeepAll = true
	a, err = s.Put(changed, o.hash(), t0, t0, make1(t, events, t0, "b", 1, nil).rec, nil)
	refused("a bucket with other properties", a, err)
	if err := s.SetNote(make([]byte, MaxNoteBytes+1)); !isCode(err, object.CodeTooLarge) {
		t.Errorf("a long note: %v", err)
	}
	if err := s.SetNote([]byte("note")); err != nil || string(s.Note()) != "note" {
		t.Errorf("a note: %q, %v", s.Note(), err)
	}
}

func isCode(err error, code object.Code) bool {
	e := object.AsError(err)
	return e != nil && e.Code == code
}
