package node

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// TestBucketsAreRemembered: a smaller quorum once used is never forgotten, and
// what is fixed cannot change behind the data's back.
func TestBucketsAreRemembered(t *testing.T) {
	path := t.TempDir()
	dir, err := vfs.MakeDir(path)
	if err == nil {
		err = dir.MkdirAll(nodeDir)
	}
	if err != nil {
		t.Fatal(err)
	}
	declare := func(d bucket.Declaration) *bucket.Set {
		t.Helper()
		d.Name = "notes"
		s, err := bucket.DefaultSet().Declare(d)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	open := func(s *bucket.Set) bucket.Properties {
		t.Helper()
		got, err := openBuckets(dir, s)
		if err != nil {
			t.Fatal(err)
		}
		return got.Lookup(bucket.DefaultType, "notes")
	}
	open(declare(bucket.Declaration{W: new(1), TTLSeconds: new(int64(60))}))
	if p := open(declare(bucket.Declaration{W: new(2)})); p.W != 2 || p.SmallestW != 1 || p.TTLSeconds != 0 {
		t.Errorf("after w=1, then w=2: %+v", p)
	}
	open(declare(bucket.Declaration{W: new(2), TTLSeconds: new(int64(90))}))
	if p := open(bucket.DefaultSet()); p.W != 2 || p.SmallestW != 1 || p.TTLSeconds != 90 {
		t.Errorf("no longer configured: %+v", p)
	}
	for _, d := range []bucket.Declaration{{Timed: new(true)}, {WriteOnce: new(true)}, {N: new(5)}} {
		if _, err := openBuckets(dir, declare(d)); !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("a change of what is fixed: %v", err)
		}
	}
	for _, damage := range []string{"", "\xdd\xff\xff\xff\xff", "\x91\x01"} {
		if err := os.WriteFile(filepath.Join(path, bucketsName), []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := openBuckets(dir, bucket.DefaultSet()); err == nil {
			t.Errorf("a damaged file %q passed", damage)
		}
	}
}

// TestDCsAreRemembered: and a damaged list is an empty one.
func TestDCsAreRemembered(t *testing.T) {
	path := t.TempDir()
	dir, err := vfs.MakeDir(path)
	if err == nil {
		err = dir.MkdirAll(nodeDir)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDCs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fra", "ams", "fra"} {
		if err := d.add(name); err != nil {
			t.Fatal(err)
		}
	}
	if d, err = openDCs(dir); err != nil || len(d.names()) != 2 || d.names()[0] != "ams" {
		t.Errorf("%q, %v", d.names(), err)
	}
	for i := range maxDCs - 2 {
		d.all[strconv.Itoa(i)] = struct{}{}
	}
	if err := d.add("one-too-many"); err == nil || len(d.all) != maxDCs {
		t.Errorf("%d data centres, %v", len(d.names()), err)
	}
	if err := os.WriteFile(filepath.Join(path, dcsName), []byte("a:b\n\x00\nok\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err = openDCs(dir); err != nil || len(d.names()) != 1 {
		t.Errorf("%q, %v", d.names(), err)
	}
}
