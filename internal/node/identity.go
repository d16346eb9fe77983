package node

import (
	"errors"
	"fmt"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// nodeDir holds the node's own small files, on its first disk.
const nodeDir = "node"

// whoAmI returns the node id that the data directories hold. New directories
// join the node of the others; if all are new, so is the node, and has no id, the
// zero one, until it is introduced to its cluster. Directories of two nodes are
// refused.
func whoAmI(dirs []vfs.FS, cfg Config) (ring.NodeID, error) {
	var me ring.NodeID
	var from string
	for _, d := range dirs {
		id, err := bitcask.ReadIdentity(d)
		switch {
		case vfs.IsNotExist(errors.Unwrap(err)):
			continue
		case err != nil:
			return ring.NodeID{}, err
		case me.IsZero():
			me, from = ring.NodeID(id.Node), d.Path(".")
		case me != ring.NodeID(id.Node):
			return ring.NodeID{}, fmt.Errorf("%s belongs to node %v and %s to node %v: name the directories of one node", from, me, d.Path("."), ring.NodeID(id.Node))
		}
	}
	if me.IsZero() {
		me = cfg.id
	}
	return me, nil
}
