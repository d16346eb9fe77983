package proto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
)

func record(t testing.TB, key string, value []byte) object.Record {
	t.Helper()
	r, err := object.Encode(object.Header{
		Kind: object.Value, EventCount: 2, TimestampMicros: 7,
		Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key),
	}, value)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	return r
}

const blobKey = "1763712000:ams:WEB:app:0"

func blobItem(t testing.TB) tail.Item {
	key, err := event.ParseKey(blobKey)
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, blobKey, []byte("hello"))
	_, entry, err := index.EntryOf(&rec.Header)
	if err != nil {
		t.Fatal(err)
	}
	return tail.Item{Kind: tail.KindBlob, Arrival: 1763712001, Low: 1763712000, Blob: tail.Blob{Key: key, Entry: entry, Record: rec, Late: true}}
}

func watermarkItem() tail.Item {
	return tail.Item{Kind: tail.KindWatermark, Arrival: 2, Low: 1, Watermark: tail.Watermark{Epoch: 2, DC: "ams", Verdict: index.Verdict{
		State:   index.Incomplete,
		Missing: []index.Missing{{Writer: index.Writer{Name: "agg", Incarnation: 9}, Reason: index.Fewer, Have: 1, Want: 2}},
	}}}
}

func gapItem() tail.Item {
	return tail.Item{Kind: tail.KindGap, Arrival: 2, Low: 1, Gap: tail.Gap{First: 3, Last: 4, Err: &object.Error{Code: object.CodeExpired, Outcome: object.NotDone, Message: "gone"}}}
}

// TestGoldenMetas pins what clients and nodes of different builds say.
func TestGoldenMetas(t *testing.T) {
	blob, mark, gap := blobItem(t), watermarkItem(), gapItem()
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"name", AppendName(nil, Name{[]byte("t"), []byte("bk"), []byte("key")}), "010074" + "0200626b" + "03006b6579"},
		{"tail options", AppendTailOptions(nil, tail.Options{From: 258, Shard: 1, Shards: 4, WithoutBodies: true, DC: "ams", Type: "WEB"}),
			"0201000000000000" + "01000000" + "04000000" + "01" + "0000" + "0300616d73" + "0300574542" + "0000"},
		{"blob", AppendItem(nil, &blob), "01" + "011c206900000000" + "001c206900000000" + "0100" + "0700000000000000" + crcHex(blob) + "00" +
			"a36d9f887d82c726" + "05000000" + "02000000" + "1800" + hex.EncodeToString([]byte(blobKey))},
		{"watermark", AppendItem(nil, &mark), "02" + "0200000000000000" + "0100000000000000" + "0200000000000000" + "03" + "01000000" + "0300616d73" +
			"0300616767" + "0900000000000000" + "03" + "01000000" + "02000000"},
		{"gap", AppendItem(nil, &gap), "03" + "0200000000000000" + "0100000000000000" + "0300000000000000" + "0400000000000000" + "0000" + "03010400676f6e65"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.what, got, c.want)
		}
	}
}

func crcHex(i tail.Item) string {
	c := i.Blob.Entry.Version.HeaderCRC
	return hex.EncodeToString([]byte{byte(c), byte(c >> 8), byte(c >> 16), byte(c >> 24)})
}

