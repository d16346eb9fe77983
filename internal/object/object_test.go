package object

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample is the header whose bytes are pinned below.
func sample() Header {
	return Header{
		Kind:            Value,
		EventCount:      3,
		TimestampMicros: 1763712000_000001,
		Incarnation:     0x0102030405060708,
		Type:            []byte("default"),
		Bucket:          []byte("events"),
		Key:             []byte("1763712000:1:WEB:app:0"),
		Writer:          []byte("agg-1"),
		Metadata:        AppendField(nil, "a", []byte("b")),
	}
}

// TestGoldenRecord pins format 1 to the byte.
func TestGoldenRecord(t *testing.T) {
	r, err := Encode(sample(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	const want = "010100000300000001003f3316440600" + // format, kind, flags, events, timestamp
		"05000000070006001600050008000000" + // value, type, bucket, key, writer, metadata lengths
		"a36d9f887d82c726" + "0807060504030201" + // xxhash64 of "hello", incarnation
		"64656661756c74" + "6576656e7473" + "313736333731323030303a313a5745423a6170703a30" +
		"6167672d31" + "0100010000006162" + // writer, metadata
		"CRC" + "68656c6c6f"
	got := hex.EncodeToString(r.Raw())
	crc := fmt.Sprintf("%02x%02x%02x%02x", byte(r.CRC), byte(r.CRC>>8), byte(r.CRC>>16), byte(r.CRC>>24))
	if w := strings.Replace(want, "CRC", crc, 1); got != w {
		t.Errorf("record bytes\n got %s\nwant %s", got, w)
	}
	if r.CRC != goldenCRC {
		t.Errorf("header CRC %#x, want %#x", r.CRC, uint32(goldenCRC))
	}
	if r.Header.Checksum != Checksum([]byte("hello")) {
		t.Error("the header's checksum is not the value's")
	}
}

// TestHeaderCopied: a header that is copied with its encoding aliases the copy,
// and a record of it has a header and nothing else.
func TestHeaderCopied(t *testing.T) {
	r, err := Encode(sample(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	buf := NewBuffer(len(r.RawHeader()))
	copy(buf.Bytes(), r.Raw())
	h := r.Header.In(buf.Bytes())
	want, _, err := ParseHeader(buf.Bytes())
	if err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("copied %+v\nparsed %+v, %v", h, want, err)
	}
	clear(r.Raw()) // nothing may alias it any more
	r.Release()
	if !reflect.DeepEqual(h, want) || cap(h.Key) != len(h.Key) {
		t.Errorf("the copy changed with the original: %+v", h)
	}
	head := HeadRecord(h, buf.Bytes(), buf)
	defer head.Release()
	if len(head.Raw()) != 0 || len(head.Value()) != 0 || !bytes.Equal(head.RawHeader(), AppendHeader(nil, &h)) {
		t.Errorf("the record of a header: %x, value %x, header %x", head.Raw(), head.Value(), head.RawHeader())
	}
}

func TestEncodeParseRoundTrip(t *testing.T) {
	r, err := Encode(sample(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	back, err := ParseRecord(slices.Clone(r.Raw()))
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Verify(); err != nil {
		t.Error(err)
	}
	again := AppendHeader(nil, &back.Header)
	if !bytes.Equal(again, r.RawHeader()) {
		t.Error("a parsed header encodes to other bytes")
	}
	if string(back.Key) != "1763712000:1:WEB:app:0" || string(back.Writer) != "agg-1" || string(back.Value()) != "hello" {
		t.Errorf("parsed %q by %q: %q", back.Key, back.Writer, back.Value())
	}
	if back.Version() != r.Version() {
		t.Error("the version changed on the way")
	}
}

// TestEveryCut: no prefix of a record is a record, and each says "torn", or
// recovery would take a healthy file's end for damage.
func TestEveryCut(t *testing.T) {
	r, _ := Encode(sample(), []byte("hello"))
	defer r.Release()
	for cut := range len(r.Raw()) {
		if _, err := ParseRecord(r.Raw()[:cut]); !errors.Is(err, ErrTorn) {
			t.Errorf("cut at %d of %d: %v, want ErrTorn", cut, len(r.Raw()), err)
		}
	}
	if _, err := ParseRecord(append(slices.Clone(r.Raw()), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte behind the record: %v, want ErrCorrupt", err)
	}
}

// TestEveryFlip: a flipped bit anywhere is noticed, by the header's CRC or the
// value's checksum.
func TestEveryFlip(t *testing.T) {
	r, _ := Encode(sample(), []byte("hello"))
	defer r.Release()
	for i := range len(r.Raw()) * 8 {
		b := slices.Clone(r.Raw())
		b[i/8] ^= 1 << (i % 8)
		back, err := ParseRecord(b)
		if err == nil {
			err = back.Verify()
		}
		if err == nil {
			t.Errorf("bit %d flipped and nobody noticed", i)
		}
	}
}

func TestHeaderRefusals(t *testing.T) {
	long := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for _, c := range []struct {
		claim string
		spoil func(*Header)
	}{
		{"an unknown kind", func(h *Header) { h.Kind = 4 }},
		{"no kind", func(h *Header) { h.Kind = 0 }},
		{"an unknown flag", func(h *Header) { h.Flags = 1 << 7 }},
		{"no timestamp", func(h *Header) { h.TimestampMicros = 0 }},
		{"a negative timestamp", func(h *Header) { h.TimestampMicros = -1 }},
		{"a huge value", func(h *Header) { h.ValueBytes = MaxValueBytes + 1 }},
		{"a tombstone with a value", func(h *Header) { h.Kind, h.ValueBytes = Tombstone, 1 }},
		{"no type", func(h *Header) { h.Type = nil }},
		{"a long type", func(h *Header) { h.Type = long(MaxNameBytes + 1) }},
		{"no bucket", func(h *Header) { h.Bucket = nil }},
		{"a long bucket", func(h *Header) { h.Bucket = long(MaxNameBytes + 1) }},
		{"no key", func(h *Header) { h.Key = nil }},
		{"a long key", func(h *Header) { h.Key = long(MaxKeyBytes + 1) }},
		{"a long writer", func(h *Header) { h.Writer = long(MaxNameBytes + 1) }},
		{"much metadata", func(h *Header) { h.Metadata = long(MaxMetadataBytes + 1) }},
	} {
		h := sample()
		if err := h.Validate(); err != nil {
			t.Fatal(err)
		}
		c.spoil(&h)
		if err := h.Validate(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s passed: %v", c.claim, err)
		}
	}
	if _, err := Encode(sample(), make([]byte, MaxValueBytes+1)); !errors.Is(err, CodeTooLarge) {
		t.Errorf("an oversized value: %v", err)
	}
	bad := sample()
	bad.Key = nil
	if _, err := Encode(bad, nil); !errors.Is(err, CodeBadRequest) {
		t.Errorf("a header without key: %v", err)
	}
}

func TestVersionOrder(t *testing.T) {
	ascending := []Version{{1, false, 9}, {2, false, 1}, {2, false, 2}, {2, true, 0}, {2, true, 5}, {3, false, 0}}
	for i, v := range ascending {
		for j, w := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := v.Compare(w); got != want {
				t.Errorf("%v against %v: %d, want %d", v, w, got, want)
			}
		}
	}
}

func TestDigestIsASetSum(t *testing.T) {
	type item struct {
		hash uint64
		v    Version
	}
	r := rand.New(rand.NewPCG(1, 2))
	items := make([]item, 100)
	for i := range items {
		items[i] = item{r.Uint64(), Version{r.Int64(), r.IntN(2) == 0, r.Uint32()}}
	}
	sum := func(items []item) (d Digest) {
		for _, it := range items {
			d.Add(it.hash, it.v)
		}
		return d
	}
	whole := sum(items)
	r.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	if sum(items) != whole {
		t.Error("the order of adding shows in the digest")
	}
	left, right := sum(items[:40]), sum(items[40:])
	if left.Merge(right); left != whole {
		t.Error("the merge of two halves is not the whole")
	}
	for _, it := range items[40:] {
		whole.Remove(it.hash, it.v)
	}
	if whole != sum(items[:40]) {
		t.Error("removing does not undo adding")
	}
	one := items[0]
	other := one
	other.v.Tombstone = !other.v.Tombstone
	if sum([]item{one}) == sum([]item{other}) {
		t.Error("a tombstone has the digest of a value")
	}
}

// TestGoldenDigest pins what replicas of different builds compare.
func TestGoldenDigest(t *testing.T) {
	var d Digest
	d.Add(0x1122334455667788, Version{1763712000_000001, false, 0xdeadbeef})
	if d != goldenDigest {
		t.Errorf("digest %#x %#x, want %#x %#x", d.Hi, d.Lo, goldenDigest.Hi, goldenDigest.Lo)
	}
	if s := (Version{1763712000_000001, false, 0xdeadbeef}).Short(); s != goldenShort {
		t.Errorf("short version %#x, want %#x", s, uint32(goldenShort))
	}
}

func TestFields(t *testing.T) {
	b := AppendField(AppendField(nil, "content-type", []byte("text/plain")), "x", nil)
	if err := ValidateFields(b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, value := range Fields(b) {
		got = append(got, string(name)+"="+string(value))
	}
	if want := []string{"content-type=text/plain", "x="}; !slices.Equal(got, want) {
		t.Errorf("fields %q, want %q", got, want)
	}
	for _, bad := range [][]byte{b[:len(b)-1], b[:3], AppendField(AppendField(nil, "b", nil), "a", nil), AppendField(AppendField(nil, "a", nil), "a", nil), AppendField(nil, "", nil), {1, 0, 0xff, 0xff, 0xff, 0xff, 'a'}} {
		if err := ValidateFields(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("metadata %x passed: %v", bad, err)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("the disk burns")
	err := fmt.Errorf("put k: %w", Errorf(CodeDisk, MaybeDone, "append: %w", cause))
	if !errors.Is(err, CodeDisk) || errors.Is(err, CodeAbsent) || !errors.Is(err, cause) {
		t.Errorf("%v does not answer errors.Is as it should", err)
	}
	if e := AsError(err); e.Code != CodeDisk || e.Outcome != MaybeDone {
		t.Errorf("AsError gave %v, %v", e.Code, e.Outcome)
	}
	if e := AsError(cause); e.Code != CodeInternal || e.Outcome != MaybeDone {
		t.Errorf("an unknown error is taken for %v, %v: it must not promise anything", e.Code, e.Outcome)
	}
	if e := AsError(fmt.Errorf("waiting: %w", context.DeadlineExceeded)); e.Code != CodeDeadline || e.Outcome != MaybeDone {
		t.Errorf("AsError of a deadline gave %v, %v", e.Code, e.Outcome)
	}
	if AsError(nil) != nil {
		t.Error("AsError of nil is an error")
	}
	for c := CodeBadRequest; c <= CodeClosed; c++ {
		if strings.HasPrefix(c.String(), "code ") {
			t.Errorf("code %d has no name", uint8(c))
		}
	}
	if Code(200).String() != "code 200" || NotDone.String() != "not done" || Outcome(9).String() != "outcome 9" {
		t.Error("numbers without a name print badly")
	}
	if CodeConflict.Retryable() || !CodeOverload.Retryable() {
		t.Error("conflict is final and overload is not")
	}
}

func TestBufferCountsItsUsers(t *testing.T) {
	before, _ := Live()
	b := NewBuffer(5000)
	if len(b.Bytes()) != 5000 || b.Cap() != 8192 {
		t.Errorf("asked for 5000, got %d of %d", len(b.Bytes()), b.Cap())
	}
	b.Retain()
	b.Release()
	copy(b.Bytes(), "still here")
	b.Trim(10)
	if string(b.Bytes()) != "still here" {
		t.Error("a retained buffer lost its bytes")
	}
	b.Release()
	if after, _ := Live(); after != before {
		t.Errorf("%d buffers live, want %d", after, before)
	}
	for _, misuse := range []func(){func() { b.Release() }, func() { NewBuffer(-1) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("misuse went unnoticed")
				}
			}()
			misuse()
		}()
	}
}

func TestBufferClasses(t *testing.T) {
	for _, c := range []struct{ n, want int }{{0, 512}, {1, 512}, {512, 512}, {513, 1024}, {500_000, 512 << 10}, {1 << 20, 1 << 20}, {1<<20 + 1, 1<<20 + 1}} {
		b := NewBuffer(c.n)
		if b.Cap() != c.want || len(b.Bytes()) != c.n {
			t.Errorf("%d bytes: %d of %d, want a buffer of %d", c.n, len(b.Bytes()), b.Cap(), c.want)
		}
		b.Release()
	}
}

// TestRecordOwnsItsBuffer: a record keeps its bytes until the last Release.
func TestRecordOwnsItsBuffer(t *testing.T) {
	before, _ := Live()
	r, err := Encode(sample(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	keep := r.Retain()
	r.Release()
	if string(keep.Value()) != "hello" {
		t.Error("the value went with the first release")
	}
	keep.Release()
	if after, _ := Live(); after != before {
		t.Errorf("%d buffers live, want %d", after, before)
	}
}

func FuzzParseRecord(f *testing.F) {
	r, _ := Encode(sample(), []byte("hello"))
	f.Add(slices.Clone(r.Raw()))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrTorn) && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("an untyped error: %v", err)
			}
			return
		}
		if again := append(AppendHeader(nil, &rec.Header), rec.Value()...); !bytes.Equal(again, b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzFields(f *testing.F) {
	f.Add(AppendField(AppendField(nil, "a", []byte("1")), "b", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		for name, value := range Fields(b) {
			again = AppendField(again, string(name), value)
		}
		if ValidateFields(b) == nil && !bytes.Equal(again, b) {
			t.Fatal("valid metadata does not encode back")
		}
	})
}

func BenchmarkEncode100KB(b *testing.B) {
	value := make([]byte, 100_000)
	h := sample()
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Encode(h, value)
		if err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}

func BenchmarkParse(b *testing.B) {
	r, _ := Encode(sample(), make([]byte, 2000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(r.Raw()); err != nil {
			b.Fatal(err)
		}
	}
}
