package agreed

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// A Command asks for a change of the document. Which fields count depends on
// the kind; the others must be zero.
type Command struct {
	Kind Kind
	Now  int64 // the proposer's clock, seconds of Unix time

	Member      Member            // Join: all but Removed, State and Down. Introduce: ID, Disks, Address; Name "" keeps it
	Stage       Staged            // Stage
	Commit      Commit            // CommitStaged
	Node        ring.NodeID       // Promised, Down, Up: which. Clear: what is staged for it; zero clears all
	Silent      []ring.NodeID     // Down: all other members that do not answer the proposer now
	Round       uint64            // Promised
	Highest     int64             // Promised: the highest epoch the member ever admitted, ring.NoEpoch if none
	Completions []ring.Completion // Completed
	History     ring.Version      // Completed: of the history under which the merging of all of them began
	Oldest      int64             // Trim: the first slot that has not expired
	Bucket      bucket.Properties // SetBucket: all of it. SetTTL: Type, Name, TTLSeconds
	Empty       bool              // SetBucket: the proposer has made sure that the bucket holds no data
	Settings    Settings          // SetSettings
}

// A Kind says what a command asks for.
type Kind uint8

// The commands.
const (
	Join         Kind = iota + 1 // a node wants to be a member; its join is staged
	Introduce                    // a member is back: its disks, its address
	Stage                        // the operator asks for something
	Clear                        // and takes it back
	CommitStaged                 // what is staged is to be done: a change of the ring begins
	Cancel                       // the change is given up; what it was made of is staged again
	Promised                     // a member has promised, see ring.Preparer
	Tick                         // time has passed; while a change is proposed
	Down                         // a member does not answer
	Up                           // it does again: a change is prepared that gives it its places back
	Completed                    // members have all of some partitions
	Trim                         // what has expired needs no history
	SetBucket                    // a bucket is declared, or changed
	SetTTL                       // only its TTL
	SetSettings                  // all but the length of slots
)

var kindNames = [...]string{Join: "join", Introduce: "introduce", Stage: "stage", Clear: "clear", CommitStaged: "commit", Cancel: "cancel",
	Promised: "promised", Tick: "tick", Down: "down", Up: "up", Completed: "completed", Trim: "trim",
	SetBucket: "set bucket", SetTTL: "set ttl", SetSettings: "set settings"}

// String names the kind.
func (k Kind) String() string { return nameOf(kindNames[:], "command", uint8(k)) }

// Staged is one thing the operator asks for. There is at most one for a node,
// and one StageFill.
type Staged struct {
	Kind   StageKind
	Node   ring.NodeID // zero for StageFill and StagePartitions
	New    ring.NodeID // Replace: the member that takes its places; it is joining
	Weight uint32      // StageWeight
	Zone   string      // StageZone
	Bits   uint8       // StagePartitions: the ring is to have 2^Bits
}

// A StageKind says what is asked for.
type StageKind uint8

// What can be staged.
const (
	StageJoin       StageKind = iota + 1 // a joining member gets places
	StageLeave                           // a member hands over all it has; a joining one is forgotten at once
	StageReplace                         // the same, all to one joining member
	StageLose                            // a member will not come back: nothing is to be had of it
	StageWeight                          // a member has another weight
	StageZone                            // a member is in another zone
	StageFill                            // rings made with fewer nodes get as many owners as are wanted now
	StagePartitions                      // the ring gets another number of partitions
)

var stageNames = [...]string{StageJoin: "join", StageLeave: "leave", StageReplace: "replace", StageLose: "remove lost",
	StageWeight: "weight", StageZone: "zone", StageFill: "fill", StagePartitions: "partitions"}

// String names the kind.
func (k StageKind) String() string { return nameOf(stageNames[:], "stage", uint8(k)) }

// MarshalText returns what String returns.
func (k StageKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Commit is what a commit is made with.
type Commit struct {
	Staged     uint64     // Document.StagedHash of what the operator has seen
	From       int64      // the slot the new ring shall count from, or later; 0: as early as can be
	Oldest     int64      // the first slot that may hold something; 0, or too high a one: as the TTLs say
	Gaps       []ring.Gap // what owners and sources are known to lack
	AcceptLoss bool       // do it even if the last copy of something goes
}

// Pending is what is being prepared: a plan, as what it was made of, to be
// planned again when its boundary is fixed; or the return of members that were
// down, which begins by itself, and makes way for a plan.
type Pending struct {
	Staged    []Staged // what was staged
	Commit    Commit
	Returning []ring.NodeID // ascending; then nothing else is set
}

func nameOf(names []string, what string, i uint8) string {
	if int(i) < len(names) && names[i] != "" {
		return names[i]
	}
	return fmt.Sprintf("%s %d", what, i)
}
