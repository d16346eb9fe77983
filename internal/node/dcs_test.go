package node

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

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
