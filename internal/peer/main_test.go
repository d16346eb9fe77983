package peer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	cluster = wire.ID{0xc1}
	here    = ring.NodeID{1} // who asks
	there   = ring.NodeID{2} // who answers
)

// A fakeLocal keeps records in a map and does as it is told.
type fakeLocal struct {
	mu       sync.Mutex
	recs     map[string]object.Record
	rows     map[event.IndexKey]index.Row
	complete bool
	gone     map[string]error // what Get and Row say instead
	version  ring.Version
	differs  bool

	began chan struct{}                   // if not nil, gets one element a put that has begun
	onPut func(ctx context.Context) error // if not nil, decides a put after that
}

func newFakeLocal() *fakeLocal {
	return &fakeLocal{recs: map[string]object.Record{}, rows: map[event.IndexKey]index.Row{}, gone: map[string]error{}, complete: true}
}

func (l *fakeLocal) Judge(theirs ring.Version, ref Ref, _ bool) Judgement {
	if ref.Hash != ring.Hash(ref.Type, ref.Bucket, ref.Key) {
		panic("a wrong hash")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.version.Before(theirs):
		return Behind
	case l.differs:
		return Differs
	}
	return Same
}

func (l *fakeLocal) setVersion(v ring.Version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version = v
}

func (l *fakeLocal) history() wire.History {
	l.mu.Lock()
	defer l.mu.Unlock()
	return wire.History(l.version)
}

func (l *fakeLocal) Put(ctx context.Context, hash uint64, rec object.Record) error {
	if hash != ring.Hash(rec.Type, rec.Bucket, rec.Key) {
		panic("a wrong hash")
	}
	if l.began != nil {
		l.began <- struct{}{}
	}
	if l.onPut != nil {
		if err := l.onPut(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.recs[string(rec.Key)]; ok {
		old.Release()
	}
	l.recs[string(rec.Key)] = rec.Retain()
	return nil
}

func (l *fakeLocal) Get(_ context.Context, ref Ref, body bool) (object.Record, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone[string(ref.Key)]; err != nil {
		return object.Record{}, l.complete, err
	}
	rec, ok := l.recs[string(ref.Key)]
	if !ok {
		return object.Record{}, l.complete, object.Errorf(object.CodeAbsent, object.NotDone, "no")
	}
	if !body {
		return object.HeadRecord(rec.Header, rec.RawHeader(), rec.Buf.Retain()), l.complete, nil
	}
	return rec.Retain(), l.complete, nil
}

func (l *fakeLocal) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone[key.String()]; err != nil {
		return index.Row{}, l.complete, err
	}
	return l.rows[key], l.complete, nil
}

func (l *fakeLocal) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, rec := range l.recs {
		rec.Release()
		delete(l.recs, k)
	}
}

// A network connects Peers to a server by net.Pipe, and can be cut.
type network struct {
	mu    sync.Mutex
	srv   *wire.Server // nil: nobody listens
	conns []net.Conn   // the server's ends
	dials int
	wg    sync.WaitGroup
}

var errNobody = errors.New("nobody listens")

func (n *network) dial(_ context.Context, _ string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	if n.srv == nil {
		return nil, errNobody
	}
	a, b := net.Pipe()
	srv := n.srv
	n.conns = append(n.conns, b)
	n.wg.Go(func() { srv.ServeConn(b) })
	return a, nil
}

// listen makes srv, or nobody, answer further dials.
func (n *network) listen(srv *wire.Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.srv = srv
}

// cut ends all connections without a word.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

// cutOne ends one of them.
func (n *network) cutOne() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[len(n.conns)-1].Close()
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// A rig is a Peer, a server, and the network between them.
type rig struct {
	local   *fakeLocal
	handler *Handler
	srv     *wire.Server
	net     *network
	peer    *Peer
}

