package replication

import (
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A route says who owns an object and how many of them must answer. It does not
// change once made.
type route struct {
	bucket    *bucket.Properties
	history   ring.Version
	owners    []ring.NodeID // the ring's: in order of preference
	partition ring.Partition
	hash      uint64
	epoch     int64 // of an object of a timed bucket
	slot      int64 // the same
	n, r, w   int
	absentW   int // the smallest write quorum the bucket ever had
}

// place is where a copy is owed to one of the owners.
func (r *route) place(owner int) Place {
	return Place{
		Node: r.owners[owner], Type: r.bucket.Type, Bucket: r.bucket.Name,
		Timed: r.bucket.Timed, Partition: r.partition, Slot: r.slot,
	}
}

// route finds the owners of an object under the present history.
func (c *Coordinator) route(bucketType, name, key []byte) (route, *object.Error) {
	if len(bucketType) == 0 || len(bucketType) > bucket.MaxNameBytes || len(name) == 0 || len(name) > bucket.MaxNameBytes {
		return route{}, object.Errorf(object.CodeBadRequest, object.NotDone, "a bucket and its type have names of 1 to %d bytes", bucket.MaxNameBytes)
	}
	if err := bucket.CheckKey(key); err != nil {
		return route{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	rt := route{bucket: c.rulebook.of(bucketType, name), hash: ring.HashBytes(bucketType, name, key)}
	if rt.bucket.Timed {
		epoch, err := event.TimedEpoch(key)
		if err != nil {
			return route{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
		rt.epoch = epoch
	}
	h := c.cfg.History()
	if rt.bucket.Timed {
		rt.slot = h.SlotOf(rt.epoch)
	}
	var rg *ring.Ring
	rg, rt.partition = h.For(rt.bucket.Timed, rt.hash, rt.epoch)
	rt.history = h.Version()
	all := rg.Owners(rt.partition)
	rt.n, rt.r, rt.w = rt.bucket.For(len(all))
	rt.owners = all[:rt.n]
	rt.absentW = rt.n - rt.bucket.AbsentQuorum(len(all)) + 1
	return rt, nil
}

// A rulebook finds a bucket's properties without allocating for declared ones.
type rulebook struct {
	present func() *bucket.Set
	page    atomic.Pointer[rulePage]
}

// A rulePage is made of one set, and not modified.
type rulePage struct {
	set      *bucket.Set
	declared map[names]*bucket.Properties
}

type names struct{ bucketType, bucket string }

func (b *rulebook) of(bucketType, name []byte) *bucket.Properties {
	set, page := b.present(), b.page.Load()
	if page == nil || page.set != set {
		page = &rulePage{set: set, declared: make(map[names]*bucket.Properties, set.Len())}
		for p := range set.All() {
			page.declared[names{p.Type, p.Name}] = &p
		}
		b.page.Store(page)
	}
	if p := page.declared[names{string(bucketType), string(name)}]; p != nil {
		return p
	}
	p := bucket.Plain(string(bucketType), string(name))
	return &p
}
