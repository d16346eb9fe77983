package node

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// Pushes carry what a replica of this node has taken in to the tails, here and on
// the nodes that subscribed. Who is told what, and by whom:
//
//   - A delta, as soon as this replica has it as durable as the index's policy
//     asks, goes to every subscriber that does not own its row: an owner has it
//     from the coordinator, and all owners of the row push it, so that any one of
//     them may be lost. It goes to the hub of this node too.
//   - A blob goes, as soon as it is stored, from one node to each subscriber: from
//     the first of its owners that is up, as this node sees it, and not to another
//     owner, which has its own copy. It goes when it is stored, not with the delta,
//     since the owners of a row are seldom those of its blobs; the subscriber holds
//     it for some seconds (bodyMemory) until the delta comes.
//   - Neither goes back to the node that sent it here: that is its coordinator,
//     which tells its own hub when the put is acknowledged.
//
// A delta that comes before its blob, or a blob that does not come, costs one read.
// What the pushes lose altogether the hub finds in the index.
type pushes struct {
	me       ring.NodeID
	ring     func() *ring.History
	now      func() time.Time
	recent   int64 // seconds: older ones are not pushed, they are repairs
	peers    *peerSet
	hub      *tail.Hub
	publish  func(event.IndexKey, index.Row, []object.Record)
	door     *peer.PushHandler
	bodies   *bodyMemory
	received peer.FollowCounters

	demanded  chan struct{}                     // capacity 1: what the hub wants, or who the members are, has changed
	wanted    atomic.Pointer[peer.Subscription] // by this node's hub; nil: nothing
	following map[*peer.Peer]*peer.Following    // run's own
}

const (
	// recentSeconds is how old, beyond the lateness bound, what is pushed may be.
	recentSeconds = 60
	// bodySeconds is how long a blob waits for its delta.
	bodySeconds = 10
	// changeTimeout bounds how long two subscriptions to a node overlap when what is
	// wanted changes, so that nothing falls between them.
	changeTimeout = time.Second
)

// newPushes is called when the store and the hub are there.
func newPushes(n *Node) *pushes {
	p := &pushes{
		me: n.id, ring: n.ring, now: n.cfg.Now, recent: recentSeconds + n.cfg.LatenessSeconds,
		peers: n.peers, hub: n.hub, publish: n.store.publish,
		bodies:   newBodyMemory(n.cfg.TailBufferBytes/4, bodySeconds*time.Second),
		demanded: make(chan struct{}, 1),
	}
	p.door = peer.NewPushHandler(peer.PushConfig{Local: p, Cluster: n.cluster})
	p.hub.OnDemand(p.changed)
	return p
}

// accepted tells of a delta that this node's replica has, and got from that node.
func (p *pushes) accepted(from ring.NodeID, key event.IndexKey, delta index.Row) {
	if p.door.Subscribed() && p.isRecent(key.Epoch) {
		p.door.Delta(from, key, delta)
	}
	if from != p.me {
		p.PushedDelta(key, delta)
	}
}

// stored tells of a record that this node's replica has, and got from that node.
func (p *pushes) stored(from ring.NodeID, hash uint64, rec object.Record) {
	if rec.Kind != object.Value || !isIndexed(&rec.Header) {
		return
	}
	wanted := p.wanted.Load()
	if from == p.me {
		wanted = nil // the coordinator has it at hand
	}
	if wanted == nil && !p.door.Subscribed() {
		return
	}
	key, err := event.ParseKey(string(rec.Key))
	if err != nil || !p.isRecent(key.Epoch) {
		return
	}
	if wanted != nil && wanted.Bodies && wanted.Wants(key.DC) {
		p.bodies.keep(time.Now(), rec)
	}
	p.door.Body(from, key, hash, rec)
}

func (p *pushes) isRecent(epoch int64) bool { return epoch >= p.now().Unix()-p.recent }

