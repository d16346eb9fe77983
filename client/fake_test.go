package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeStore keeps objects in a map and serves tails with a real hub. It is
// shared by all nodes of a fakeNet, as if they were replicas in perfect agreement.
type fakeStore struct {
	hub *tail.Hub

	mu      sync.Mutex
	objects map[string][]byte // type/bucket/key -> record
	rows    map[event.IndexKey]index.Row
	puts    [][]byte               // all records put, in order, repetitions included
	refuse  func(key string) error // if set, asked about each record that is put
	damage  func(key string) bool  // if set, asked about each record that is read
}

func newFakeStore() *fakeStore {
	s := &fakeStore{objects: make(map[string][]byte), rows: make(map[event.IndexKey]index.Row)}
	cfg := tail.DefaultConfig()
	s.hub = tail.New(hubSource{s}, cfg, slog.New(slog.DiscardHandler))
	return s
}

func nameKey(bucketType, name, key []byte) string {
	return string(bucketType) + "/" + string(name) + "/" + string(key)
}

func (s *fakeStore) Put(_ context.Context, rec object.Record) error {
	s.mu.Lock()
	s.puts = append(s.puts, slices.Clone(rec.Raw()))
	if s.refuse != nil {
		if err := s.refuse(string(rec.Key)); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	name := nameKey(rec.Type, rec.Bucket, rec.Key)
	if old, ok := s.objects[name]; ok {
		was, err := object.ParseRecord(old)
		if err != nil {
			panic(err)
		}
		if string(rec.Bucket) == bucket.Events && was.Checksum != rec.Header.Checksum && rec.Kind == object.Value {
			s.mu.Unlock()
			return object.Errorf(object.CodeConflict, object.NotDone, "it holds other bytes")
		}
		if was.Version().Compare(rec.Version()) >= 0 {
			s.mu.Unlock()
			return nil
		}
	}
	s.objects[name] = slices.Clone(rec.Raw())
	var update *tail.Update
	if string(rec.Bucket) == bucket.Events {
		key, delta, err := index.DeltaOf(&rec.Header)
		if err != nil {
			s.mu.Unlock()
			return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
		}
		s.rows[key] = index.Merge(s.rows[key], delta)
		update = &tail.Update{Index: key, Delta: delta, Bodies: []object.Record{rec}}
	}
	s.mu.Unlock()
	if update != nil {
		s.hub.Publish(*update)
	}
	return nil
}

func (s *fakeStore) PutBatch(ctx context.Context, recs []object.Record) []error {
	errs := make([]error, len(recs))
	for i := range recs {
		errs[i] = s.Put(ctx, recs[i])
	}
	return errs
}

func (s *fakeStore) lookup(bucketType, name, key []byte) (object.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.objects[nameKey(bucketType, name, key)]
	if !ok {
		return object.Record{}, object.Errorf(object.CodeAbsent, object.NotDone, "%q is not there", key)
	}
	buf := object.NewBuffer(len(b))
	copy(buf.Bytes(), b)
	if s.damage != nil && s.damage(string(key)) {
		buf.Bytes()[len(b)-1] ^= 1
	}
	rec, err := object.ParseBuffer(buf)
	if err != nil {
		panic(err)
	}
	if rec.Kind == object.Tombstone {
		rec.Release()
		return object.Record{}, object.Errorf(object.CodeAbsent, object.NotDone, "%q was deleted", key)
	}
	return rec, nil
}

func (s *fakeStore) Get(_ context.Context, bucketType, name, key []byte) (object.Record, error) {
	return s.lookup(bucketType, name, key)
}

func (s *fakeStore) Head(_ context.Context, bucketType, name, key []byte, f func(*object.Header, []byte)) error {
	rec, err := s.lookup(bucketType, name, key)
	if err != nil {
		return err
	}
	defer rec.Release()
	f(&rec.Header, rec.RawHeader())
	return nil
}

func (s *fakeStore) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[key], true, nil
}

func (s *fakeStore) AppendIndex(_ context.Context, key event.IndexKey, delta index.Row) error {
	s.mu.Lock()
	s.rows[key] = index.Merge(s.rows[key], delta)
	s.mu.Unlock()
	s.hub.Publish(tail.Update{Index: key, Delta: delta})
	return nil
}

func (s *fakeStore) Subscribe(o tail.Options) (*tail.Subscription, error) { return s.hub.Subscribe(o) }

func (s *fakeStore) Info(context.Context) (proto.Info, error) {
	return proto.Info{Name: "fake", NowMicros: time.Now().UnixMicro(), Buckets: slices.Collect(bucket.DefaultSet().All())}, nil
}

func (s *fakeStore) History(context.Context) (proto.History, error) {
	return proto.History{}, object.Errorf(object.CodeUnsupported, object.NotDone, "this node tells no history")
}

// A nodeStore is the store as one node shows it, which has a history of its own.
type nodeStore struct {
	*fakeStore
	n    *fakeNet
	node *fakeNode
}

func (s nodeStore) History(ctx context.Context) (proto.History, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.node.history.Rings == nil {
		return s.fakeStore.History(ctx)
	}
	return s.node.history, nil
}

// hubSource is the store as the hub reads it.
type hubSource struct{ *fakeStore }

func (s hubSource) Get(_ context.Context, key event.Key) (object.Record, error) {
	return s.lookup([]byte(bucket.DefaultType), []byte(bucket.Events), []byte(key.String()))
}

