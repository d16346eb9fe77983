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

// A slotFile is a file of a slot.
type slotFile struct {
	name string
	slot int64
}

// oldFile returns a file of a slot that ended a while ago, or none.
func (f *faults) oldFile(fsys *vfs.Mem) (none slotFile) {
	now := f.s.timeAt(f.s.now).Unix()
	var old []slotFile
	eachFile(fsys, ".", func(name string) {
		stem, _, ok := strings.Cut(path.Base(name), "-")
		slot, err := strconv.ParseInt(stem, 10, 64)
		if !ok || err != nil || !strings.HasSuffix(name, ".seg") && !strings.HasSuffix(name, ".hint") {
			return
		}
		if (slot+1)*slotSeconds+restSeconds < now {
			old = append(old, slotFile{name, slot})
		}
	})
	if len(old) == 0 {
		return none
	}
	return old[f.s.rng.IntN(len(old))]
}

// mayHaveDamaged reports whether a bit has flipped in a node's files of a slot.
func (f *faults) mayHaveDamaged(n *node, slot int64) bool { return n == f.bad && f.flipped[slot] }

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
