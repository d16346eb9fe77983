package native

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeStore has one object and one row, and notes what it is asked.
type fakeStore struct {
	rec  object.Record
	row  index.Row
	err  error // what all methods return, if set
	hub  *tail.Hub
	puts [][]byte
	adds []event.IndexKey
}

func (s *fakeStore) Put(_ context.Context, rec object.Record) error {
	s.puts = append(s.puts, slices.Clone(rec.Raw()))
	return s.err
}

func (s *fakeStore) PutBatch(ctx context.Context, recs []object.Record) []error {
	errs := make([]error, len(recs))
	for i := range recs {
		errs[i] = s.Put(ctx, recs[i])
	}
	return errs
}

func (s *fakeStore) Get(context.Context, []byte, []byte, []byte) (object.Record, error) {
	if s.err != nil {
		return object.Record{}, s.err
	}
	return s.rec.Retain(), nil
}

func (s *fakeStore) Head(_ context.Context, _, _, _ []byte, f func(*object.Header, []byte)) error {
	if s.err == nil {
		f(&s.rec.Header, s.rec.RawHeader())
	}
	return s.err
}

func (s *fakeStore) Row(_ context.Context, key event.IndexKey) (index.Row, bool, error) {
	if key != (event.IndexKey{Epoch: 946684800, DC: "ams"}) {
		return index.Row{}, true, s.err
	}
	return s.row, true, s.err
}

func (s *fakeStore) AppendIndex(_ context.Context, key event.IndexKey, _ index.Row) error {
	s.adds = append(s.adds, key)
	return s.err
}

func (s *fakeStore) Subscribe(o tail.Options) (*tail.Subscription, error) { return s.hub.Subscribe(o) }

func (s *fakeStore) Info(context.Context) (proto.Info, error) {
	return proto.Info{Name: "fake"}, s.err
}

func (s *fakeStore) History(context.Context) (proto.History, error) {
	if s.err != nil {
		return proto.History{}, s.err
	}
	id := ring.NodeID{1}
	one, _, err := ring.Claim([]ring.Node{{ID: id, Name: "fake", Weight: 1}}, 1, 1, nil)
	if err != nil {
		return proto.History{}, err
	}
	rings, err := ring.NewHistory(ring.Version{Era: 1, Index: 7}, 10, one)
	return proto.History{Rings: rings, Addresses: []proto.Address{{Node: id, At: "fake:7070"}}}, err
}

// hubSource is what the hub reads: nothing but the one row.
type hubSource struct{ *fakeStore }

func (s hubSource) Get(context.Context, event.Key) (object.Record, error) { return s.rec.Retain(), nil }
func (s hubSource) DCs() []string                                         { return []string{"ams"} }

const blobKey = "946684800:ams:WEB:app:0" // the second in which synctest's clock begins

// onDoor runs f in fake time with a connection to a door.
func onDoor(t *testing.T, f func(t *testing.T, s *fakeStore, c *wire.Conn)) {
	before, _ := object.Live()
	synctest.Test(t, func(t *testing.T) {
		rec, err := object.Encode(object.Header{
			Kind: object.Value, TimestampMicros: 7, EventCount: 3,
			Type: []byte("default"), Bucket: []byte("events"), Key: []byte(blobKey), Writer: []byte("w"), Incarnation: 1,
		}, []byte("value"))
		if err != nil {
			t.Fatal(err)
		}
		s := &fakeStore{rec: rec}
		if _, s.row, err = index.DeltaOf(&rec.Header); err != nil {
			t.Fatal(err)
		}
		s.hub = tail.New(hubSource{s}, tail.DefaultConfig(), slog.New(slog.DiscardHandler))
		srv := wire.NewServer(wire.ServerConfig{Handler: NewHandler(s), Hello: wire.Hello{Node: wire.ID{1}}})
		here, there := net.Pipe()
		go srv.ServeConn(there)
		c, err := wire.NewConn(t.Context(), here, wire.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			c.Close()
			s.hub.Close()
			srv.Close()
			rec.Release()
		}()
		f(t, s, c)
	})
	if after, _ := object.Live(); after != before {
		t.Errorf("%d buffers are still in use", after-before)
	}
}

func name(key string) []byte {
	return proto.AppendName(nil, proto.Name{Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key)})
}

