package sim

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// The plain buckets of a simulation.
const (
	plainBucket  = "plain"  // synced at intervals
	alwaysBucket = "always" // synced before it is acknowledged
	quickBucket  = "quick"  // read from one owner
)

// A fixed agreement never changes.
type fixed struct {
	history *ring.History
	buckets *bucket.Set
}

func (f fixed) History() *ring.History { return f.history }

func (f fixed) Buckets() *bucket.Set { return f.buckets }

// newAgreement makes one ring of all nodes.
func newAgreement(s *Sim) Agreement {
	var members []ring.Node
	for i, n := range s.nodes {
		members = append(members, ring.Node{ID: n.id, Name: fmt.Sprintf("n%d", i), Weight: 1})
	}
	one, _, err := ring.Claim(members, uint8(s.rng.IntN(4)), 3, nil)
	if err != nil {
		panic("sim: BUG: no ring: " + err.Error())
	}
	history, err := ring.NewHistory(ring.Version{Era: 1, Index: 1}, slotSeconds, one)
	if err != nil {
		panic("sim: BUG: no history: " + err.Error())
	}
	always := bucket.SyncAlways
	r := 1
	buckets, err := bucket.DefaultSet().Declare(
		bucket.Declaration{Name: alwaysBucket, Sync: &always},
		bucket.Declaration{Name: quickBucket, R: &r},
	)
	if err != nil {
		panic("sim: BUG: no buckets: " + err.Error())
	}
	return fixed{history, buckets}
}

func newDisk() *vfs.Mem { return vfs.NewMem() }
