package agreed

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// Bounds of what a document holds.
const (
	MaxMembers      = ring.MaxNodes // those that left or were lost included, until they are forgotten
	MaxDisks        = 64            // in use, of one member
	MaxRemoved      = 256           // disks of one member that were replaced
	MaxAddressBytes = 255
	MaxNameBytes    = ring.MaxNameBytes // of a cluster, a member, a zone
	MaxCompletions  = 1 << 14           // of one command
	MaxGaps         = 2048              // of one command: planning takes the square of it
)

// A ClusterID is random and made when a cluster is founded: two clusters of one
// name never mix. The zero ClusterID is none's.
type ClusterID = [16]byte

// A DiskID is random and kept on the disk.
type DiskID = [16]byte

// A Document is all that is agreed. It is immutable.
//
// Invariants: History.Version() is not after Version, and is that of the last
// change of the history; members are ascending by id; the newest ring's nodes
// are the members that are Valid; names are unique among members that are
// neither Left nor Lost, disks among all; no member that is Lost is a source;
// Pending is set exactly while Change is ring.Proposed; who is Back is Down.
type Document struct {
	Version  ring.Version // Index counts the commands that changed it
	Cluster  ClusterID
	Name     string
	Settings Settings
	Members  []Member // ascending by id
	History  *ring.History
	Buckets  *bucket.Set
	Staged   []Staged // what the operator has asked for and not yet committed
	Pending  *Pending // the committed plan that is being prepared; nil: none
	Change   ring.Change
	// Trimmed is the first slot the history still tells the owners of, as they
	// were: what is older has expired for good, whatever a TTL becomes later.
	Trimmed int64
	// Moved is the version of the history that last made newcomers: what was
	// completed under an older one may not be all that is lacking now.
	Moved ring.Version
}

// Settings are what all nodes must have the same of.
type Settings struct {
	SlotSeconds     int64 // length of a slot; fixed when the cluster is founded
	AheadSeconds    int64 // epochs further ahead of a node's clock are not admitted
	SkewSeconds     int64 // by how much a node's clock may be ahead of the agreed time
	LeadSeconds     int64 // how long members have at least for their promises
	LatenessSeconds int64 // how long after its end a second waits for its writers
}

// DefaultSettings are those of a cluster whose founder says nothing.
func DefaultSettings() Settings {
	return Settings{SlotSeconds: 3600, AheadSeconds: 10, SkewSeconds: 5, LeadSeconds: 30, LatenessSeconds: 5}
}

// A Member is a node of the cluster.
type Member struct {
	ID      ring.NodeID
	Name    string
	Zone    string
	Weight  uint32   // capacity in any unit, the same for all nodes; at least 1
	Disks   []DiskID // in use, ascending
	Removed []DiskID // were replaced, ascending: they serve nothing any more
	Address string   // host:port as last told; gossip may know a newer one
	State   MemberState
	Down    bool // does not answer: others own its places in the open and later slots
	Back    bool // is Down, answers again, and owns again from the boundary of the next change on
}

// A MemberState says how far a member has come.
type MemberState uint8

// The states of members.
const (
	Joining MemberState = iota + 1 // has no place in the newest ring yet
	Valid                          // is in the newest ring
	Leaving                        // is out of the newest ring, and still owner or source of something
	Left                           // has nothing that anybody needs; may be switched off
	Lost                           // was declared lost: it serves nothing, and may not come back
)

var stateNames = [...]string{Joining: "joining", Valid: "valid", Leaving: "leaving", Left: "left", Lost: "lost"}

// String names the state.
func (s MemberState) String() string { return nameOf(stateNames[:], "state", uint8(s)) }

// MarshalText returns what String returns.
func (s MemberState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Live reports whether the member takes part in the cluster.
func (s MemberState) Live() bool { return s == Joining || s == Valid || s == Leaving }

// Node returns the member as a ring sees it.
func (m Member) Node() ring.Node {
	return ring.Node{ID: m.ID, Name: m.Name, Zone: m.Zone, Weight: m.Weight}
}

// Uses reports whether the disk is one of the member's that are in use.
func (m Member) Uses(disk DiskID) bool { return slices.Contains(m.Disks, disk) }

// Lacks reports whether the disk was the member's and has been replaced.
func (m Member) Lacks(disk DiskID) bool { return slices.Contains(m.Removed, disk) }

// Member returns the member with this id.
func (d *Document) Member(id ring.NodeID) (Member, bool) {
	if i, found := d.find(id); found {
		return d.Members[i], true
	}
	return Member{}, false
}

// MemberNamed returns the live member with this name.
func (d *Document) MemberNamed(name string) (Member, bool) {
	for _, m := range d.Members {
		if m.Name == name && m.State.Live() {
			return m, true
		}
	}
	return Member{}, false
}

// Timing is what a boundary depends on.
func (d *Document) Timing() ring.Timing {
	return ring.Timing{SlotSeconds: d.Settings.SlotSeconds, AheadSeconds: d.Settings.AheadSeconds,
		SkewSeconds: d.Settings.SkewSeconds, LeadSeconds: d.Settings.LeadSeconds}
}

// N returns how many owners a partition is to have: what the bucket that wants
// most of them says, and at least what buckets have that nobody declared.
func (d *Document) N() int {
	n := bucket.DefaultN
	for p := range d.Buckets.All() {
		n = max(n, p.N)
	}
	return n
}

func (d *Document) find(id ring.NodeID) (int, bool) {
	return slices.BinarySearchFunc(d.Members, id, func(m Member, id ring.NodeID) int { return m.ID.Compare(id) })
}