func serverFor(h wire.Handler, local *fakeLocal) *wire.Server {
	return wire.NewServer(wire.ServerConfig{Handler: h, History: local.history, Hello: wire.Hello{Cluster: cluster, Node: wire.ID(there), Name: "there"}})
}

// newRig makes a rig; change, if not nil, changes the Peer's configuration. The
// caller closes it.
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{local: newFakeLocal(), net: &network{}}
	r.handler = NewHandler(HandlerConfig{Local: r.local, Cluster: cluster})
	r.srv = serverFor(r.handler, r.local)
	r.net.listen(r.srv)
	cfg := Config{Node: there, Address: func() string { return "there" }, Dial: r.net.dial, Hello: wire.Hello{Cluster: cluster, Node: wire.ID(here), Name: "here"}}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.peer = p
	return r
}

// connected is newRig and waits for a connection.
func connected(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := newRig(t, change)
	if err := r.peer.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// replace ends the server, and makes another answer further dials.
func (r *rig) replace(srv *wire.Server) {
	r.srv.Close()
	r.srv = srv
	r.net.listen(srv)
}

func (r *rig) close() {
	r.peer.Close()
	r.srv.Close()
	r.net.wg.Wait()
	r.local.release()
}

// noBuffersLeft checks that f leaves as many Buffers in use as it found.
func noBuffersLeft(t testing.TB, f func()) {
	t.Helper()
	before, _ := object.Live()
	f()
	if after, size := object.Live(); after != before {
		t.Errorf("%d buffers are still in use, %d bytes in all", after-before, size)
	}
}

func record(t testing.TB, key string, size int) object.Record {
	t.Helper()
	r, err := object.Encode(object.Header{
		Kind: object.Value, EventCount: 2, TimestampMicros: 7,
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key),
	}, bytes.Repeat([]byte("v"), size))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const blobKey = "1763712000:ams:WEB:app:0"

var rowKey = event.IndexKey{Epoch: 1763712000, DC: "ams"}

func hashOf(key string) uint64 { return ring.Hash("default", "events", key) }

// An answer is what a request was answered with.
type answer struct {
	call     uint64
	rec      object.Record
	row      index.Row
	complete bool
	err      *object.Error
}

func ask(hash uint64) Ask { return Ask{Call: 42, Hash: hash, Deadline: time.Now().Add(time.Minute)} }

// A replica is what replication asks of one.
type replica interface {
	Put(ask Ask, rec object.Record, done func(call uint64, err *object.Error))
	Get(ask Ask, bucketType, bucket, key []byte, body bool, done func(call uint64, rec object.Record, complete bool, err *object.Error))
	Row(ask Ask, key event.IndexKey, done func(call uint64, row index.Row, complete bool, err *object.Error))
}

func beginPut(p replica, a Ask, rec object.Record) <-chan answer {
	got := make(chan answer, 2)
	p.Put(a, rec, func(call uint64, err *object.Error) { got <- answer{call: call, err: err} })
	return got
}

func put(p replica, a Ask, rec object.Record) answer { return <-beginPut(p, a, rec) }

func get(p replica, a Ask, key string, body bool) answer {
	got := make(chan answer, 2)
	p.Get(a, []byte("default"), []byte("events"), []byte(key), body, func(call uint64, rec object.Record, complete bool, err *object.Error) {
		got <- answer{call: call, rec: rec, complete: complete, err: err}
	})
	return <-got
}

func row(p replica, a Ask, key event.IndexKey) answer {
	got := make(chan answer, 2)
	p.Row(a, key, func(call uint64, row index.Row, complete bool, err *object.Error) {
		got <- answer{call: call, row: row, complete: complete, err: err}
	})
	return <-got
}

func want(t testing.TB, what string, err *object.Error, code object.Code, outcome object.Outcome) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error; want %v, %v", what, code, outcome)
	} else if err.Code != code || err.Outcome != outcome {
		t.Errorf("%s: got %v, %v (%v); want %v, %v", what, err.Code, err.Outcome, err, code, outcome)
	}
}