// TestOperations makes each call once and checks what came to the store and what
// came back.
func TestOperations(t *testing.T) {
	onDoor(t, func(t *testing.T, s *fakeStore, c *wire.Conn) {
		call := func(op uint8, class wire.Class, meta []byte, body ...[]byte) wire.Reply {
			t.Helper()
			var pieces []wire.Piece
			for _, b := range body {
				pieces = append(pieces, wire.Piece{Bytes: b})
			}
			r, err := c.Call(t.Context(), &wire.Call{Op: op, Class: class, Meta: meta, Body: pieces})
			if err != nil {
				t.Fatalf("operation %d: %v", op, err)
			}
			return r
		}
		raw, row := s.rec.Raw(), index.AppendRow(nil, s.row)

		put := call(proto.OpPut, wire.Ingest, nil, raw)
		batch := call(proto.OpPutBatch, wire.Ingest, proto.AppendSizes(nil, []object.Record{s.rec, s.rec}), raw, raw)
		if len(s.puts) != 3 || !bytes.Equal(s.puts[0], raw) || !bytes.Equal(s.puts[2], raw) || len(batch.Body) != 0 {
			t.Errorf("%d records came to the store", len(s.puts))
		}
		get := call(proto.OpGet, wire.Get, name(blobKey))
		if !bytes.Equal(get.Body, raw) {
			t.Errorf("get: %x", get.Body)
		}
		head := call(proto.OpHead, wire.Get, name(blobKey))
		if !bytes.Equal(head.Body, s.rec.RawHeader()) {
			t.Errorf("head: %x", head.Body)
		}
		answer := call(proto.OpRow, wire.Get, []byte("946684800-ams"))
		if !bytes.Equal(answer.Body, row) || !bytes.Equal(answer.Meta, proto.AppendRowMeta(nil, true, row)) {
			t.Errorf("row: %x, %x", answer.Meta, answer.Body)
		}
		add := call(proto.OpAppendIndex, wire.Ingest, []byte("946684800:ams"), row)
		if len(s.adds) != 1 || s.adds[0] != (event.IndexKey{Epoch: 946684800, DC: "ams"}) {
			t.Errorf("append index: %v", s.adds)
		}
		info := call(proto.OpInfo, wire.Control, nil)
		if i, err := proto.ParseInfo(info.Body); err != nil || i.Name != "fake" {
			t.Errorf("info: %+v, %v", i, err)
		}
		history := call(proto.OpHistory, wire.Control, nil)
		if h, err := proto.ParseHistory(history.Body); err != nil || h.Rings.Version().Index != 7 || len(h.Addresses) != 1 || h.Addresses[0].At != "fake:7070" {
			t.Errorf("history: %+v, %v", h, err)
		}
		for _, r := range []wire.Reply{put, batch, get, head, answer, add, info, history} {
			r.Release()
		}
	})
}

// TestHostileArguments: what is not the arguments of an operation is answered
// with a sentence, does not reach the store, and harms nobody else.
func TestHostileArguments(t *testing.T) {
	onDoor(t, func(t *testing.T, s *fakeStore, c *wire.Conn) {
		raw := s.rec.Raw()
		flipped := slices.Clone(raw)
		flipped[9] ^= 1
		many := bytes.Repeat([]byte{0xff}, 100)
		for _, x := range []struct {
			what string
			call wire.Call
			body []byte
			code object.Code
		}{
			{"an unknown operation", wire.Call{Op: 200, Class: wire.Get}, nil, object.CodeUnsupported},
			{"a put of nothing", wire.Call{Op: proto.OpPut, Class: wire.Ingest}, nil, object.CodeCorrupt},
			{"a put of half a record", wire.Call{Op: proto.OpPut, Class: wire.Ingest}, raw[:len(raw)-1], object.CodeCorrupt},
			{"a put of a record and more", wire.Call{Op: proto.OpPut, Class: wire.Ingest}, append(slices.Clone(raw), 0), object.CodeCorrupt},
			{"a put of a damaged record", wire.Call{Op: proto.OpPut, Class: wire.Ingest}, flipped, object.CodeCorrupt},
			{"a batch of 4 billion", wire.Call{Op: proto.OpPutBatch, Class: wire.Ingest, Meta: many}, raw, object.CodeBadRequest},
			{"a batch of none", wire.Call{Op: proto.OpPutBatch, Class: wire.Ingest, Meta: make([]byte, 4)}, nil, object.CodeBadRequest},
			{"a batch without arguments", wire.Call{Op: proto.OpPutBatch, Class: wire.Ingest}, raw, object.CodeBadRequest},
			{"a get of nothing", wire.Call{Op: proto.OpGet, Class: wire.Get}, nil, object.CodeBadRequest},
			{"a get whose name is cut", wire.Call{Op: proto.OpGet, Class: wire.Get, Meta: name("k")[:10]}, nil, object.CodeBadRequest},
			{"a head of noise", wire.Call{Op: proto.OpHead, Class: wire.Get, Meta: many}, nil, object.CodeBadRequest},
			{"a row of no second", wire.Call{Op: proto.OpRow, Class: wire.Get, Meta: []byte("now:ams")}, nil, object.CodeBadRequest},
			{"an index entry of noise", wire.Call{Op: proto.OpAppendIndex, Class: wire.Ingest, Meta: []byte("1:ams")}, many, object.CodeBadRequest},
			{"an index entry for nowhere", wire.Call{Op: proto.OpAppendIndex, Class: wire.Ingest}, index.AppendRow(nil, s.row), object.CodeBadRequest},
			{"a tail of noise", wire.Call{Op: proto.OpTail, Class: wire.Tail, Meta: many}, nil, object.CodeBadRequest},
			{"a tail from a wrong cursor", wire.Call{Op: proto.OpTail, Class: wire.Tail, Meta: proto.AppendTailOptions(nil, tail.Options{Cursor: "x"})}, nil, object.CodeBadRequest},
		} {
			x.call.Body = []wire.Piece{{Bytes: x.body}}
			_, err := c.Call(t.Context(), &x.call)
			e, ok := errors.AsType[*object.Error](err)
			if !ok || e.Code != x.code || e.Outcome != object.NotDone || e.Message == "" {
				t.Errorf("%s: got %v, want %v, not done", x.what, err, x.code)
			}
		}
		if len(s.puts) != 0 || len(s.adds) != 0 {
			t.Errorf("%d puts and %d additions reached the store", len(s.puts), len(s.adds))
		}
		if c.Err() != nil {
			t.Errorf("the connection ended: %v", c.Err())
		}
	})
}

