package bitcask

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// Each refusal of a directory is a sentence that says what to do, and changes
// nothing.
func TestRefusals(t *testing.T) {
	ours := func() *vfs.Mem {
		fsys := vfs.NewMem()
		d, _ := openAll(t, fsys, testConfig())
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return fsys
	}
	with := func(change func(*Config)) Config {
		cfg := testConfig()
		change(&cfg)
		return cfg
	}
	readOnly := ours()
	readOnly.Inject(func(op vfs.Op) error {
		if op.Kind <= vfs.OpSyncDir {
			return &os.PathError{Op: "open", Path: op.Name, Err: syscall.EROFS}
		}
		return nil
	})
	full := vfs.NewMem()
	full.Inject(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return &os.PathError{Op: "write", Path: op.Name, Err: syscall.ENOSPC}
		}
		return nil
	})
	foreign := vfs.NewMem()
	if err := vfs.PublishBytes(foreign, "holiday.jpg", []byte("x")); err != nil {
		t.Fatal(err)
	}
	headless := ours()
	if err := headless.Remove(identityName); err != nil {
		t.Fatal(err)
	}
	damaged, otherFormat := ours(), ours()
	edit(t, damaged, identityName, func(b []byte) []byte { b[40] ^= 1; return b })
	edit(t, otherFormat, identityName, func(b []byte) []byte { b[8] = 2; return b })
	for _, tc := range []struct {
		name string
		fs   *vfs.Mem
		cfg  Config
		want []string
	}{
		{"another cluster", ours(), with(func(c *Config) { c.Cluster = ID{9} }), []string{"belongs to cluster 0100", "this node's own"}},
		{"another node", ours(), with(func(c *Config) { c.Node = ID{9} }), []string{"belongs to node 0200", "this node's own"}},
		{"another slot length", ours(), with(func(c *Config) { c.SlotSeconds = 3600 }), []string{"slots of 10 seconds", "3600", "set it back"}},
		{"another format", otherFormat, testConfig(), []string{"another format", "version of mayfly that wrote it"}},
		{"a damaged identity", damaged, testConfig(), []string{"is damaged", "restore it"}},
		{"no identity", headless, testConfig(), []string{"holds data of mayfly but not", "restore that file"}},
		{"somebody else's files", foreign, testConfig(), []string{"not empty", "holiday.jpg", "name an empty one"}},
		{"read-only", readOnly, testConfig(), []string{"read-only", "mount it for writing"}},
		{"full", full, testConfig(), []string{"cannot be written"}},
	} {
		before := tree(t, tc.fs)
		d, err := OpenDisk(tc.fs, tc.cfg, 0)
		if err == nil {
			_ = d.Close()
			t.Errorf("%s: not refused", tc.name)
			continue
		}
		var refused *IdentityError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %T %v", tc.name, err, err)
		}
		for _, words := range tc.want {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %q does not say %q", tc.name, err, words)
			}
		}
		if after := tree(t, tc.fs); after != before && tc.name != "full" {
			t.Errorf("%s: the directory was changed:\n%s\n%s", tc.name, before, after)
		}
	}
}

func tree(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	var b strings.Builder
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name == lockName {
				continue
			}
			b.WriteString(dir + "/" + e.Name + " ")
			if e.IsDir {
				walk(dir + "/" + e.Name)
			}
		}
	}
	walk(".")
	return b.String()
}

// The configuration's faults are all said at once.
func TestConfigFaults(t *testing.T) {
	err := Config{SlotSeconds: -1, MaxHandles: 3, MaxSegmentBytes: 1 << 60, MinFreeBytes: -1}.Validate()
	for _, words := range []string{"cluster", "node", "hash", "slot of -1", "handles", "segments of", "reserve"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not speak of %q", err, words)
		}
	}
	if err := testConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// A directory serves one opening at a time, in one process too.
func TestOneUser(t *testing.T) {
	dir := t.TempDir()
	fsys, err := vfs.MakeDir(filepath.Join(dir, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	d := openDisk(t, fsys, testConfig())
	_, err = OpenDisk(fsys, testConfig(), 0)
	wantErr(t, err, vfs.ErrLocked, "a second opening")
	if !strings.Contains(err.Error(), "in use (the lock is held by process") {
		t.Errorf("%q does not say by whom", err)
	}
	if _, err := Check(fsys, CheckOptions{}, func(Finding) bool { return true }); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("check of a directory in use: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	first := d.Identity()
	d = openDisk(t, fsys, testConfig())
	if d.Identity() != first || first.Disk == (ID{}) || first.CreatedMicros != t0*1e6 {
		t.Errorf("identity %+v, was %+v", d.Identity(), first)
	}
	if err := d.Close(); err != nil || d.Close() != nil {
		t.Error("closing twice")
	}
	_, err = d.Store(Partition{})
	wantErr(t, err, ErrStopping, "a store of a closed disk")
}

// A crash while the first directory is made leaves one that can be made.
func TestCrashAtBirth(t *testing.T) {
	for k := 0; ; k++ {
		fsys := vfs.NewMem()
		fsys.CrashAt(k)
		d, err := OpenDisk(fsys, testConfig(), 0)
		if err == nil {
			_ = d.Close()
		}
		if !fsys.Crashed() {
			return
		}
		for _, after := range []*vfs.Mem{fsys.Kill(), fsys.PowerCut(newRand(k))} {
			d, err := OpenDisk(after, testConfig(), 0)
			if err != nil {
				t.Fatalf("crash at operation %d: %v", k, err)
			}
			_ = d.Close()
		}
	}
}