func (s hubSource) DCs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	dcs := make(map[string]bool)
	for k := range s.rows {
		dcs[k.DC] = true
	}
	return slices.Sorted(maps.Keys(dcs))
}

// A fakeNet is a network of pipes with nodes on it.
type fakeNet struct {
	store    *fakeStore
	maxConns int     // of a node that is started; 0 is the server's default
	cluster  wire.ID // the same

	mu     sync.Mutex
	nodes  map[string]*fakeNode
	dialed map[string]int
	alias  map[string]string // other addresses of nodes
	asked  map[string][]question
}

// A question is a request as a node saw it.
type question struct {
	op   uint8
	meta string
}

// A fakeNode is a server on a fakeNet.
type fakeNode struct {
	server *wire.Server
	conns  map[net.Conn]struct{}
	serves sync.WaitGroup
	// history is what the node tells; without rings it does not know the question.
	history proto.History
	// intercept, if set, sees a request before the door, unless it is for the
	// history; handled says that the door does not.
	intercept func(ctx context.Context, r *wire.Request) (a wire.Answer, handled bool, err error)
	after     func(r *wire.Request) // if set, called when the door has served a request and before it is answered
}

func newFakeNet(addresses ...string) *fakeNet {
	n := &fakeNet{store: newFakeStore(), nodes: make(map[string]*fakeNode), dialed: make(map[string]int), asked: make(map[string][]question)}
	for _, a := range addresses {
		n.start(a)
	}
	return n
}

func (n *fakeNet) start(address string) *fakeNode {
	node := &fakeNode{conns: make(map[net.Conn]struct{})}
	door := native.NewHandler(nodeStore{n.store, n, node})
	node.server = wire.NewServer(wire.ServerConfig{
		Hello: wire.Hello{Node: wire.ID(idOf(address)), Name: address, Cluster: n.cluster}, MaxConns: n.maxConns,
		History: func() (h wire.History) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if node.history.Rings != nil {
				v := node.history.Rings.Version()
				h = wire.History{Era: v.Era, Index: v.Index}
			}
			return h
		},
		Handler: handlerFunc(func(ctx context.Context, r *wire.Request) (wire.Answer, error) {
			n.mu.Lock()
			intercept, after := node.intercept, node.after
			n.asked[address] = append(n.asked[address], question{r.Op, string(r.Meta)})
			n.mu.Unlock()
			if intercept != nil && r.Op != proto.OpHistory {
				if a, handled, err := intercept(ctx, r); handled {
					return a, err
				}
			}
			a, err := door.ServeWire(ctx, r)
			if after != nil {
				after(r)
			}
			return a, err
		}),
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[address] = node
	return node
}

type handlerFunc func(context.Context, *wire.Request) (wire.Answer, error)

func (f handlerFunc) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	return f(ctx, r)
}

func (n *fakeNet) set(address string, intercept func(context.Context, *wire.Request) (wire.Answer, bool, error), after func(*wire.Request)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[address].intercept, n.nodes[address].after = intercept, after
}

// kill ends a node without a word.
func (n *fakeNet) kill(address string) {
	n.mu.Lock()
	node := n.nodes[address]
	delete(n.nodes, address)
	n.mu.Unlock()
	if node != nil {
		node.server.Close()
		node.serves.Wait()
	}
}

// cut breaks all connections to a node, which goes on.
func (n *fakeNet) cut(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.nodes[address]; node != nil {
		for nc := range node.conns {
			nc.Close()
		}
	}
}

func (n *fakeNet) dial(_ context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialed[address]++
	if to, ok := n.alias[address]; ok {
		address = to
	}
	node := n.nodes[address]
	if node == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	node.conns[there] = struct{}{}
	node.serves.Go(func() {
		node.server.ServeConn(there)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(node.conns, there)
	})
	return here, nil
}

func (n *fakeNet) dials(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed[address]
}

// idOf is the id of the node at an address.
func idOf(address string) (id ring.NodeID) {
	copy(id[:], address)
	return id
}

// tell gives nodes a history.
func (n *fakeNet) tell(h proto.History, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addresses {
		n.nodes[a].history = h
	}
}

// forget forgets what nodes were asked.
func (n *fakeNet) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.asked)
}

// count returns how many questions came to a node, those for history and
// information left out.
func (n *fakeNet) count(address string) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.asked[address] {
		if q.op != proto.OpHistory && q.op != proto.OpInfo {
			c++
		}
	}
	return c
}

func (n *fakeNet) close() {
	n.store.hub.Close()
	n.mu.Lock()
	addresses := slices.Collect(maps.Keys(n.nodes))
	n.mu.Unlock()
	for _, a := range addresses {
		n.kill(a)
	}
}

// client returns a Client on the network, for the nodes it names.
func (n *fakeNet) client(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.dial = n.dial
	return c
}

func wantError(t testing.TB, err error, code object.Code, outcome object.Outcome) {
	t.Helper()
	e, ok := errors.AsType[*object.Error](err)
	if !ok {
		t.Errorf("got %v (%T), want an object.Error", err, err)
		return
	}
	if e.Code != code || e.Outcome != outcome {
		t.Errorf("got %v, %v (%v), want %v, %v", e.Code, e.Outcome, e, code, outcome)
	}
}

// nothingLeft checks that f leaves no buffer in use.
func nothingLeft(t *testing.T, f func()) {
	t.Helper()
	before, _ := object.Live()
	f()
	if after, _ := object.Live(); after != before {
		t.Errorf("%d buffers are still in use", after-before)
	}
}
