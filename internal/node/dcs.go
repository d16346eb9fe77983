package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// maxDCs bounds how many data centres a node remembers by name. A tail of all
// data centres follows these; a tail that names one follows that one anyway.
const maxDCs = 1024

const (
	dcsName     = nodeDir + "/dcs"
	maxDCsBytes = maxDCs * (event.MaxNameBytes + 1)
)

// A dcSet is the data centres that the node has seen entries of, kept in a file
// of one name a line, so that a tail from yesterday finds them after a restart.
type dcSet struct {
	dir vfs.FS

	mu   sync.Mutex // held while the file is written
	all  map[string]struct{}
	list atomic.Pointer[[]string] // ascending; not modified once made
}

// openDCs reads the names kept in the directory. A damaged file is an empty
// one: the names come back with the next entries.
func openDCs(dir vfs.FS) (*dcSet, error) {
	d := &dcSet{dir: dir, all: make(map[string]struct{})}
	b, err := vfs.ReadFile(dir, dcsName, maxDCsBytes)
	if err != nil && !vfs.IsNotExist(err) {
		return nil, fmt.Errorf("read the list of data centres: %w", err)
	}
	for name := range strings.Lines(string(b)) {
		if name = strings.TrimSuffix(name, "\n"); event.ValidName(name) && len(d.all) < maxDCs {
			d.all[name] = struct{}{}
		}
	}
	d.relist()
	return d, nil
}

// add notes a data centre. A new one is on disk when add returns; an error says
// that it may be forgotten at the next start.
func (d *dcSet) add(dc string) error {
	if _, known := slices.BinarySearch(d.names(), dc); known {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.all[dc]; known {
		return nil
	}
	if len(d.all) >= maxDCs {
		return fmt.Errorf("there are %d data centres already: a tail of all of them will pass over %q", maxDCs, dc)
	}
	d.all[dc] = struct{}{}
	d.relist()
	return vfs.PublishBytes(d.dir, dcsName, []byte(strings.Join(d.names(), "\n")+"\n"))
}

func (d *dcSet) relist() {
	list := slices.Sorted(maps.Keys(d.all))
	d.list.Store(&list)
}

// names returns the data centres in ascending order. The slice is shared.
func (d *dcSet) names() []string { return *d.list.Load() }
