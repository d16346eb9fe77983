package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
)

// What was agreed and is in the log, but not yet in the document on disk, is recovered
// with it. A log that leads elsewhere is not.
func TestRecoverWithLog(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a")
	n.cfg.snapshotEvery = 4
	n.mustStart()
	file := filepath.Join(n.cfg.Disks[0].Path, "node", "agreed")
	documents := map[int64][]byte{}
	for i := range int64(9) {
		n.touch(11 + i)
		eventually(t, "it is on disk", func() (err error) {
			documents[11+i], err = os.ReadFile(file)
			if h, parsed := parseEnvelope(documents[11+i]); parsed == nil && h.doc.Settings.LatenessSeconds != 11+i {
				return os.ErrNotExist
			}
			return err
		})
	}
	n.stop()
	whole := n.cfg.Disks[0].Path
	h, err := parseEnvelope(documents[18])
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, result := h.doc.Apply(agreed.Command{Kind: agreed.SetSettings, Now: time.Now().Unix(), Settings: touch(h.doc, 77).Settings})
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	documents[77], err = appendEnvelope(nil, held{elsewhere, h.origin}) // of the same version as 19
	if err != nil {
		t.Fatal(err)
	}
	later, _ := elsewhere.Apply(touch(elsewhere, 78))
	if documents[78], err = appendEnvelope(nil, held{later, h.origin}); err != nil {
		t.Fatal(err)
	}
	for has, want := range map[int64]int64{19: 19, 18: 19, 11: 19, 77: 77, 78: 78} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "node", "agreed"), bytes.Clone(documents[has]), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := n.cfg
		cfg.Disks = []Disk{{Path: dir, ID: n.cfg.Disks[0].ID}}
		doc, err := Recover(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := doc.Settings.LatenessSeconds; got != want || doc.Version.Era != 2 {
			t.Errorf("the document says %d, recovered is %d, as %v; want %d", has, got, doc.Version, want)
		}
	}
}
