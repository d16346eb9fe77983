package bitcask

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// aLife fills a file system with sealed and open segments and returns what is
// in them.
func aLife(t *testing.T) (*vfs.Mem, []*testObject) {
	t.Helper()
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	var all []*testObject
	put := func(o *testObject) {
		mustPut(t, s, o)
		all = append(all, o)
	}
	for i := range 4 {
		put(make1(t, events, t0, fmt.Sprintf("a%d", i), t0*1e6, bytesOf(uint64(i), 50+i)))
	}
	if err := s.Seal(events, slotAt(t0)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		put(make1(t, events, t0+testSlot, fmt.Sprintf("b%d", i), t0*1e6, bytesOf(uint64(i), 50+i)))
		put(make1(t, plain, 0, fmt.Sprintf("c%d", i), t0*1e6, bytesOf(uint64(i), 20+i)))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys, all
}

func segmentsOf(t *testing.T, fsys vfs.FS) []string {
	t.Helper()
	files, err := segmentFiles(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// edit changes the bytes of a file.
func edit(t testing.TB, fsys vfs.FS, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := vfs.ReadFile(fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.PublishBytes(fsys, name, change(b)); err != nil {
		t.Fatal(err)
	}
}

func checkAll(t testing.TB, fsys vfs.FS) (found []Finding, totals Totals) {
	t.Helper()
	totals, err := Check(fsys, CheckOptions{Hash: testHash, BootID: "boot-1"}, func(f Finding) bool {
		found = append(found, f)
		return true
	})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return found, totals
}

// TestEveryByteFlipped flips each byte of each segment: check says where, the
// disk opens, and every record is served but, at most, the one that was hit.
func TestEveryByteFlipped(t *testing.T) {
	fsys, all := aLife(t)
	if found, totals := checkAll(t, fsys); len(found) != 0 || totals.Records != int64(len(all)) || totals.Segments != 3 || totals.Sealed != 1 {
		t.Fatalf("an undamaged disk: %+v, %+v", totals, found)
	}
	for _, name := range segmentsOf(t, fsys) {
		e, err := fsys.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		step := int64(1)
		if testing.Short() {
			step = 7
		}
		for pos := int64(0); pos < e.SizeBytes; pos += step {
			hurt := fsys.Kill()
			edit(t, hurt, name, func(b []byte) []byte { b[pos] ^= 0x10; return b })
			found, _ := checkAll(t, hurt)
			said := false
			for _, f := range found {
				if f.Severity != SeverityDamage || f.File != name {
					t.Fatalf("%s, byte %d: check also says %+v", name, pos, f)
				}
				said = said || f.Offset <= pos && pos < f.Offset+f.Bytes
			}
			if !said {
				t.Fatalf("%s, byte %d: check says only %+v", name, pos, found)
			}
			serveRest(t, hurt, all, fmt.Sprintf("%s, byte %d", name, pos))
		}
	}
}

// serveRest opens a disk with one damaged stretch: all objects but one must be there.
func serveRest(t *testing.T, fsys vfs.FS, all []*testObject, what string) {
	t.Helper()
	d, err := OpenDisk(fsys, testConfig(), t0*1e6)
	if err != nil {
		t.Fatalf("%s: opening: %v", what, err)
	}
	defer d.Close()
	s, err := d.Store(Partition{})
	if err != nil {
		t.Fatalf("%s: opening the store: %v", what, err)
	}
	bad := 0
	for _, o := range all {
		err := s.getErr(o, t0)
		if err == nil {
			continue
		}
		if !errors.Is(err, object.CodeCorrupt) && !errors.Is(err, object.CodeAbsent) && !errors.Is(err, object.ErrCorrupt) {
			t.Fatalf("%s: get %q: %v", what, o.key, err)
		}
		if bad++; bad > 1 {
			t.Fatalf("%s: %q is lost too", what, o.key)
		}
		if errors.Is(err, object.CodeAbsent) && len(s.Doubts()) == 0 {
			t.Fatalf("%s: %q is called absent and nothing doubts it", what, o.key)
		}
	}
}

// TestEveryHintByteFlipped: a damaged hint costs nothing but a scan, is said by
// check, and is written anew.
func TestEveryHintByteFlipped(t *testing.T) {
	fsys, all := aLife(t)
	hint := hintName(segmentsOf(t, fsys)[0])
	e, err := fsys.Stat(hint)
	if err != nil {
		t.Fatal(err)
	}
	for pos := range e.SizeBytes {
		hurt := fsys.Kill()
		edit(t, hurt, hint, func(b []byte) []byte { b[pos] ^= 0x10; return b })
		if found, _ := checkAll(t, hurt); len(found) == 0 || found[0].File != hint {
			t.Fatalf("byte %d: check says %+v", pos, found)
		}
		d, s := openAll(t, hurt, testConfig())
		for _, o := range all {
			mustGet(t, s, o)
		}
		if _, err := s.Digests(events, slotAt(t0)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SealDue(t0 + 1000); err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			mustGet(t, s, o)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if found, _ := checkAll(t, hurt); len(found) != 0 {
			t.Fatalf("byte %d: after mending check says %+v", pos, found)
		}
	}
}

// TestEveryManifestByteFlipped: the node starts, serves everything, and doubts
// everything.
func TestEveryManifestByteFlipped(t *testing.T) {
	fsys, all := aLife(t)
	name := manifestName(Partition{})
	e, err := fsys.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for pos := range e.SizeBytes {
		hurt := fsys.Kill()
		edit(t, hurt, name, func(b []byte) []byte { b[pos] ^= 0x10; return b })
		if pos >= 8 && pos < 12 { // another format: refused, and left as it is
			d := openDisk(t, hurt, testConfig())
			if _, err := d.Store(Partition{}); !strings.Contains(fmt.Sprint(err), "another format") {
				t.Fatalf("byte %d: %v", pos, err)
			}
			continue
		}
		if found, _ := checkAll(t, hurt); len(found) == 0 || found[0].File != name {
			t.Fatalf("byte %d: check says %+v", pos, found)
		}
		d, s := openAll(t, hurt, testConfig())
		if doubts := s.Doubts(); len(doubts) != 1 || !doubts[0].All || doubts[0].Reason != ReasonManifestLost {
			t.Fatalf("byte %d: doubts %+v", pos, doubts)
		}
		for _, o := range all {
			mustGet(t, s, o)
		}
		if pos%10 > 0 {
			continue
		}
		if _, err := s.SealDue(t0 + 1000); err != nil { // everything is listed again
			t.Fatal(err)
		}
		mustPut(t, s, make1(t, events, t0, "more", t0*1e6, nil))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := hurt.Remove(name + ".damaged"); err != nil {
			t.Fatal(err)
		}
		if found, totals := checkAll(t, hurt); totals.Damage != 0 {
			t.Fatalf("byte %d: after mending check says %+v", pos, found)
		}
	}
}

// TestCutAnywhere shortens a segment to every length: what lies before the cut
// is served, and a sealed segment says that it is short.
func TestCutAnywhere(t *testing.T) {
	fsys, all := aLife(t)
	for _, name := range segmentsOf(t, fsys) {
		e, _ := fsys.Stat(name)
		for size := range e.SizeBytes {
			hurt := fsys.Kill()
			edit(t, hurt, name, func(b []byte) []byte { return b[:size] })
			d, s := openAll(t, hurt, testConfig())
			lost := 0
			for _, o := range all {
				if err := s.getErr(o, t0); err != nil {
					lost++
				}
			}
			if lost > 4 {
				t.Fatalf("%s cut at %d: %d records lost", name, size, lost)
			}
			sealed := strings.Contains(name, fmt.Sprint(slotAt(t0))+"-")
			if doubted := len(s.Doubts()) > 0; sealed && !doubted {
				t.Fatalf("%s cut at %d: nothing doubts the slot", name, size)
			}
			o := make1(t, events, t0+testSlot, "more", t0*1e6, []byte("more"))
			mustPut(t, s, o)
			mustGet(t, s, o)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Files that are missing, empty, foreign or left over do not keep a disk from
// starting, and are told of.
func TestStrangeFiles(t *testing.T) {
	fsys, all := aLife(t)
	files := segmentsOf(t, fsys)
	dir := laneDir(events.ID, Partition{})
	late := slotAt(t0 + 5*testSlot)
	for name, content := range map[string]string{
		dir + "/README": "hello", dir + "/1-x.seg": "", dir + "/01-0.seg": "x", dir + "/7-0.hint.tmp": "half a hint",
		fmt.Sprintf("%s/%d-0.seg", dir, late):    "",        // empty
		fmt.Sprintf("%s/%d-1.seg", dir, late):    "garbage", // cut off in its header
		fmt.Sprintf("%s/%d-0.hint", dir, late+1): "orphan",
		bucketDir(0xff):                          "a file where a directory should be",
		bucketDir(events.ID) + "/6-zz":           "no partition",
		vnodeDir + "/6-00" + vfs.TempSuffix:      "half a manifest",
		"core":                                   "dumped",
	} {
		if err := vfs.PublishBytes(fsys, name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	found, totals := checkAll(t, fsys)
	if totals.Damage != 1 || totals.Notes < 8 {
		t.Errorf("check: %+v %+v", totals, found)
	}
	_, s := openAll(t, fsys, testConfig())
	missing := 0
	for _, o := range all {
		if err := s.getErr(o, t0); err != nil {
			missing++
		}
	}
	if missing != 3 {
		t.Errorf("%d records are missing with the segment of 3", missing)
	}
	if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonMissingSegment {
		t.Errorf("doubts %+v", doubts)
	}
	damage, count := s.Damage()
	if len(damage) != 1 || count != 1 || damage[0].File != files[1] {
		t.Errorf("damage %+v", damage)
	}
	o := make1(t, events, t0+5*testSlot, "x", t0*1e6, []byte("x"))
	mustPut(t, s, o)
	mustGet(t, s, o)
	if err := s.ClearDoubt(s.Doubts()[0]); err != nil || len(s.Doubts()) != 0 {
		t.Errorf("after clearing: %v, %v", s.Doubts(), err)
	}
	if _, err := s.Expire(t0+10*testTTL, 100); err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, _, ok := parseStem(strings.TrimSuffix(e.Name, segSuffix)); ok {
			t.Errorf("%s has outlived its slot", e.Name)
		}
	}
}

// A sector that cannot be read costs the records in it.
func TestUnreadableSector(t *testing.T) {
	fsys := vfs.NewMem()
	d, s := openAll(t, fsys, testConfig())
	var all []*testObject
	for i := range 100 {
		o := make1(t, events, t0, fmt.Sprintf("k%d", i), t0*1e6, bytesOf(uint64(i), 1000))
		mustPut(t, s, o)
		all = append(all, o)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	fsys.Inject(func(op vfs.Op) error {
		const bad = 50_000
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, segSuffix) && op.Offset <= bad && bad < op.Offset+op.Bytes {
			return errors.New("input/output error")
		}
		return nil
	})
	_, s = openAll(t, fsys, testConfig())
	lost := 0
	for _, o := range all {
		if err := s.getErr(o, t0); err != nil {
			lost++
		}
	}
	if lost == 0 || lost > 6 {
		t.Errorf("%d of 100 records are lost with one sector", lost)
	}
	if doubts := s.Doubts(); len(doubts) != 1 || doubts[0].Reason != ReasonDamage {
		t.Errorf("doubts %+v", doubts)
	}
}

// A segment under another's name is nobody's: its records are not served.
func TestMisplacedSegment(t *testing.T) {
	fsys, all := aLife(t)
	name := segmentsOf(t, fsys)[0]
	b, err := vfs.ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	late := t0 + 7*testSlot
	if err := vfs.PublishBytes(fsys, segName(segID{laneOf(events, late, testSlot), 0}, Partition{}), b); err != nil {
		t.Fatal(err)
	}
	if _, totals := checkAll(t, fsys); totals.Damage == 0 {
		t.Error("check does not notice")
	}
	_, s := openAll(t, fsys, testConfig())
	for range s.Walk(events, slotAt(late), t0) {
		t.Error("a record in the wrong slot is served")
	}
	if _, count := s.Damage(); count == 0 {
		t.Error("the damage is not listed")
	}
	for _, o := range all {
		mustGet(t, s, o)
	}
}
