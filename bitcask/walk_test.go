package bitcask

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// onHint is a file system that runs a function when a hint is opened or read.
type onHint struct {
	vfs.FS
	opened, read *func()
}

type onHintFile struct {
	vfs.File
	read *func()
}

func (o onHint) Open(name string) (vfs.File, error) {
	once(o.opened)
	f, err := o.FS.Open(name)
	return onHintFile{f, o.read}, err
}

func (f onHintFile) ReadAt(b []byte, off int64) (int, error) {
	once(f.read)
	return f.File.ReadAt(b, off)
}

func once(f *func()) {
	if run := *f; run != nil {
		*f = nil
		run()
	}
}

// TestDigestsSealedMeanwhile: a segment whose hint is damaged may be scanned and sealed
// anew by others while its sums are asked for. They are the same as before.
func TestDigestsSealedMeanwhile(t *testing.T) {
	for _, when := range []string{"opened", "read"} {
		t.Run(when, func(t *testing.T) {
			var opened, read func()
			fsys := onHint{vfs.NewMem(), &opened, &read}
			d, s := openAll(t, fsys, testConfig())
			for i := range 10 {
				mustPut(t, s, make1(t, events, t0, fmt.Sprint(i), t0*1e6, nil))
			}
			want, err := s.Digests(events, slotAt(t0))
			if err != nil || len(want) == 0 {
				t.Fatal(want, err)
			}
			if err := s.Seal(events, slotAt(t0)); err != nil {
				t.Fatal(err)
			}
			l, err := s.lane(laneFor(events, slotAt(t0)), false)
			if err != nil {
				t.Fatal(err)
			}
			hint := l.segs[0].sealed.Load()
			d.handles.closeIdle()
			edit(t, fsys, hint.file.name, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
			meanwhile := func() {
				if err := l.unseal(l.segs[0], hint, badFormat(0, "damaged")); err != nil {
					t.Error(err)
				}
				if err := s.Seal(events, slotAt(t0)); err != nil {
					t.Error(err)
				}
			}
			*map[string]*func(){"opened": &opened, "read": &read}[when] = meanwhile
			if got, err := s.Digests(events, slotAt(t0)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
			if opened != nil || read != nil {
				t.Error("the hint was not read")
			}
		})
	}
}
