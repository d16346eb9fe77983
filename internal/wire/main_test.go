package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/internal/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Operations of the test handler.
const (
	opEcho   = 10 + iota // answers with what came
	opFail               // answers with the error in the meta
	opWait               // waits for its context to end
	opStream             // meta: u32 messages, u32 bytes each
	opSink               // answers with nothing
	opHold               // waits until released
)

// A testHandler does what the operations above say and counts.
type testHandler struct {
	mu      sync.Mutex
	started map[uint8]int
	ended   map[uint8]int
	waitErr chan error    // what opWait's context ended with
	release chan struct{} // ends opHold
	onSend  func(i int)   // opStream, after each message
}

func newTestHandler() *testHandler {
	return &testHandler{
		started: map[uint8]int{}, ended: map[uint8]int{},
		waitErr: make(chan error, 1000), release: make(chan struct{}),
	}
}

func (h *testHandler) count(m map[uint8]int, op uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m[op]++
}

func (h *testHandler) startedCount(op uint8) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started[op]
}

func (h *testHandler) ServeWire(ctx context.Context, r *Request) (Answer, error) {
	h.count(h.started, r.Op)
	defer h.count(h.ended, r.Op)
	switch r.Op {
	case opEcho:
		a := Answer{Meta: append([]byte(nil), r.Meta...)}
		if r.Buf != nil {
			a.Body = Piece{r.Body, r.Buf.Retain()}
		}
		return a, nil
	case opFail:
		e, _, err := ParseError(r.Meta)
		if err != nil {
			return Answer{}, err
		}
		return Answer{}, e
	case opWait:
		<-ctx.Done()
		h.waitErr <- ctx.Err()
		return Answer{}, object.Errorf(object.CodeDeadline, object.MaybeDone, "%w", ctx.Err())
	case opHold:
		select {
		case <-h.release:
			return Answer{Meta: []byte("held")}, nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	case opStream:
		return h.stream(r)
	case opSink:
		return Answer{}, nil
	}
	return Answer{}, object.Errorf(object.CodeUnsupported, object.NotDone, "operation %d is not known", r.Op)
}

func (h *testHandler) stream(r *Request) (Answer, error) {
	n, size := binary.LittleEndian.Uint32(r.Meta), int(binary.LittleEndian.Uint32(r.Meta[4:]))
	for i := range n {
		buf := object.NewBuffer(size)
		for j := range buf.Bytes() {
			buf.Bytes()[j] = byte(i)
		}
		if err := r.Send(binary.LittleEndian.AppendUint32(nil, i), Piece{buf.Bytes(), buf}); err != nil {
			return Answer{}, err
		}
		if h.onSend != nil {
			h.onSend(int(i))
		}
	}
	return Answer{Meta: []byte("end")}, nil
}

var (
	clusterA = ID{0xaa, 1}
	clusterB = ID{0xbb, 2}
	nodeOne  = ID{1}
)

func testServerConfig(h Handler) ServerConfig {
	return ServerConfig{Handler: h, Hello: Hello{Cluster: clusterA, Node: nodeOne, Name: "one"}}
}

// overPipe returns a Conn to srv over a net.Pipe. Close both at the end.
func overPipe(t testing.TB, srv *Server, cfg Config) *Conn {
	t.Helper()
	here, there := net.Pipe()
	go srv.ServeConn(there)
	c, err := NewConn(context.Background(), here, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// overTCP starts srv on a loopback port and returns its address. Both end with
// the test.
func overTCP(t testing.TB, srv *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return ln.Addr().String()
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

func streamMeta(messages, size uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, messages), size)
}

func wantError(t testing.TB, err error, code object.Code, outcome object.Outcome) {
	t.Helper()
	e, ok := errors.AsType[*object.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want an object.Error", err, err)
	}
	if e.Code != code || e.Outcome != outcome {
		t.Errorf("got %v, %v (%v), want %v, %v", e.Code, e.Outcome, e, code, outcome)
	}
}

// A raw speaks the protocol by hand, rightly or wrongly.
type raw struct {
	t  testing.TB
	nc net.Conn
}

// rawUser connects to srv and exchanges hellos as a user would.
func rawUser(t testing.TB, srv *Server) *raw {
	t.Helper()
	here, there := net.Pipe()
	go srv.ServeConn(there)
	r := &raw{t, here}
	r.write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxBodyBytes: MaxBodyBytes}))
	if h, err := readHello(here); err != nil || h.Refusal != "" {
		t.Fatalf("hello: %v %q", err, h.Refusal)
	}
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// frame sends a frame with the lengths and checksum its payload has.
func (r *raw) frame(h Header, meta, body []byte) {
	r.t.Helper()
	r.write(encodeFrame(h, meta, body))
}

func encodeFrame(h Header, meta, body []byte) []byte {
	h.MetaBytes, h.BodyBytes, h.MetaCRC = uint32(len(meta)), uint32(len(body)), metaCRC(meta)
	b := AppendHeader(nil, &h)
	return append(append(b, meta...), body...)
}

// next reads one frame.
func (r *raw) next() (Header, []byte, []byte, error) {
	var b [HeaderBytes]byte
	if _, err := io.ReadFull(r.nc, b[:]); err != nil {
		return Header{}, nil, nil, err
	}
	h, err := ParseHeader(b[:])
	if err != nil {
		return Header{}, nil, nil, err
	}
	p := make([]byte, h.MetaBytes+h.BodyBytes)
	_, err = io.ReadFull(r.nc, p)
	return h, p[:h.MetaBytes], p[h.MetaBytes:], err
}

// wantErrorFrame reads frames up to the next error and checks it.
func (r *raw) wantErrorFrame(id uint64, code object.Code) *object.Error {
	r.t.Helper()
	for {
		h, meta, _, err := r.next()
		if err != nil {
			r.t.Fatalf("waiting for an error frame: %v", err)
		}
		if h.Flags&FlagError == 0 {
			continue
		}
		e, _, err := ParseError(meta)
		if err != nil {
			r.t.Fatal(err)
		}
		if h.ID != id || e.Code != code {
			r.t.Errorf("got an error about request %d: %v: %v; want one about %d: %v", h.ID, e.Code, e, id, code)
		}
		return e
	}
}

// wantClosed reads until the server has closed the connection.
func (r *raw) wantClosed() {
	r.t.Helper()
	_ = r.nc.SetReadDeadline(time.Now().Add(10 * time.Minute))
	if _, err := io.Copy(io.Discard, r.nc); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		r.t.Errorf("the connection was not closed: %v", err)
	}
}

func (r *raw) String() string { return fmt.Sprint("raw ", r.nc.RemoteAddr()) }
