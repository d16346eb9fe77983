package bitcask

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// killedDirEnv names the directory in which the test binary, run as a child,
// puts records until it is killed.
const killedDirEnv = "BITCASK_TEST_KILLED_DIR"

func killedObject(t testing.TB, round, writer, i int) *testObject {
	b := events.synced(Sync(writer % 3))
	return make1(t, b, t0+int64(i/20%30), fmt.Sprintf("r%d:w%d:%d", round, writer, i), t0*1e6, bytesOf(uint64(i), i*37%20_000))
}

// TestHelperKilled is the child: it prints the name of each put that was
// acknowledged. By itself it does nothing.
func TestHelperKilled(t *testing.T) {
	dir := os.Getenv(killedDirEnv)
	if dir == "" {
		return
	}
	var round int
	if _, err := fmt.Sscan(os.Getenv(killedDirEnv+"_ROUND"), &round); err != nil {
		t.Fatal(err)
	}
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.BootID = vfs.BootID()
	cfg.MaxSegmentBytes = 1 << 20
	_, s := openAll(t, fsys, cfg)
	var wg sync.WaitGroup
	var out sync.Mutex
	for w := range 6 {
		wg.Go(func() {
			for i := 0; ; i++ {
				o := killedObject(t, round, w, i)
				if _, err := s.putTest(o); err != nil {
					t.Error(err)
					return
				}
				out.Lock()
				fmt.Println("acked", w, i)
				out.Unlock()
				if w == 0 && i%100 == 99 {
					if err := s.Seal(events, slotAt(o.epoch)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestKilled kills a process in mid-stream, again and again on one directory:
// nothing it acknowledged is missing, and check finds nothing.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	acked := map[string]*testObject{}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperKilled$")
		cmd.Env = append(os.Environ(), killedDirEnv+"="+dir, fmt.Sprintf("%s_ROUND=%d", killedDirEnv, round))
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		n := 0
		for lines.Scan() {
			var w, i int
			if _, err := fmt.Sscanf(lines.Text(), "acked %d %d", &w, &i); err != nil {
				if !strings.Contains(lines.Text(), "acked") { // the last line may be cut off
					t.Error(lines.Text())
				}
				continue
			}
			o := killedObject(t, round, w, i)
			acked[o.key] = o
			if n == 0 { // while it lives, the directory is its own
				_, err := OpenDisk(fsys, testConfig(), 0)
				wantErr(t, err, vfs.ErrLocked, "opening a directory in use")
				if !strings.Contains(err.Error(), fmt.Sprint("process ", cmd.Process.Pid)) {
					t.Errorf("%q does not say by whom", err)
				}
			}
			if n++; n == 200+round*77 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if n < 200 {
			t.Fatalf("the child ended by itself after %d puts", n)
		}
		if _, err := Check(fsys, CheckOptions{Hash: testHash, BootID: vfs.BootID()}, func(f Finding) bool {
			if f.Severity == SeverityDamage {
				t.Errorf("round %d: check: %+v", round, f)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		cfg := testConfig()
		cfg.BootID = vfs.BootID()
		d, s := openAll(t, fsys, cfg)
		for _, o := range acked {
			if err := s.getErr(o, t0); err != nil {
				t.Fatalf("round %d: %q is missing: %v", round, o.key, err)
			}
		}
		if doubts := s.Doubts(); len(doubts) != 0 {
			t.Errorf("round %d: doubts %+v", round, doubts)
		}
		if st := d.Stats(); st.Holes > 0 || st.TornTails > 0 {
			t.Logf("round %d: %d unfinished puts are marked, %d cut off", round, st.Holes, st.TornTails)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range Dump(fsys, "") {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n < len(acked) {
		t.Errorf("dumped %d records of %d", n, len(acked))
	}
}
