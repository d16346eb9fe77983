package sim

import (
	"path"
	"strconv"
	"strings"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// restSeconds is how long ago a slot must have ended for damage to its files: what
// is newer another replica may have lost as well.
const restSeconds = 15

// oldFile returns the name of a file of a slot that ended a while ago, or "".
func (f *faults) oldFile(fsys *vfs.Mem) string {
	now := f.s.timeAt(f.s.now).Unix()
	var old []string
	eachFile(fsys, ".", func(name string) {
		stem, _, ok := strings.Cut(path.Base(name), "-")
		slot, err := strconv.ParseInt(stem, 10, 64)
		if !ok || err != nil || !strings.HasSuffix(name, ".seg") && !strings.HasSuffix(name, ".hint") {
			return
		}
		if (slot+1)*slotSeconds+restSeconds < now {
			old = append(old, name)
		}
	})
	if len(old) == 0 {
		return ""
	}
	return old[f.s.rng.IntN(len(old))]
}

func eachFile(fsys *vfs.Mem, dir string, f func(name string)) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.IsDir {
			eachFile(fsys, name, f)
			continue
		}
		f(name)
	}
}
