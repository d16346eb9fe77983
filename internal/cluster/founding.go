package cluster

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// Fresh nodes that expect each other found one cluster, and never two. Each makes
// at most one vow at a time, durable before it is told: who may found a cluster,
// and with which id. The founder, the least of the nodes it founds with, makes the
// first document only when all of them have vowed it to him, himself included.
//
// Invariants:
//
//  1. A node vows only to one that is not greater than itself, for a set of nodes
//     that holds itself, the founder as its least, and more than half of the
//     seeds it was configured with. So two sets whose nodes have the same seeds
//     share a seed.
//  2. A vow to another node is taken back only when that node itself has said
//     since that its own vow is another one, or none: it has given up the cluster
//     of that id for good, for it makes a new id for each vow to itself.
//  3. A founder that has made its document gives up nothing: its vow stays.
//
// By 1, two foundings share a node; by 2 and 3 that node vowed only one of them.
type vow struct {
	Founder ring.NodeID // zero: there is no vow
	Cluster [16]byte    // the id of the cluster it makes
}

func (v vow) isZero() bool { return v.Founder.IsZero() }

// A founding is the set of nodes that found a cluster together.
type founding struct {
	Vow vow
	Set []candidate // ascending by id
}

// has reports whether a node is one of the set.
func (f founding) has(id ring.NodeID) bool {
	return slices.ContainsFunc(f.Set, func(c candidate) bool { return c.Member.ID == id })
}

// A seeker is what a fresh node knows while it looks for a cluster. It is pure: it
// knows no clock, disk or network.
type seeker struct {
	me    candidate
	name  string // of the cluster
	seeds int    // how many it was configured with
	vow   vow    // as it is on disk
	at    string // where the founder was when it asked for the vow
	vows  int    // how often it has changed

	behind map[string]ring.NodeID    // who answered behind each seed; me: this node
	known  map[ring.NodeID]candidate // fresh nodes that expect as many as this one
	heard  map[ring.NodeID]greeting  // the last greeting of each node that was asked
}

func newSeeker(me candidate, name string, seeds int, v vow, at string) *seeker {
	return &seeker{
		me: me, name: name, seeds: seeds, vow: v, at: at,
		behind: map[string]ring.NodeID{}, known: map[ring.NodeID]candidate{}, heard: map[ring.NodeID]greeting{},
	}
}

// meet takes a greeting in: that of a node that answered at an address, a seed's
// or another's, or that asked this one ("").
func (s *seeker) meet(address string, isSeed bool, g greeting) {
	if isSeed {
		s.behind[address] = g.Self.Member.ID
	}
	if address != "" && (len(s.heard) < maxCandidates || s.heard[g.Self.Member.ID].Self.Expect > 0) {
		s.heard[g.Self.Member.ID] = g
	}
	if g.Name != s.name || g.Cluster != ([16]byte{}) {
		return
	}
	for _, c := range append([]candidate{g.Self}, g.Others...) {
		if c.Expect != s.me.Expect || c.Member.ID == s.me.Member.ID || s.me.Expect < 2 {
			continue
		}
		if _, found := s.known[c.Member.ID]; found || len(s.known) < maxCandidates {
			s.known[c.Member.ID] = c
		}
	}
}

// miss notes who answered at an address: a candidate that was there before is another
// node now, or cannot be reached (zero), and nothing is founded with it. Others may
// tell of it again.
func (s *seeker) miss(address string, there ring.NodeID) {
	for id, c := range s.known {
		if c.Member.Address == address && id != there {
			delete(s.known, id)
		}
	}
}

// meetItself notes that an address is this node's own.
func (s *seeker) meetItself(address string, isSeed bool) {
	if isSeed {
		s.behind[address] = s.me.Member.ID
	}
}

// addresses returns where to ask besides the seeds: the candidates, and whom this
// node has vowed to.
func (s *seeker) addresses() (all []string) {
	for _, c := range s.others() {
		all = append(all, c.Member.Address)
	}
	if s.at != "" && !slices.Contains(all, s.at) {
		all = append(all, s.at)
	}
	return all
}