// PushesDelta implements peer.PushLocal.
func (p *pushes) PushesDelta(to ring.NodeID, key event.IndexKey) bool {
	var room [event.MaxKeyBytes]byte
	hash := ring.Hash(bucket.DefaultType, bucket.Epochs, key.AppendTo(room[:0]))
	return !slices.Contains(p.owners(hash, key.Epoch), to)
}

// PushesBody implements peer.PushLocal.
func (p *pushes) PushesBody(to ring.NodeID, key event.Key, hash uint64) bool {
	owners := p.owners(hash, key.Epoch)
	if slices.Contains(owners, to) {
		return false
	}
	for _, o := range owners {
		if o == p.me {
			return true
		}
		if other := p.peers.get(o); other != nil && other.Connected() {
			return false
		}
	}
	return false
}

func (p *pushes) owners(hash uint64, epoch int64) []ring.NodeID {
	r, part := p.ring().For(true, hash, epoch)
	return r.Owners(part)
}

// PushedDelta implements peer.Sink: it tells the hub of a delta, with the blobs
// that are here.
func (p *pushes) PushedDelta(key event.IndexKey, delta index.Row) {
	bodies := p.bodies.take(key, delta)
	p.publish(key, delta, bodies)
	for i := range bodies {
		bodies[i].Release()
	}
}

// PushedBody implements peer.Sink.
func (p *pushes) PushedBody(_ event.Key, rec object.Record) { p.bodies.keep(time.Now(), rec) }

// run subscribes to the other nodes while anybody tails here, until ctx ends.
func (p *pushes) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.follow(ctx, nil)
			return
		case <-tick.C:
			p.bodies.expire(time.Now())
		case <-p.demanded:
			p.follow(ctx, subscriptionOf(p.hub.Demand()))
		}
	}
}

// subscriptionOf returns what a hub needs to be told, nil if nothing.
func subscriptionOf(d tail.Demand) *peer.Subscription {
	switch {
	case d.Tails == 0:
		return nil
	case len(d.DCs) > peer.MaxSubscribedDCs:
		d.DCs = nil
	}
	return &peer.Subscription{DCs: d.DCs, Bodies: d.Bodies}
}

// changed tells that members have come or gone.
func (p *pushes) changed() {
	select {
	case p.demanded <- struct{}{}:
	default:
	}
}

// follow changes what is subscribed to, and at whom. The new subscriptions are
// taken before the old ones end; what comes twice the hub knows already.
func (p *pushes) follow(ctx context.Context, want *peer.Subscription) {
	have := p.wanted.Load()
	same := want == nil && have == nil || want != nil && have != nil && want.Equal(have)
	if !same {
		p.wanted.Store(want)
		p.bodies.enable(want != nil && want.Bodies)
	}
	old := p.following
	p.following = make(map[*peer.Peer]*peer.Following)
	var fresh []*peer.Following
	if want != nil {
		for _, other := range p.peers.each() {
			f := old[other]
			if delete(old, other); f == nil || !same {
				if f != nil {
					defer f.Close()
				}
				f = other.Follow(*want, p, &p.received)
				fresh = append(fresh, f)
			}
			p.following[other] = f
		}
	}
	if have != nil && want != nil && !same {
		awaitReady(ctx, fresh)
	}
	for _, f := range old {
		f.Close()
	}
}

func awaitReady(ctx context.Context, all []*peer.Following) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for _, f := range all {
		select {
		case <-f.Ready():
		case <-ctx.Done():
			return
		}
	}
}

// senderKey is the context key of the node that sent a record to a replica.
type senderKey struct{}

// withSender notes who sent a request.
func withSender(ctx context.Context, r *wire.Request) context.Context {
	return context.WithValue(ctx, senderKey{}, ring.NodeID(r.Peer().Node))
}

// senderOf returns who sent a request, zero if that was not noted.
func senderOf(ctx context.Context) ring.NodeID {
	id, _ := ctx.Value(senderKey{}).(ring.NodeID)
	return id
}
