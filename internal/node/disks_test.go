package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
)

// twoDisks is a node on two disks and plain objects on both.
func twoDisks(t *testing.T) (cfg Config, all []object.Record) {
	t.Helper()
	base := t.TempDir()
	cfg = testConfig(t, filepath.Join(base, "d1"))
	cfg.Data = append(cfg.Data, filepath.Join(base, "d2"))
	n := start(t, cfg)
	for i := range 40 {
		rec := record(t, "notes", fmt.Sprint("k", i), fmt.Sprint("v", i))
		if err := n.Store().Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	stop(t, n)
	return cfg, all
}

// served counts the objects that the node serves; the others must be refused as a
// failing disk's: neither absent nor wrong.
func served(t *testing.T, n *Node, all []object.Record) (found int) {
	t.Helper()
	for _, rec := range all {
		value, err := get(n, rec)
		switch {
		case err == nil && value == string(rec.Value()):
			found++
		case errors.Is(err, object.CodeAbsent) || err == nil:
			t.Errorf("%s: %q, %v: what is on a disk that is not there must not be absent", rec.Key, value, err)
		}
		err = n.Store().Put(t.Context(), rec)
		if (err == nil) != (value != "") {
			t.Errorf("%s: got %q, and putting it again gives %v", rec.Key, value, err)
		}
	}
	return found
}

// failedFigures returns what the metrics say of each disk.
func failedFigures(t *testing.T, n *Node) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(n.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, f := range families {
		if f.GetName() != "mayfly_disk_failed" {
			continue
		}
		for _, m := range f.GetMetric() {
			said = append(said, fmt.Sprint(filepath.Base(m.GetLabel()[0].GetValue()), "=", m.GetGauge().GetValue()))
		}
	}
	return strings.Join(said, " ")
}

// TestFailedDisk: a disk that cannot be used takes its partitions with it and
// nothing else, whichever it is and however it fails; an empty directory in its
// place is not taken for it; back again, it has everything.
func TestFailedDisk(t *testing.T) {
	for _, which := range []int{0, 1} {
		for name, breakIt := range map[string]func(t *testing.T, dir string){
			"not a directory": func(t *testing.T, dir string) {
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			"not mounted: an empty directory": func(t *testing.T, dir string) {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			},
			"not mounted: no directory": func(*testing.T, string) {},
			"its identity is damaged": func(t *testing.T, dir string) {
				if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "mayfly-disk"), []byte("MAYFLYDK\x01"), 0o600)); err != nil {
					t.Fatal(err)
				}
			},
		} {
			if which == 1 && !strings.Contains(name, "an empty") {
				continue // the first disk is the harder one: it holds the node's own files
			}
			t.Run(fmt.Sprint(which, name), func(t *testing.T) {
				cfg, all := twoDisks(t)
				dir := cfg.Data[which]
				if err := os.Rename(dir, dir+".away"); err != nil {
					t.Fatal(err)
				}
				breakIt(t, dir)
				n := start(t, cfg)
				found := served(t, n, all)
				if found == 0 || found == len(all) {
					t.Errorf("%d of %d objects are served", found, len(all))
				}
				if said, want := failedFigures(t, n), fmt.Sprintf("d1=%d d2=%d", 1-which, which); said != want {
					t.Errorf("the metrics say %s, want %s", said, want)
				}
				stop(t, n)
				if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
					t.Fatal(err)
				}
				n = start(t, cfg)
				if found := served(t, n, all); found != len(all) {
					t.Errorf("%d of %d objects are served with both disks", found, len(all))
				}
				stop(t, n)
			})
		}
	}
}

// A disk that is left out of the configuration is missing, not given up.
func TestDiskLeftOut(t *testing.T) {
	cfg, all := twoDisks(t)
	both := cfg.Data
	cfg.Data = both[1:]
	n := start(t, cfg)
	if found := served(t, n, all); found == 0 || found == len(all) {
		t.Errorf("%d of %d objects are served", found, len(all))
	}
	stop(t, n)
	// Given up by hand, its partitions begin anew.
	if err := os.Remove(filepath.Join(both[1], disksName)); err != nil {
		t.Fatal(err)
	}
	n = start(t, cfg)
	for _, rec := range all {
		if err := n.Store().Put(t.Context(), rec); err != nil {
			t.Errorf("%s: %v", rec.Key, err)
		}
	}
	stop(t, n)
}

// A node with no disk of its own does not start on the rest, and a directory of
// another node is a mistake, not a failure.
func TestNoDiskVouches(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, filepath.Join(base, "new"))
	cfg.Data = append(cfg.Data, file)
	if n, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "file") {
		stop(t, n)
		t.Errorf("a new node with a disk that cannot be used: %v", err)
	}
	cfg, _ = twoDisks(t)
	other := testConfig(t, filepath.Join(base, "other"))
	stop(t, start(t, other))
	cfg.Data[1] = other.Data[0]
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "name the directories of one node") {
		t.Errorf("another node's directory: %v", err)
	}
}

// A clock that says ten years from now, at the start or while the node runs, is not
// trusted: nothing is unlinked by it, though reads go by it.
func TestClockTenYearsAhead(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	n := start(t, cfg)
	rec := blob(t, time.Now().Unix()-1, 0, "value")
	if err := n.Store().Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	stop(t, n)
	far := time.Now().AddDate(10, 0, 0)
	n = start(t, cfg)
	for name, verdict := range map[string]expiry.Verdict{
		"at the start": expiry.NewTrust(expiry.TrustConfig{}, n.newestEpoch()).Observe(far, 0),
		"a jump":       jumped(n.newestEpoch(), far),
	} {
		if verdict.Trusted() {
			t.Fatalf("%s: %v", name, verdict)
		}
		n.maintain(t.Context(), far, verdict.Trusted())
	}
	segments, err := filepath.Glob(filepath.Join(cfg.Data[0], "*", "*", "*.seg"))
	if err != nil || len(segments) < 2 {
		t.Errorf("segments left: %q, %v", segments, err)
	}
	if value, err := get(n, rec); err != nil || value != "value" {
		t.Errorf("%q, %v", value, err)
	}
}

// jumped is the verdict on a clock that was right and then is not.
func jumped(newest int64, to time.Time) expiry.Verdict {
	trust := expiry.NewTrust(expiry.TrustConfig{}, newest)
	trust.Observe(time.Now(), 0)
	return trust.Observe(to, time.Second)
}