func TestItemsRoundTrip(t *testing.T) {
	for _, want := range []tail.Item{blobItem(t), watermarkItem(), gapItem()} {
		body := slices.Clone(want.Blob.Record.Raw())
		got, err := ParseItem(AppendItem(nil, &want), body, nil)
		if err != nil {
			t.Errorf("kind %d: %v", want.Kind, err)
			continue
		}
		if !bytes.Equal(got.Blob.Record.Raw(), want.Blob.Record.Raw()) {
			t.Error("the record changed on the way")
		}
		got.Blob.Record, want.Blob.Record = object.Record{}, object.Record{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

// TestForeignBody: a record under another key than its item's is refused: a
// tail must not hand out what it did not promise.
func TestForeignBody(t *testing.T) {
	item := blobItem(t)
	other := record(t, "1763712000:ams:WEB:app:1", []byte("hello"))
	if _, err := ParseItem(AppendItem(nil, &item), other.Raw(), nil); !errors.Is(err, ErrArguments) {
		t.Errorf("a foreign record: %v", err)
	}
	mark := watermarkItem()
	if _, err := ParseItem(AppendItem(nil, &mark), []byte("x"), nil); !errors.Is(err, ErrArguments) {
		t.Errorf("a watermark with a body: %v", err)
	}
}

func TestManyMissingFitAMeta(t *testing.T) {
	item := watermarkItem()
	for i := range 1000 {
		item.Watermark.Verdict.Missing = append(item.Watermark.Verdict.Missing, index.Missing{Writer: index.Writer{Name: string(bytes.Repeat([]byte("n"), 255)), Incarnation: uint64(i)}})
	}
	meta := AppendItem(nil, &item)
	if len(meta) > 64<<10 {
		t.Errorf("a watermark of %d bytes does not fit a frame", len(meta))
	}
	if _, err := ParseItem(meta, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestBatch(t *testing.T) {
	recs := []object.Record{record(t, blobKey, []byte("one")), record(t, "1763712000:ams:WEB:app:1", nil)}
	body := slices.Concat(recs[0].Raw(), recs[1].Raw())
	meta := AppendSizes(nil, recs)
	got, err := ParseBatch(meta, body)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || string(got[0].Value()) != "one" || string(got[1].Key) != "1763712000:ams:WEB:app:1" {
		t.Errorf("parsed %d records", len(got))
	}
	flipped := slices.Clone(body)
	flipped[20] ^= 1
	for _, c := range []struct {
		claim      string
		meta, body []byte
		want       error
	}{
		{"a short body", meta, body[:len(body)-1], ErrArguments},
		{"a long body", meta, append(slices.Clone(body), 0), ErrArguments},
		{"a short meta", meta[:len(meta)-1], body, ErrArguments},
		{"no records", []byte{0, 0, 0, 0}, nil, ErrArguments},
		{"a count that is not true", []byte{0xff, 0xff, 0xff, 0xff}, nil, ErrArguments},
		{"a damaged header", meta, flipped, object.ErrCorrupt},
	} {
		if _, err := ParseBatch(c.meta, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.claim, err, c.want)
		}
	}
}

func TestFailures(t *testing.T) {
	conflict := &object.Error{Code: object.CodeConflict, Outcome: object.NotDone, Message: "other bytes"}
	want := []error{nil, conflict, nil, errors.New("a plain one")}
	got, err := ParseFailures(AppendFailures(nil, want), 4)
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != nil || got[2] != nil || !errors.Is(got[1], object.CodeConflict) || !errors.Is(got[3], object.CodeInternal) {
		t.Errorf("parsed %v", got)
	}
	if b := AppendFailures(nil, make([]error, 5)); len(b) != 0 {
		t.Error("success has bytes")
	}
	b := AppendFailures(nil, want)
	for _, bad := range [][]byte{b[:len(b)-1], b[:3], slices.Concat(b, b), append([]byte{9, 0, 0, 0}, b[4:]...)} {
		if _, err := ParseFailures(bad, 4); !errors.Is(err, ErrArguments) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func TestRowMeta(t *testing.T) {
	row := []byte("hello")
	for _, certain := range []bool{false, true} {
		meta := AppendRowMeta(nil, certain, row)
		if got, err := ParseRowMeta(meta, row); err != nil || got != certain {
			t.Errorf("%v came back as %v, %v", certain, got, err)
		}
		for _, bad := range [][]byte{meta[:8], append(slices.Clone(meta), 0), append([]byte{2}, meta[1:]...)} {
			if _, err := ParseRowMeta(bad, row); !errors.Is(err, ErrArguments) {
				t.Errorf("%x: %v", bad, err)
			}
		}
		if _, err := ParseRowMeta(meta, []byte("hellp")); !errors.Is(err, ErrArguments) {
			t.Errorf("a damaged row: %v", err)
		}
	}
	if got := hex.EncodeToString(AppendRowMeta(nil, true, row)); got != "01a36d9f887d82c726" {
		t.Errorf("meta %s", got)
	}
}

func TestInfo(t *testing.T) {
	want := Info{Node: "n", Cluster: "c", SlotSeconds: 10, DCs: []string{"ams"}, Buckets: []bucket.Properties{bucket.Plain("default", "x")}}
	b, err := AppendInfo(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseInfo(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ParseInfo([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}); !errors.Is(err, ErrArguments) {
		t.Errorf("a hostile document: %v", err)
	}
}

func FuzzParseItem(f *testing.F) {
	blob, mark, gap := blobItem(f), watermarkItem(), gapItem()
	f.Add(AppendItem(nil, &blob), slices.Clone(blob.Blob.Record.Raw()))
	f.Add(AppendItem(nil, &mark), []byte{})
	f.Add(AppendItem(nil, &gap), []byte{})
	f.Fuzz(func(t *testing.T, meta, body []byte) {
		item, err := ParseItem(meta, body, nil)
		if err != nil {
			return
		}
		if again := AppendItem(nil, &item); !bytes.Equal(again, meta) {
			t.Fatalf("what decodes does not encode back:\n%x\n%x", meta, again)
		}
	})
}

func FuzzParseTailOptions(f *testing.F) {
	f.Add(AppendTailOptions(nil, tail.Options{From: 258, Shard: 1, Shards: 4, DC: "ams", Type: "WEB"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseTailOptions(b)
		if err == nil && !bytes.Equal(AppendTailOptions(nil, o), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParseBatch(f *testing.F) {
	recs := []object.Record{record(f, blobKey, []byte("one")), record(f, blobKey, nil)}
	f.Add(AppendSizes(nil, recs), slices.Concat(recs[0].Raw(), recs[1].Raw()))
	f.Fuzz(func(t *testing.T, meta, body []byte) {
		recs, err := ParseBatch(meta, body)
		if err == nil && !bytes.Equal(AppendSizes(nil, recs), meta) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParseFailures(f *testing.F) {
	f.Add(AppendFailures(nil, []error{nil, errors.New("x")}), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		errs, err := ParseFailures(b, int(n))
		if err == nil && !bytes.Equal(AppendFailures(nil, errs), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add(AppendName(nil, Name{[]byte("t"), []byte("bk"), []byte("key")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseName(b)
		if err == nil && !bytes.Equal(AppendName(nil, n), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	b, _ := AppendInfo(nil, Info{Node: "n", DCs: []string{"a"}})
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { ParseInfo(b) })
}
