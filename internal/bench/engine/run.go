package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflydb/mayfly/internal/bench"
)

// A runner does the works of one Run and collects what they found.
type runner struct {
	Options
	dir    string
	work   string
	part   int64 // of what a full run does, one in that many is done
	made   int   // directories
	report Report
	done   int
	total  int
}

// Run does the chosen works one after the other. What was measured before an
// error, or before ctx ended, is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	chosen, err := o.chosen()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "mayfly-bench-")
	if err != nil {
		return nil, err
	}
	r := &runner{Options: o, dir: dir, part: 1}
	if o.Quick {
		r.part = cmp.Or(o.part, 50)
	}
	r.Pairs = max(r.Pairs, 1)
	r.report = Report{Quick: o.Quick, Machine: machine(dir), Began: time.Now().UTC()}
	r.total = len(chosen)
	for _, w := range chosen {
		r.work = w.name
		r.tell()
		if err = w.run(ctx, r); err != nil {
			err = fmt.Errorf("%s: %w", w.name, err)
			break
		}
		r.done++
		debug.FreeOSMemory()
	}
	r.tell()
	r.report.Seconds = time.Since(r.report.Began).Seconds()
	return &r.report, errors.Join(err, os.RemoveAll(dir))
}

func (r *runner) tell() {
	if r.Progress != nil {
		r.Progress(r.work, r.done, r.total)
	}
}

// steps announces that a work has n steps, of which each ends with step.
func (r *runner) steps(n int) { r.total += n }

func (r *runner) step() {
	r.done++
	r.tell()
}

// scale returns n, or a small part of it in a quick run.
func (r *runner) scale(n int64) int64 {
	return max(n/r.part, min(n, 8))
}

// some returns the cases of a work, in tests one of them.
func some[C any](r *runner, cases []C) []C {
	if r.part > 1000 {
		return cases[:1]
	}
	return cases
}

// fresh returns the path of a directory that does not exist yet.
func (r *runner) fresh() string {
	r.made++
	return filepath.Join(r.dir, strconv.Itoa(r.made))
}

func (r *runner) figure(what string, value float64, unit string, bound float64, note string) {
	r.report.Figures = append(r.report.Figures, Figure{r.work, what, value, unit, bound, note})
}

// machine describes where this runs, without naming it.
func machine(dir string) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var st unix.Statfs_t
	_ = unix.Statfs(dir, &st)
	kind := map[int64]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs"}[int64(st.Type)]
	if kind == "" {
		kind = fmt.Sprintf("file system %#x", st.Type)
	}
	return fmt.Sprintf("%d CPUs, %s, %s, Linux %s", runtime.NumCPU(), kind, runtime.Version(), unix.ByteSliceToString(u.Release[:]))
}

// touch makes the operating system give this machine that much memory, or less in
// a quick run, so that the page cache finds it later. Where it cannot, the run is
// slower at first.
func (r *runner) touch(sizeBytes int64) { _ = bench.TouchMemory(r.scale(sizeBytes)) }
