package peer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// TestGoldenMetas pins what nodes of different builds say to each other.
func TestGoldenMetas(t *testing.T) {
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"name", appendName(nil, []byte("t"), []byte("bk"), []byte("key")), "010074" + "0200626b" + "03006b6579"},
		{"absent, complete", appendVerdict(nil, verdict{absent, true}), "0101"},
		{"expired", appendVerdict(nil, verdict{expired, false}), "0200"},
		{"found, complete", appendVerdict(nil, verdict{found, true}), "0301"},
		{"with a row", appendRowMeta(nil, verdict{found, true}, []byte("hello")), "0301" + "a36d9f887d82c726"},
		{"with no row", appendRowMeta(nil, verdict{absent, false}, nil), "0100" + "99e9d85137db46ef"},
		{"row key", rowRef(rowKey).Key, hex.EncodeToString([]byte("1763712000:ams"))},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.what, got, c.want)
		}
	}
	if OpPut != 32 || OpGet != 33 || OpHead != 34 || OpRow != 35 || OpAdopted != 41 {
		t.Error("the operations have other numbers")
	}
	for op := range 256 {
		if Serves(uint8(op)) != (op >= 32 && op <= 35 || op == 41) {
			t.Errorf("operation %d", op)
		}
	}
}

// TestRowsAreWhereTheIndexIs: rows are placed as every other part places them.
func TestRowsAreWhereTheIndexIs(t *testing.T) {
	if got, want := rowRef(rowKey).Hash, ring.Hash(bucket.DefaultType, bucket.Epochs, rowKey.String()); got != want {
		t.Errorf("a row is placed at %x, elsewhere at %x", got, want)
	}
}

func TestBadMetas(t *testing.T) {
	name := appendName(nil, []byte("t"), []byte("b"), []byte("k"))
	for _, bad := range [][]byte{
		nil, name[:1], name[:len(name)-1], append(bytes.Clone(name), 0), {0, 0, 1, 0, 'b', 1, 0, 'k'},
		appendName(nil, make([]byte, object.MaxNameBytes+1), []byte("b"), []byte("k")),
		appendName(nil, []byte("t"), []byte("b"), make([]byte, object.MaxKeyBytes+1)),
	} {
		if _, err := parseName(bad); !errors.Is(err, errArguments) {
			t.Errorf("the name %x: %v", bad[:min(len(bad), 20)], err)
		}
	}
	for _, bad := range [][]byte{nil, {1}, {0, 0}, {4, 0}, {1, 2}, {1, 0, 0}} {
		if _, err := parseVerdict(bad); !errors.Is(err, errArguments) {
			t.Errorf("the verdict %x: %v", bad, err)
		}
	}
}

// TestDamagedRow: a row has no checksum but that of its answer.
func TestDamagedRow(t *testing.T) {
	row := []byte("hello")
	meta := appendRowMeta(nil, verdict{found, true}, row)
	if v, err := parseRowMeta(meta, row); err != nil || v != (verdict{found, true}) {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := parseRowMeta(meta, []byte("hellp")); !errors.Is(err, errArguments) {
		t.Errorf("a damaged row: %v", err)
	}
	if _, err := parseRowMeta(meta[:9], row); !errors.Is(err, errArguments) {
		t.Errorf("a short meta: %v", err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(appendName(nil, []byte("t"), []byte("bk"), []byte("key")))
	f.Fuzz(func(t *testing.T, b []byte) {
		ref, err := parseName(b)
		if err == nil && !bytes.Equal(appendName(nil, ref.Type, ref.Bucket, ref.Key), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParseVerdict(f *testing.F) {
	f.Add([]byte{3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseVerdict(b)
		if err == nil && !bytes.Equal(appendVerdict(nil, v), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

// FuzzAnswers gives a Peer any answer to any request: it is answered once, with
// an object of the key that was asked for or with an error, and no buffer leaks.
func FuzzAnswers(f *testing.F) {
	rec := record(f, blobKey, 10)
	f.Add(OpGet, []byte{3, 1}, bytes.Clone(rec.Raw()))
	f.Add(OpHead, []byte{3, 0}, bytes.Clone(rec.RawHeader()))
	f.Add(OpRow, appendRowMeta(nil, verdict{found, false}, []byte{1}), []byte{1})
	f.Add(OpPut, []byte{}, []byte{})
	f.Add(OpGet, []byte{1, 1}, []byte{})
	rec.Release()
	p, err := New(Config{Node: there, Address: func() string { return "" }, Hello: wire.Hello{Cluster: cluster, Node: wire.ID(here)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, op uint8, meta, body []byte) {
		noBuffersLeft(t, func() {
			buf := object.NewBuffer(len(meta) + len(body))
			copy(buf.Bytes(), meta)
			copy(buf.Bytes()[len(meta):], body)
			got := make(chan answer, 2)
			q := newRequest(p, OpPut+op%4, ask(hashOf(blobKey)))
			switch q.op {
			case OpPut:
				q.donePut = func(call uint64, err *object.Error) { got <- answer{call: call, err: err} }
			case OpRow:
				q.doneRow = func(call uint64, r index.Row, _ bool, err *object.Error) { got <- answer{call: call, row: r, err: err} }
			default:
				q.doneGet = func(call uint64, r object.Record, _ bool, err *object.Error) {
					got <- answer{call: call, rec: r, err: err}
				}
			}
			q.reply(wire.Reply{Meta: buf.Bytes()[:len(meta)], Body: buf.Bytes()[len(meta):], Buf: buf}, nil)
			a := <-got
			if len(got) != 0 || a.call != 42 {
				t.Fatal("not answered once, or under another call")
			}
			if a.err == nil && a.rec.Buf != nil && string(a.rec.Key) != blobKey {
				t.Fatalf("a record of %q", a.rec.Key)
			}
			a.rec.Release()
		})
	})
}
