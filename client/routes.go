package client

import (
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// maxLearned bounds the endpoints made for members that are not configured.
// What members beyond it own is asked of any node, which is as right.
const maxLearned = 1024

// Knowledge is what nodes told about the cluster. It does not change once made.
type knowledge struct {
	rings     *ring.History
	addresses []proto.Address
	buckets   map[bucketName]placing // those that are declared
	cluster   wire.ID                // whose nodes the addresses are
}

type bucketName struct{ bucketType, bucket string }

// placing is what of a bucket's properties says where its objects are.
type placing struct {
	timed bool
	n     int // owners; at least 1
}

var undeclared = placing{n: bucket.DefaultN}

func newKnowledge(h proto.History, buckets []bucket.Properties, cluster wire.ID) *knowledge {
	k := &knowledge{rings: h.Rings, addresses: h.Addresses, cluster: cluster, buckets: make(map[bucketName]placing, len(buckets))}
	for _, b := range buckets {
		k.buckets[bucketName{b.Type, b.Name}] = placing{b.Timed, max(1, b.N)}
	}
	return k
}

// owners returns the nodes that hold an object, the preferred one first: those
// of its slot's ring if its bucket is timed, else of the newest. It returns none
// for what no node would take.
func (k *knowledge) owners(o proto.Name) []ring.NodeID {
	if len(o.Key) == 0 {
		return nil
	}
	p, declared := k.buckets[bucketName{string(o.Type), string(o.Bucket)}]
	if !declared {
		p = undeclared
	}
	var epoch int64
	if p.timed {
		var err error
		if epoch, err = event.TimedEpoch(o.Key); err != nil {
			return nil
		}
	}
	r, at := k.rings.For(p.timed, ring.HashBytes(o.Type, o.Bucket, o.Key), epoch)
	owners := r.Owners(at)
	return owners[:min(p.n, len(owners))]
}

// member tells whether a node is in any of the rings.
func (k *knowledge) member(id ring.NodeID) bool {
	for _, r := range k.rings.All() {
		if _, found := r.Node(id); found {
			return true
		}
	}
	return false
}

// A table says through which endpoint each node is reached. It does not change
// once made: another one takes its place.
type table struct {
	known   *knowledge // nil as long as nothing was learnt
	all     []*endpoint
	members map[ring.NodeID]*endpoint
}

// newTable finds an endpoint for each member of k whose address is known: one
// that is configured and reached that node, or has its address; one of learnt; a
// new one, which enter makes. k may be nil.
func newTable(k *knowledge, configured []*endpoint, learnt map[ring.NodeID]*endpoint, enter func(proto.Address) *endpoint) *table {
	t := &table{known: k, all: configured[:len(configured):len(configured)], members: make(map[ring.NodeID]*endpoint)}
	if k == nil {
		return t
	}
	for _, e := range configured {
		if id := e.nodeID(); !id.IsZero() && t.members[id] == nil && k.member(id) {
			t.members[id] = e
		}
	}
	made := 0
	for _, a := range k.addresses {
		if t.members[a.Node] != nil {
			continue
		}
		e := at(configured, a.At)
		if e == nil {
			if made++; made > maxLearned {
				continue
			}
			if e = learnt[a.Node]; e == nil || e.address != a.At {
				e = enter(a)
			}
			t.all = append(t.all, e)
		}
		t.members[a.Node] = e
	}
	return t
}

// at returns the endpoint with this address if it may be the node that others
// say is there: it has not been reached yet.
func at(configured []*endpoint, address string) *endpoint {
	for _, e := range configured {
		if e.address == address && e.nodeID().IsZero() {
			return e
		}
	}
	return nil
}

// version is that of the rings, zero if nothing was learnt.
func (t *table) version() ring.Version {
	if t.known == nil {
		return ring.Version{}
	}
	return t.known.rings.Version()
}

// A plan is the order in which endpoints are asked in one call: owners first,
// from the preferred one on, then any. One goroutine uses it at a time.
type plan struct {
	t      *table
	about  proto.Name // the object; any node is as good without a key
	part   int        // how many owners stand behind others: calls may share them
	turn   uint32     // where in all endpoints the search for any begins
	owners [ring.MaxN]*endpoint
	count  int          // of owners
	tried  [8]*endpoint // asked already; all count as not asked again when there is nobody else, or no room
	tries  int
	due    *endpoint // was passed over, and it is time to see whether it is back
}

// use has the plan made by a table, unless it is. Who was tried stays so.
func (p *plan) use(t *table) {
	if p.t == t {
		return
	}
	p.t, p.count = t, 0
	if t.known == nil {
		return
	}
	owners := t.known.owners(p.about)
	for i := range owners {
		if e := t.members[owners[(i+p.part)%len(owners)]]; e != nil {
			p.owners[p.count] = e
			p.count++
		}
	}
}

// next returns whom to ask now: one that has not been asked, an owner if
// possible, but anybody who is well rather than an owner who is not. If nobody
// can be connected to it returns how long it is until one can.
func (p *plan) next(now time.Time) (*endpoint, time.Duration) {
	e, soonest := p.search(now, false)
	if e == nil && p.tries > 0 {
		p.tries = 0
		e, soonest = p.search(now, false)
	}
	if e != nil {
		p.try(e)
	}
	return e, soonest
}

// another is next for a second question while the first is not answered: it
// returns nil if nobody else is well.
func (p *plan) another(now time.Time) *endpoint {
	e, _ := p.search(now, true)
	if e != nil {
		p.try(e)
	}
	return e
}

func (p *plan) search(now time.Time, wellOnly bool) (poor *endpoint, soonest time.Duration) {
	p.due = nil
	for i := range p.count + len(p.t.all) {
		var e *endpoint
		if i < p.count {
			e = p.owners[i]
		} else {
			e = p.t.all[(int(p.turn%uint32(len(p.t.all)))+i-p.count)%len(p.t.all)]
		}
		if p.wasTried(e) {
			continue
		}
		switch h, rests := e.health(now); h {
		case well:
			return e, 0
		case poorly, unproven:
			if h == unproven && p.due == nil {
				p.due = e
			}
			if poor == nil {
				poor = e
			}
		case resting:
			if soonest == 0 || rests < soonest {
				soonest = rests
			}
		}
	}
	if wellOnly {
		return nil, 0
	}
	return poor, soonest
}

func (p *plan) try(e *endpoint) {
	if p.tries == len(p.tried) {
		p.tries = 0
	}
	p.tried[p.tries] = e
	p.tries++
}

func (p *plan) wasTried(e *endpoint) bool {
	return slices.Contains(p.tried[:p.tries], e)
}

// last is who was asked last.
func (p *plan) last() *endpoint {
	if p.tries == 0 {
		return nil
	}
	return p.tried[p.tries-1]
}

// owns tells whether an endpoint is one of the owners.
func (p *plan) owns(e *endpoint) bool {
	return slices.Contains(p.owners[:p.count], e)
}

var (
	defaultType = []byte(bucket.DefaultType)
	epochs      = []byte(bucket.Epochs)
)

// rowName names the index row with this key.
func rowName(key event.IndexKey) proto.Name {
	return proto.Name{Type: defaultType, Bucket: epochs, Key: key.AppendTo(nil)}
}

// objectName names an object as it is placed: a row's key has two spellings, of
// which one is.
func objectName(n proto.Name) proto.Name {
	if string(n.Bucket) == bucket.Epochs && string(n.Type) == bucket.DefaultType {
		if k, err := event.ParseIndexKey(string(n.Key)); err == nil {
			n.Key = k.AppendTo(nil)
		}
	}
	return n
}

// recordName names a record's object.
func recordName(r *object.Record) proto.Name {
	return objectName(proto.Name{Type: r.Type, Bucket: r.Bucket, Key: r.Key})
}

// batchName names what the coordinator of a batch should own: the index row of
// its first record, to which it will add, or if that is not indexed the record.
func batchName(recs []object.Record) proto.Name {
	r := &recs[0]
	if string(r.Bucket) == bucket.Events && string(r.Type) == bucket.DefaultType {
		if k, err := event.ParseKey(string(r.Key)); err == nil {
			return rowName(k.Index())
		}
	}
	return recordName(r)
}