// leadAddress returns where the founder of a founding is.
func (f founding) leadAddress() string {
	if len(f.Set) == 0 {
		return ""
	}
	return f.Set[0].Member.Address
}

// others returns the candidates known, ascending.
func (s *seeker) others() []candidate {
	var all []candidate
	for _, c := range s.known {
		all = append(all, c)
	}
	slices.SortFunc(all, byID)
	return all
}

func byID(a, b candidate) int { return a.Member.ID.Compare(b.Member.ID) }

// seedsIn counts the seeds whose node is in a set, each address once.
func (s *seeker) seedsIn(f founding) (n int) {
	for _, id := range s.behind {
		if f.has(id) {
			n++
		}
	}
	return n
}

// holdsSeeds reports whether a set holds more than half of the seeds.
func (s *seeker) holdsSeeds(f founding) bool { return s.seeds == 0 || 2*s.seedsIn(f) > s.seeds }

// set returns the nodes that should found the cluster, as far as this one knows, if
// it knows enough: those it knows that are behind its seeds first, then those of the
// least ids, as many as are expected. The least of them leads.
func (s *seeker) set() []candidate {
	if len(s.known)+1 < s.me.Expect {
		return nil
	}
	isSeed := map[ring.NodeID]int{}
	for _, id := range s.behind {
		isSeed[id] = 1
	}
	all := append(s.others(), s.me)
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(isSeed[b.Member.ID]-isSeed[a.Member.ID], byID(a, b))
	})
	all = all[:s.me.Expect]
	slices.SortFunc(all, byID)
	return all
}

// propose returns the founding this node leads, if it does.
func (s *seeker) propose() (founding, bool) {
	f := founding{Vow: vow{Founder: s.me.Member.ID}, Set: s.set()}
	if len(f.Set) == 0 || f.Set[0].Member.ID != s.me.Member.ID || !s.holdsSeeds(f) {
		return founding{}, false
	}
	if s.vow.Founder == s.me.Member.ID {
		f.Vow = s.vow
	}
	return f, true
}

// outdone reports whether this node has vowed to itself, and another one should
// lead, as it knows now: others may have vowed to it, and wait.
func (s *seeker) outdone() bool {
	set := s.set()
	return s.vow.Founder == s.me.Member.ID && len(set) > 0 && set[0].Member.ID != s.me.Member.ID
}

// swear decides what becomes of this node's vow when it is asked for one. why is
// empty if next is what was asked for: it must be durable before it is told.
func (s *seeker) swear(f founding, founded bool) (next vow, why string) {
	switch {
	case len(f.Set) != s.me.Expect || !f.has(s.me.Member.ID):
		return s.vow, fmt.Sprintf("node %q expects %d nodes, itself among them, and was asked to found a cluster with %d", s.me.Member.Name, s.me.Expect, len(f.Set))
	case f.Set[0].Member.ID != f.Vow.Founder || !slices.IsSortedFunc(f.Set, byID) || f.Vow.Cluster == [16]byte{}:
		return s.vow, "the founder is not the least of the nodes that found the cluster"
	case s.vow == f.Vow:
		return s.vow, ""
	case founded:
		return s.vow, fmt.Sprintf("node %q has founded the cluster", s.me.Member.Name)
	case !s.holdsSeeds(f):
		return s.vow, fmt.Sprintf("node %q has reached %d of its %d seeds among these nodes, and needs more than half", s.me.Member.Name, s.seedsIn(f), s.seeds)
	case !s.vow.isZero() && s.vow.Founder != s.me.Member.ID:
		return s.vow, fmt.Sprintf("node %q has vowed to let node %v found the cluster: start that one; if it will never come back, remove %s from the data directories of the nodes that are left", s.me.Member.Name, s.vow.Founder, foundingName)
	}
	return f.Vow, ""
}

