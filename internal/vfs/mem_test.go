package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
)

func rng(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

// After a loss of power what was synced is there, what was not may be, in every
// combination; bytes that nobody wrote never are.
func TestPowerCutBytes(t *testing.T) {
	const pages = 4
	old, fresh := bytes.Repeat([]byte{1}, pages*pageSize), bytes.Repeat([]byte{2}, (pages+2)*pageSize)
	seen := map[string]bool{}
	for seed := range 400 {
		m := NewMem()
		must(t, PublishBytes(m, "f", old))
		f, err := m.OpenReadWrite("f")
		must(t, err)
		write(t, f, 0, string(fresh[:pageSize]))
		write(t, f, 2*pageSize, string(fresh[2*pageSize:]))
		after, err := ReadFile(m.PowerCut(rng(seed)), "f", 1<<20)
		must(t, err)
		if len(after) < len(old) || len(after) > len(fresh) {
			t.Fatalf("seed %d: %d bytes", seed, len(after))
		}
		var shape strings.Builder
		for p := range pages + 2 {
			page := after[min(p*pageSize, len(after)):min((p+1)*pageSize, len(after))]
			switch {
			case p == 1 && !bytes.Equal(page, old[:pageSize]):
				t.Fatalf("seed %d: the page that was not written has changed", seed)
			case len(page) == 0:
				shape.WriteString("-")
			case bytes.IndexByte(page, 2) < 0:
				shape.WriteString("o") // old, or never written
			case bytes.IndexByte(page, 1) < 0 && bytes.IndexByte(page, 0) < 0:
				shape.WriteString("n")
			default:
				shape.WriteString("t") // torn
			}
			for i, b := range page {
				if b > 2 || b == 0 && p < pages || b == 1 && p >= pages {
					t.Fatalf("seed %d: byte %d of page %d is %d", seed, i, p, b)
				}
			}
		}
		seen[shape.String()] = true
		must(t, f.Sync())
		synced, err := ReadFile(m.PowerCut(rng(seed)), "f", 1<<20)
		must(t, err)
		if !bytes.Equal(synced[:pageSize], fresh[:pageSize]) || !bytes.Equal(synced[2*pageSize:], fresh[2*pageSize:]) {
			t.Fatalf("seed %d: synced bytes are lost", seed)
		}
	}
	for _, want := range []string{"oooo--", "nonnnn", "oono--"} {
		if !seen[want] {
			t.Errorf("the outcome %s never came: %v", want, seen)
		}
	}
	torn := false
	for shape := range seen {
		torn = torn || strings.Contains(shape, "t")
	}
	if !torn || len(seen) < 20 {
		t.Errorf("too few outcomes: %v", seen)
	}
}

// Names need their directory's sync, whatever was done to the file.
func TestPowerCutNames(t *testing.T) {
	seen := map[string]bool{}
	for seed := range 300 {
		m := NewMem()
		must(t, m.MkdirAll("d"))
		must(t, PublishBytes(m, "d/kept", []byte("k")))
		must(t, PublishBytes(m, "d/removed", []byte("r")))
		must(t, PublishBytes(m, "d/replaced", []byte("old")))
		f, err := m.Create("d/made")
		must(t, err)
		must(t, f.Sync())
		must(t, m.Remove("d/removed"))
		g, err := m.Create("d/tmp")
		must(t, err)
		write(t, g, 0, "new")
		must(t, g.Sync())
		must(t, m.Rename("d/tmp", "d/replaced"))
		cut := m.PowerCut(rng(seed))
		if got := content(t, cut, "d/replaced"); got != "old" && got != "new" {
			t.Fatalf("seed %d: replaced has %q", seed, got)
		}
		if content(t, cut, "d/kept") != "k" {
			t.Fatalf("seed %d: a durable name is lost", seed)
		}
		var shape strings.Builder
		for _, name := range []string{"d/made", "d/removed"} {
			_, err := cut.Stat(name)
			shape.WriteString(fmt.Sprint(err == nil, " "))
		}
		seen[shape.String()+content(t, cut, "d/replaced")] = true
		must(t, m.SyncDir("d"))
		cut = m.PowerCut(rng(seed))
		if _, err := cut.Stat("d/made"); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := cut.Stat("d/removed"); !IsNotExist(err) {
			t.Fatalf("seed %d: removed: %v", seed, err)
		}
		if content(t, cut, "d/replaced") != "new" {
			t.Fatalf("seed %d: the rename is lost", seed)
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d outcomes of 8: %v", len(seen), seen)
	}
}

// A killed process leaves everything it wrote, and what it had not synced is
// still at risk.
func TestKillKeepsWhatIsUnsynced(t *testing.T) {
	m := NewMem()
	f, err := m.Create("f")
	must(t, err)
	write(t, f, 0, "written")
	killed := m.Kill()
	write(t, f, 0, "WRITTEN")
	if got := content(t, killed, "f"); got != "written" {
		t.Errorf("got %q", got)
	}
	lost := false
	for seed := range 50 {
		if _, err := killed.PowerCut(rng(seed)).Stat("f"); err != nil {
			lost = true
		}
	}
	if !lost {
		t.Error("what was not synced survives a power cut every time")
	}
}

// Publish leaves the old file or the new one, whole, at whatever operation it
// crashes.
func TestPublishCrashes(t *testing.T) {
	old, fresh := bytes.Repeat([]byte("old"), 3000), bytes.Repeat([]byte("fresh"), 4000)
	for k := 0; ; k++ {
		m := NewMem()
		must(t, m.MkdirAll("d"))
		must(t, PublishBytes(m, "d/f", old))
		m.CrashAt(k)
		err := PublishBytes(m, "d/f", fresh)
		if !m.Crashed() {
			must(t, err)
			if k < 4 {
				t.Errorf("publishing is only %d operations", k)
			}
			return
		}
		if !errors.Is(err, ErrCrashed) {
			t.Fatalf("operation %d: %v", k, err)
		}
		if _, err := m.Open("d/f"); err != ErrCrashed {
			t.Fatalf("a crashed file system answers: %v", err)
		}
		for seed := range 20 {
			after := m.Kill()
			if seed > 0 {
				after = m.PowerCut(rng(seed))
			}
			got, err := ReadFile(after, "d/f", 1<<20)
			must(t, err)
			if !bytes.Equal(got, old) && !bytes.Equal(got, fresh) {
				t.Fatalf("operation %d, seed %d: %d bytes that are neither", k, seed, len(got))
			}
			must(t, PublishBytes(after, "d/f", fresh)) // a leftover is not in the way
			if content(t, after, "d/f") != string(fresh) {
				t.Fatal("published, and not there")
			}
		}
	}
}

// A failed publication leaves the old file and no other.
func TestPublishFails(t *testing.T) {
	for _, kind := range []OpKind{OpCreate, OpWrite, OpSync, OpRename} {
		m := NewMem()
		must(t, PublishBytes(m, "f", []byte("old")))
		m.Inject(func(op Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		if err := PublishBytes(m, "f", []byte("new")); !errors.Is(err, syscall.EIO) {
			t.Errorf("failing at %d: %v", kind, err)
		}
		m.Inject(nil)
		entries, err := m.ReadDir(".")
		if err != nil || len(entries) != 1 || content(t, m, "f") != "old" {
			t.Errorf("failing at %d: left %+v, %v", kind, entries, err)
		}
	}
}

// Pages that a failed sync dropped are not made durable by the next one.
func TestFailedSyncLosesPages(t *testing.T) {
	m := NewMem()
	must(t, PublishBytes(m, "f", make([]byte, 3*pageSize)))
	f, err := m.OpenReadWrite("f")
	must(t, err)
	write(t, f, 0, "lost")
	m.Inject(func(op Op) error {
		if op.Kind == OpSync {
			return syscall.EIO
		}
		return nil
	})
	if err := f.Sync(); err != syscall.EIO {
		t.Fatal(err)
	}
	m.Inject(nil)
	write(t, f, 2*pageSize, "kept")
	must(t, f.Sync())
	if !strings.HasPrefix(content(t, m, "f"), "lost") {
		t.Error("the bytes cannot be read any more")
	}
	lost := false
	for seed := range 50 {
		got := content(t, m.PowerCut(rng(seed)), "f")
		lost = lost || !strings.HasPrefix(got, "lost")
		if got[2*pageSize:][:4] != "kept" {
			t.Fatal("bytes written and synced after it are lost")
		}
	}
	if !lost {
		t.Error("a failed sync has lost nothing")
	}
}

// A full disk takes what fits, and has room again when something is removed.
func TestCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(1000)
	must(t, PublishBytes(m, "a", make([]byte, 600)))
	f, err := m.Create("b")
	must(t, err)
	n, err := f.WritevAt([][]byte{make([]byte, 300), make([]byte, 300)}, 0)
	if n != 400 || !IsNoSpace(err) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := f.WritevAt([][]byte{make([]byte, 100)}, 300); n != 100 || err != nil {
		t.Errorf("overwrote %d, %v", n, err)
	}
	if free, total, _ := m.Space(); free != 0 || total != 1000 {
		t.Errorf("%d of %d free", free, total)
	}
	must(t, m.Remove("a"))
	must(t, f.Truncate(100))
	if free, _, _ := m.Space(); free != 900 {
		t.Errorf("%d free", free)
	}
	if clone := m.Kill(); clone.used != m.used {
		t.Errorf("the clone counts %d bytes", clone.used)
	}
}

// A crashed write is done in part, at most.
func TestCrashedWrite(t *testing.T) {
	lengths := map[int]bool{}
	for k := range 60 {
		m := NewMem()
		f, err := m.Create("f")
		must(t, err)
		for range k {
			write(t, f, 0, "x")
		}
		m.CrashAt(0)
		if n, err := f.WritevAt([][]byte{[]byte("0123456789")}, 0); err != ErrCrashed || n > 10 {
			t.Fatalf("%d, %v", n, err)
		}
		if err := f.Sync(); err != ErrCrashed {
			t.Fatal(err)
		}
		got := content(t, m.Kill(), "f")
		if got != "x" && !strings.HasPrefix("0123456789", got) {
			t.Fatalf("left %q", got)
		}
		lengths[len(got)] = true
	}
	if len(lengths) < 5 {
		t.Errorf("lengths %v", lengths)
	}
}

// A directory that is there, but whose name a crash or a failed sync has left
// undurable, is made durable by the next MkdirAll. A file that was cut is found at
// a length between the old and the new.
func TestMkdirAllMakesDurable(t *testing.T) {
	m := NewMem()
	failing := true
	m.Inject(func(op Op) error {
		if op.Kind == OpSyncDir && failing {
			return syscall.EIO
		}
		return nil
	})
	if err := m.MkdirAll("a/b"); err == nil {
		t.Fatal("a failed sync is not told of")
	}
	failing = false
	after := m.Kill()
	if err := after.MkdirAll("a/b"); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		if _, err := after.PowerCut(rand.New(rand.NewPCG(seed, 1))).Stat("a/b"); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestPowerCutAfterTruncation(t *testing.T) {
	m := NewMem()
	if err := PublishBytes(m, "f", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	f, err := m.OpenReadWrite("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(900); err != nil {
		t.Fatal(err)
	}
	seen := map[bool]bool{}
	for seed := range uint64(100) {
		e, err := m.PowerCut(rand.New(rand.NewPCG(seed, 1))).Stat("f")
		if err != nil || e.SizeBytes < 900 || e.SizeBytes > 1000 {
			t.Fatalf("seed %d: %d bytes, %v", seed, e.SizeBytes, err)
		}
		seen[e.SizeBytes < 1000] = true
	}
	if len(seen) != 2 {
		t.Error("the cut always survives, or never")
	}
}
