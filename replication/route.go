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
	owners    []ring.NodeID // in order of preference
	cast      cast          // owners, and whom else to ask for what they may lack
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

// route finds the owners of an object under the present history, once a put of it
// is admitted.
func (c *Coordinator) route(bucketType, name, key []byte, put bool) (route, *object.Error) {
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
		if put {
			if err := c.cfg.Admit(epoch); err != nil {
				return route{}, object.AsError(err)
			}
		}
	}
	h := c.cfg.History()
	if rt.bucket.Timed {
		rt.slot = h.SlotOf(rt.epoch)
	}
	_, rt.partition = h.For(rt.bucket.Timed, rt.hash, rt.epoch)
	rt.history = h.Version()
	rt.cast = castOf(h, rt.bucket, rt.partition, rt.slot)
	rt.owners = rt.cast.nodes[:rt.cast.n]
	rt.n, rt.r, rt.w = rt.bucket.For(rt.cast.n)
	rt.absentW = rt.n - rt.cast.present.Need + 1
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