// TestStoreErrorsTravel with their code and outcome, from every operation.
func TestStoreErrorsTravel(t *testing.T) {
	onDoor(t, func(t *testing.T, s *fakeStore, c *wire.Conn) {
		s.err = object.Errorf(object.CodeLowSpace, object.MaybeDone, "the disk is nearly full")
		row := index.AppendRow(nil, s.row)
		for _, call := range []wire.Call{
			{Op: proto.OpPut, Class: wire.Ingest, Body: []wire.Piece{{Bytes: s.rec.Raw()}}},
			{Op: proto.OpGet, Class: wire.Get, Meta: name(blobKey)},
			{Op: proto.OpHead, Class: wire.Get, Meta: name(blobKey)},
			{Op: proto.OpRow, Class: wire.Get, Meta: []byte("1:ams")},
			{Op: proto.OpAppendIndex, Class: wire.Ingest, Meta: []byte("1:ams"), Body: []wire.Piece{{Bytes: row}}},
			{Op: proto.OpInfo, Class: wire.Control},
			{Op: proto.OpHistory, Class: wire.Control},
		} {
			_, err := c.Call(t.Context(), &call)
			if e, ok := errors.AsType[*object.Error](err); !ok || e.Code != object.CodeLowSpace || e.Outcome != object.MaybeDone {
				t.Errorf("operation %d: %v", call.Op, err)
			}
		}
		reply, err := c.Call(t.Context(), &wire.Call{
			Op: proto.OpPutBatch, Class: wire.Ingest, Meta: proto.AppendSizes(nil, []object.Record{s.rec}), Body: []wire.Piece{{Bytes: s.rec.Raw()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if errs, err := proto.ParseFailures(reply.Body, 1); err != nil || !errors.Is(errs[0], object.CodeLowSpace) {
			t.Errorf("batch: %v, %v", errs, err)
		}
		reply.Release()
	})
}

// TestTail: a blob with its body, a watermark; it ends when the hub closes, and
// when the caller goes away nothing stays subscribed.
func TestTail(t *testing.T) {
	onDoor(t, func(t *testing.T, s *fakeStore, c *wire.Conn) {
		begin := func() *wire.Stream {
			st, err := c.Stream(t.Context(), &wire.Call{Op: proto.OpTail, Class: wire.Tail, Meta: proto.AppendTailOptions(nil, tail.Options{From: 946684800})})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		st := begin()
		synctest.Wait()
		key, delta, err := index.DeltaOf(&s.rec.Header)
		if err != nil {
			t.Fatal(err)
		}
		s.hub.Publish(tail.Update{Index: key, Delta: delta, Bodies: []object.Record{s.rec}})
		for seen := 0; seen != 3; {
			r, err := st.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			item, err := proto.ParseItem(r.Meta, r.Body, r.Buf)
			if err != nil {
				t.Fatal(err)
			}
			switch item.Kind {
			case tail.KindBlob:
				seen |= 1
				if item.Blob.Key.String() != blobKey || !bytes.Equal(item.Blob.Record.Raw(), s.rec.Raw()) {
					t.Errorf("got %v", item.Blob.Key)
				}
			case tail.KindWatermark:
				seen |= 2
			}
			r.Release()
		}
		st.Close()
		time.Sleep(time.Second)
		if n := s.hub.Counters().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left after the caller went away", n)
		}

		st = begin()
		synctest.Wait()
		s.hub.Close()
		for {
			r, err := st.Next(t.Context())
			if err != nil {
				if !errors.Is(err, object.CodeStopping) {
					t.Errorf("the tail of a hub that closes ends with %v", err)
				}
				break
			}
			r.Release()
		}
		st.Close()
	})
}
