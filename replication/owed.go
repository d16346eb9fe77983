package replication

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/mayflydb/mayfly/ring"
)

// A Place is where copies are owed: a slot of a bucket in a partition on a node.
type Place struct {
	Node         ring.NodeID
	Type, Bucket string
	Timed        bool
	Partition    ring.Partition
	Slot         int64 // 0 in a plain bucket
}

// A Debt is what one place is owed.
type Debt struct {
	Place
	// Keys are the objects it may lack, ascending. nil means the whole slot: there
	// were more than could be kept.
	Keys []string
	// Everything says that all places of the Node are meant; the Place names no other.
	Everything bool

	stamp uint64
}

// Owed remembers the copies that replicas could not be given, until sync makes
// them. Its size is bounded: when there are too many keys, a place is owed its
// whole slot; when there are too many places, a node is owed everything.
// It is kept in memory only: after a restart, sync compares everything anyway.
// Any number of goroutines may use it at once.
type Owed struct {
	maxKeys, maxPlaces int
	maxKeyBytes        int

	mu       sync.Mutex
	places   map[Place]*owing
	nodes    map[ring.NodeID]uint64 // owed everything; the stamp of the last copy
	keys     int                    // in all places
	keyBytes int
	stamp    uint64
	stats    OwedStats
}

// owing is what a place is owed.
type owing struct {
	whole bool
	keys  map[string]uint64 // with the stamp of the last copy owed
	stamp uint64            // of the last copy owed at all
}

// OwedStats are the counters of an Owed.
type OwedStats struct {
	Added    uint64 // copies that were owed, each time it happened
	Degraded uint64 // places whose keys became too many, and nodes whose places did
	Settled  uint64 // debts that were paid or forgotten
	Keys     int    // now
	KeyBytes int    // now
	Places   int    // now
	Nodes    int    // now, owed everything
}

// NewOwed returns an empty list that holds at most so many keys, of so many
// bytes, and so many places.
func NewOwed(maxKeys, maxKeyBytes, maxPlaces int) *Owed {
	return &Owed{
		maxKeys: maxKeys, maxKeyBytes: maxKeyBytes, maxPlaces: maxPlaces,
		places: make(map[Place]*owing), nodes: make(map[ring.NodeID]uint64),
	}
}

// Add owes a copy of one object. An empty key owes the whole slot. The key is
// copied.
func (o *Owed) Add(p Place, key []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stamp++
	o.stats.Added++
	if _, all := o.nodes[p.Node]; all {
		o.nodes[p.Node] = o.stamp
		return
	}
	w := o.places[p]
	if w == nil {
		if len(o.places) >= o.maxPlaces {
			o.oweEverythingLocked(p.Node)
			return
		}
		w = &owing{keys: make(map[string]uint64)}
		o.places[p] = w
	}
	w.stamp = o.stamp
	if w.whole {
		return
	}
	if _, have := w.keys[string(key)]; have {
		w.keys[string(key)] = o.stamp
		return
	}
	if len(key) == 0 || o.keys >= o.maxKeys || o.keyBytes+len(key) > o.maxKeyBytes {
		o.dropKeysLocked(w)
		w.whole = true
		o.stats.Degraded++
		return
	}
	w.keys[string(key)] = o.stamp
	o.keys++
	o.keyBytes += len(key)
}

func (o *Owed) dropKeysLocked(w *owing) {
	for k := range w.keys {
		o.keyBytes -= len(k)
	}
	o.keys -= len(w.keys)
	w.keys = nil
}

// oweEverythingLocked puts a node in the place of all its places.
func (o *Owed) oweEverythingLocked(node ring.NodeID) {
	o.nodes[node] = o.stamp
	o.stats.Degraded++
	for p, w := range o.places {
		if p.Node == node {
			o.dropKeysLocked(w)
			delete(o.places, p)
		}
	}
}

// Debts returns what a node is owed at this moment, in the order of bucket, slot
// and partition.
func (o *Owed) Debts(node ring.NodeID) []Debt {
	o.mu.Lock()
	defer o.mu.Unlock()
	if stamp, all := o.nodes[node]; all {
		return []Debt{{Place: Place{Node: node}, Everything: true, stamp: stamp}}
	}
	var debts []Debt
	for p, w := range o.places {
		if p.Node != node {
			continue
		}
		d := Debt{Place: p, stamp: w.stamp}
		if !w.whole {
			d.Keys = slices.Sorted(maps.Keys(w.keys))
		}
		debts = append(debts, d)
	}
	slices.SortFunc(debts, func(a, b Debt) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Slot, b.Slot), a.Partition.Compare(b.Partition))
	})
	return debts
}

// Nodes returns the nodes that are owed anything, ascending.
func (o *Owed) Nodes() []ring.NodeID {
	o.mu.Lock()
	defer o.mu.Unlock()
	owed := make(map[ring.NodeID]bool)
	for id := range o.nodes {
		owed[id] = true
	}
	for p := range o.places {
		owed[p.Node] = true
	}
	return slices.SortedFunc(maps.Keys(owed), ring.NodeID.Compare)
}

// Settle takes away a debt that was paid: the keys it named, but for those owed
// again since Debts returned it; a whole slot or node only if nothing was added
// since.
func (o *Owed) Settle(d Debt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.Everything {
		if o.nodes[d.Node] == d.stamp {
			delete(o.nodes, d.Node)
			o.stats.Settled++
		}
		return
	}
	w := o.places[d.Place]
	if w == nil {
		return
	}
	if w.stamp == d.stamp {
		o.removeLocked(d.Place, w)
		return
	}
	for _, k := range d.Keys {
		if stamp, have := w.keys[k]; have && stamp <= d.stamp {
			delete(w.keys, k)
			o.keys--
			o.keyBytes -= len(k)
		}
	}
}

// ForgetBefore takes away what is owed to slots of a timed bucket before the
// given one: they have expired.
func (o *Owed) ForgetBefore(bucketType, bucket string, slot int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, w := range o.places {
		if p.Timed && p.Slot < slot && p.Type == bucketType && p.Bucket == bucket {
			o.removeLocked(p, w)
		}
	}
}

func (o *Owed) removeLocked(p Place, w *owing) {
	o.dropKeysLocked(w)
	delete(o.places, p)
	o.stats.Settled++
}

// Stats returns the counters.
func (o *Owed) Stats() OwedStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.stats
	s.Keys, s.KeyBytes, s.Places, s.Nodes = o.keys, o.keyBytes, len(o.places), len(o.nodes)
	return s
}
