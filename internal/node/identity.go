package node

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// nodeDir holds the node's own small files, on its first disk.
const nodeDir = "node"

// clusterID derives a cluster's id from its name: nodes of one name find each
// other, nodes and directories of another name refuse each other.
func clusterID(name string) (id [16]byte) {
	sum := sha256.Sum256([]byte("mayfly cluster\x00" + name))
	copy(id[:], sum[:])
	return id
}

// whoAmI returns the node id that the data directories hold. New directories
// join the node of the others; if all are new, so is the node. Directories of
// two nodes are refused. Where the members are listed, the id follows from the
// name, and a directory of another is refused when it is opened.
func whoAmI(dirs []vfs.FS, cfg Config) (ring.NodeID, error) {
	if len(cfg.Members) > 0 {
		return memberID(cfg.Cluster, cfg.Name), nil
	}
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
	if me.IsZero() && cfg.Join == nil { // else it gets one when it is introduced to its cluster
		rand.Read(me[:])
	}
	return me, nil
}

// The ring's file holds the history: which ring counts from which slot on.
const (
	ringName     = nodeDir + "/ring"
	maxRingBytes = 16 << 20
)

// openHistory reads the history kept in the directory, or makes the first one:
// a ring of the members, or of this node alone.
func openHistory(dir vfs.FS, cfg Config, me ring.NodeID) (*ring.History, error) {
	b, err := vfs.ReadFile(dir, ringName, maxRingBytes)
	if vfs.IsNotExist(err) {
		return firstHistory(dir, cfg, me)
	}
	if err != nil {
		return nil, fmt.Errorf("read the ring: %w", err)
	}
	h, err := ring.UnmarshalHistory(b)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: restore it from a copy, or remove it and start with the setting partitions as it was", dir.Path(ringName), err)
	case h.SlotSeconds() != cfg.SlotSeconds:
		return nil, fmt.Errorf("%s: the cluster's slots have %d seconds, the configuration says %d: set it back", dir.Path(ringName), h.SlotSeconds(), cfg.SlotSeconds)
	case h.Newest().Bits() != cfg.partitionBits():
		return nil, fmt.Errorf("%s: the ring has %d partitions, the configuration says %d: set it back", dir.Path(ringName), 1<<h.Newest().Bits(), cfg.Partitions)
	}
	var have []string
	for _, node := range h.Newest().Nodes() {
		have = append(have, node.Name)
	}
	if !slices.EqualFunc(h.Newest().Nodes(), cfg.ringNodes(me), func(a, b ring.Node) bool { return a.ID == b.ID }) {
		return nil, fmt.Errorf("%s: the ring was made for the members %s; this version cannot change them: configure these, or use empty directories", dir.Path(ringName), strings.Join(have, ", "))
	}
	return h, nil
}

// owners is how many nodes hold a partition, as far as there are so many.
const owners = 3

func firstHistory(dir vfs.FS, cfg Config, me ring.NodeID) (*ring.History, error) {
	one, shortfalls, err := ring.Claim(cfg.ringNodes(me), cfg.partitionBits(), owners, nil)
	if err != nil {
		return nil, fmt.Errorf("make the ring: %w", err)
	}
	for _, s := range shortfalls {
		cfg.Log.Debug("ring", "shortfall", s.String())
	}
	h, err := ring.NewHistory(ring.Version{Era: 1, Index: 1}, cfg.SlotSeconds, one)
	if err != nil {
		return nil, fmt.Errorf("make the ring: %w", err)
	}
	b, err := h.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("make the ring: %w", err)
	}
	if err := vfs.PublishBytes(dir, ringName, b); err != nil {
		return nil, fmt.Errorf("write the ring: %w", err)
	}
	return h, nil
}