// sworn notes that a vow is on disk. What was heard before says nothing of it.
func (s *seeker) sworn(v vow, at string) {
	s.vow, s.at = v, at
	s.vows++
	clear(s.heard)
}

// released reports whether the node this one has vowed to has given up what it
// was vowed for.
func (s *seeker) released() bool {
	if s.vow.isZero() || s.vow.Founder == s.me.Member.ID {
		return false
	}
	g, heard := s.heard[s.vow.Founder]
	if !heard || g.Cluster != ([16]byte{}) {
		return false // it may have founded it
	}
	return g.Vow != s.vow // ids are made at random for each vow to itself, and never used again
}

// A vow travels as founder (16) and cluster id (16), number of nodes (2), and these,
// candidates, ascending by id.
func appendFounding(dst []byte, f founding) []byte {
	dst = append(dst, f.Vow.Founder[:]...)
	dst = append(dst, f.Vow.Cluster[:]...)
	return appendCandidates(dst, f.Set)
}

func parseFounding(b []byte) (founding, error) {
	c := &cutter{b: b}
	f := founding{Vow: vow{Founder: c.id(), Cluster: c.id()}, Set: c.candidates()}
	if err := c.done("a vow"); err != nil {
		return founding{}, err
	}
	if len(f.Set) == 0 {
		return founding{}, fmt.Errorf("%w: a vow for nobody", ErrMessage)
	}
	return f, nil
}

// The file node/founding is there, on each data directory, from when a fresh node
// begins to look for a cluster until it has one and its part in it is on disk.
// Integers are little-endian; this is format 1.
//
//	offset  size  field
//	0       8     magic "MAYFLYFO"
//	8       4     format, 1
//	12      4     zero
//	16      16    node id
//	32      16    id of the disk the directory becomes
//	48      16    whom the node has vowed to let found the cluster; zero: nobody
//	64      16    the id of the cluster that one makes
//	80      …     text: where that node was when it asked
//	…       4     CRC-32C of every byte before it
const (
	foundingName      = nodeDir + "/founding"
	foundingMagic     = "MAYFLYFO"
	foundingFormat    = 1
	foundingFixedSize = 80
	maxFoundingBytes  = foundingFixedSize + 2 + maxTextBytes + 4
)

// A foundingFile is the content of the file.
type foundingFile struct {
	Node ring.NodeID
	Disk agreed.DiskID
	Vow  vow
	At   string // where the founder was when it asked
}

func appendFoundingFile(dst []byte, f foundingFile) []byte {
	start := len(dst)
	dst = append(dst, foundingMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, foundingFormat)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = append(dst, f.Node[:]...)
	dst = append(dst, f.Disk[:]...)
	dst = append(dst, f.Vow.Founder[:]...)
	dst = append(dst, f.Vow.Cluster[:]...)
	dst = appendText(dst, f.At)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func parseFoundingFile(b []byte) (foundingFile, error) {
	switch {
	case len(b) < foundingFixedSize+6 || string(b[:8]) != foundingMagic || !sumMatches(b):
		return foundingFile{}, fmt.Errorf("it is damaged, or no such file")
	case binary.LittleEndian.Uint32(b[8:]) != foundingFormat || binary.LittleEndian.Uint32(b[12:]) != 0:
		return foundingFile{}, fmt.Errorf("it is of another format: use the version of mayfly that wrote it")
	}
	f := foundingFile{Node: ring.NodeID(b[16:32]), Disk: agreed.DiskID(b[32:48]), Vow: vow{Founder: ring.NodeID(b[48:64]), Cluster: [16]byte(b[64:80])}}
	c := &cutter{b: b[foundingFixedSize : len(b)-4]}
	f.At = c.text()
	if err := c.done("the address in it"); err != nil {
		return foundingFile{}, err
	}
	if f.Node.IsZero() || f.Disk == (agreed.DiskID{}) {
		return foundingFile{}, fmt.Errorf("it names no node or no disk")
	}
	return f, nil
}
