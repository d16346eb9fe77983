package node

import (
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/ring"
)

// A placing finds what an object's placement depends on, without allocating for
// buckets that are declared.
type placing struct {
	present func() *bucket.Set
	page    atomic.Pointer[placingPage]
}

// A placingPage is made of one set, and not modified.
type placingPage struct {
	set      *bucket.Set
	declared map[bucketNames]placed
}

type bucketNames struct{ bucketType, bucket string }

type placed struct {
	timed bool
	n     int
	w     int // the least that ever acknowledged a put
}

// of returns where an object is placed, and how many owners acknowledge a put at
// least. A key that its bucket does not take has no time: nobody stores it.
func (b *placing) of(bucketType, name, key []byte, hash uint64) (o ring.Placed, w int) {
	set, page := b.present(), b.page.Load()
	if page == nil || page.set != set {
		page = &placingPage{set: set, declared: make(map[bucketNames]placed, set.Len())}
		for p := range set.All() {
			page.declared[bucketNames{p.Type, p.Name}] = placed{p.Timed, p.N, p.SmallestW}
		}
		b.page.Store(page)
	}
	p, declared := page.declared[bucketNames{string(bucketType), string(name)}]
	if !declared {
		plain := bucket.Plain(string(bucketType), string(name))
		return ring.Placed{Hash: hash, N: plain.N}, plain.SmallestW
	}
	o = ring.Placed{Timed: p.timed, Hash: hash, N: p.n}
	if p.timed {
		o.Epoch, _ = event.TimedEpoch(key)
	}
	return o, p.w
}

// A fence judges requests to this node's replicas, from here and from others.
type fence struct {
	me      ring.NodeID
	present func() *ring.Fence
	placing placing
}

func (n *Node) newFence() *fence {
	return &fence{me: n.id, present: func() *ring.Fence { return n.view.Load().fence }, placing: placing{present: n.buckets.Load}}
}

// judge tells what a request comes to: puts are for owners, reads for sources as
// well.
func (f *fence) judge(theirs ring.Version, ref peer.Ref, put bool) peer.Judgement {
	o, _ := f.placing.of(ref.Type, ref.Bucket, ref.Key, ref.Hash)
	switch f.present().Judge(f.me, theirs, o) {
	case ring.IsBehind:
		return peer.Behind
	case ring.IsOwner:
		return peer.Same
	case ring.IsSource:
		if !put {
			return peer.Same
		}
	}
	return peer.Differs
}

var (
	errMoved = &object.Error{Code: object.CodeWrongOwner, Outcome: object.NotDone,
		Message: "the owners of the key have changed: ask again under the new history"}
	errMovedMeanwhile = &object.Error{Code: object.CodeWrongOwner, Outcome: object.MaybeDone,
		Message: "the owners of the key changed while it was stored: ask again under the new history"}
)

// check refuses a request of this node's own coordinator that was begun under a
// history that names other owners than the one that counts.
func (f *fence) check(theirs ring.Version, ref peer.Ref, put bool) *object.Error {
	if f.present().History().Version() == theirs { // its owners are those asked
		return nil
	}
	if f.judge(theirs, ref, put) != peer.Same {
		return errMoved
	}
	return nil
}

// checkRow is check for the reading of an index row.
func (f *fence) checkRow(theirs ring.Version, key event.IndexKey, hash uint64) *object.Error {
	if f.present().History().Version() == theirs {
		return nil
	}
	ref := peer.Ref{Type: []byte(bucket.DefaultType), Bucket: []byte(bucket.Epochs), Key: key.AppendTo(nil), Hash: hash}
	return f.check(theirs, ref, false)
}
