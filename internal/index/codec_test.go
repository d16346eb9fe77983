package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRow(rapid.Bool().Draw(t, "late")).Draw(t, "row")
		b := encode(r)
		if len(b) != r.Size() {
			t.Fatalf("Size is %d, encoded %d", r.Size(), len(b))
		}
		got, err := ParseRow(b)
		if err != nil {
			t.Fatal(err)
		}
		clear(b) // a row aliases nothing
		if !reflect.DeepEqual(normal(got), normal(r)) {
			t.Fatalf("got %+v, want %+v", got, r)
		}
	})
}

// normal makes empty and nil slices equal.
func normal(r Row) Row {
	sections := make([]Section, 0)
	for _, s := range r.Sections {
		s.Entries = append([]Entry{}, s.Entries...)
		s.Succeeds = append([]Writer{}, s.Succeeds...)
		sections = append(sections, s)
	}
	return Row{sections}
}

// goldenRow has one of everything.
func goldenRow() Row {
	return Row{[]Section{
		{
			Entries: []Entry{{
				Suffix:  "cron:x:0",
				Version: object.Version{TimestampMicros: 3, Tombstone: true, HeaderCRC: 4},
				Flags:   Erased,
			}},
		},
		{
			Writer: Writer{"agg-1", 0x1122334455667788},
			Hello:  true, Goodbye: true,
			Final:    &Final{Count: 1, Digest: object.Digest{Hi: 0x0102030405060708, Lo: 0x090a0b0c0d0e0f10}},
			Succeeds: []Writer{{"agg-1", 2}},
			Entries: []Entry{{
				Suffix:   "web:nl:1122334455667788-0",
				Version:  object.Version{TimestampMicros: 0x0005f5e100, HeaderCRC: 0xdeadbeef},
				Checksum: 0xcafebabe12345678, Bytes: 100_000, Events: 50, Flags: Late | Listed,
			}},
		},
	}}
}

const goldenRowHex = "" +
	"01" + "02000000" + // format, two sections
	"00" + "00" + "0000" + "01000000" + "0000000000000000" + // anonymous, one entry
	"08" + "09" + "00000000" + "00000000" + "04000000" + "0300000000000000" + "0000000000000000" + // erased, tombstone
	"63726f6e3a783a30" + // cron:x:0
	"05" + "07" + "0100" + "01000000" + "8877665544332211" + "6167672d31" + // agg-1: hello, goodbye, final; succeeds one; one entry
	"01000000" + "0807060504030201" + "100f0e0d0c0b0a09" + // final
	"05" + "0200000000000000" + "6167672d31" + // succeeds agg-1/2
	"19" + "06" + "a0860100" + "32000000" + "efbeadde" + "00e1f50500000000" + "78563412bebafeca" + // late, listed
	"7765623a6e6c3a313132323333343435353636373738382d30" // web:nl:1122334455667788-0

func TestGoldenRow(t *testing.T) {
	if got := hex.EncodeToString(encode(goldenRow())); got != goldenRowHex {
		t.Errorf("encoded\n%s, want\n%s", got, goldenRowHex)
	}
	b, _ := hex.DecodeString(goldenRowHex)
	got, err := ParseRow(b)
	if err != nil || !reflect.DeepEqual(normal(got), normal(goldenRow())) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if got, want := goldenRow().Digest(), (object.Digest{Hi: 0x14deaa9553d36654, Lo: 0x492c51d63cb4e0b6}); got != want {
		t.Errorf("digest %#x %#x", got.Hi, got.Lo)
	}
	if got := hex.EncodeToString(encode(Row{})); got != "0100000000" {
		t.Errorf("the empty row is %s", got)
	}
	if (Row{}).Digest() != (object.Digest{}) {
		t.Error("the empty row has a digest")
	}
}

// Finals travel between programs of different age: what they count is frozen.
func TestGoldenFinal(t *testing.T) {
	s := Section{Writer: Writer{"agg-1", 1}, Entries: []Entry{
		{Suffix: "web:nl:0000000000000001-0", Version: object.Version{TimestampMicros: 1_700_000_000_000_000, HeaderCRC: 0x01020304}},
		{Suffix: "web:nl:0000000000000001-1", Version: object.Version{TimestampMicros: 1_700_000_000_000_001, HeaderCRC: 0x05060708}},
	}}
	want := Final{Count: 2, Digest: object.Digest{Hi: 0x16341ca1d4ccb9e9, Lo: 0xf1c792ad51efa3b2}}
	if got := FinalOf(&s); got != want {
		t.Errorf("got %d %#x %#x", got.Count, got.Digest.Hi, got.Digest.Lo)
	}
	s.Entries[1].Flags = Late
	if got := FinalOf(&s).Count; got != 1 {
		t.Errorf("a late entry is counted: %d", got)
	}
}

// No prefix of a row is a row, and nothing may follow one.
func TestRowIsExact(t *testing.T) {
	whole := encode(goldenRow())
	for cut := range whole {
		if _, err := ParseRow(whole[:cut]); !errors.Is(err, ErrRow) {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
	if _, err := ParseRow(append(whole, 0)); !errors.Is(err, ErrRow) {
		t.Errorf("with a byte more: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	entry := Entry{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 1}}
	for _, row := range []struct {
		name string
		r    Row
	}{
		{"writers out of order", Row{[]Section{{Writer: Writer{"b", 1}, Hello: true}, {Writer: Writer{"a", 1}, Hello: true}}}},
		{"a writer twice", Row{[]Section{{Writer: Writer{"a", 1}, Hello: true}, {Writer: Writer{"a", 1}, Hello: true}}}},
		{"an anonymous hello", Row{[]Section{{Hello: true}}}},
		{"an anonymous incarnation", Row{[]Section{{Writer: Writer{"", 1}, Entries: []Entry{entry}}}}},
		{"an empty section", Row{[]Section{{Writer: Writer{"a", 1}}}}},
		{"succeeds itself", Row{[]Section{{Writer: Writer{"a", 1}, Succeeds: []Writer{{"a", 1}}}}}},
		{"succeeds the anonymous", Row{[]Section{{Writer: Writer{"a", 1}, Succeeds: []Writer{{}}}}}},
		{"succeeds out of order", Row{[]Section{{Writer: Writer{"a", 1}, Succeeds: []Writer{{"c", 1}, {"b", 1}}}}}},
		{"entries out of order", Row{[]Section{{Entries: []Entry{{Suffix: "web:nl:1", Version: entry.Version}, entry}}}}},
		{"an entry twice", Row{[]Section{{Entries: []Entry{entry, entry}}}}},
		{"a malformed suffix", Row{[]Section{{Entries: []Entry{{Suffix: "web:nl", Version: entry.Version}}}}}},
		{"a suffix of odd bytes", Row{[]Section{{Entries: []Entry{{Suffix: "w b:nl:0", Version: entry.Version}}}}}},
		{"an epoch with a dash", Row{[]Section{{Entries: []Entry{{Suffix: "5-5:web:nl:0", Version: entry.Version, Flags: Late | Listed}}}}}},
		{"no timestamp", Row{[]Section{{Entries: []Entry{{Suffix: "web:nl:0"}}}}}},
		{"a tombstone not erased", Row{[]Section{{Entries: []Entry{{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 1, Tombstone: true}}}}}}},
		{"too many bytes", Row{[]Section{{Entries: []Entry{{Suffix: "web:nl:0", Version: entry.Version, Bytes: object.MaxValueBytes + 1}}}}}},
		{"listed but not marked", Row{[]Section{{Entries: []Entry{{Suffix: "5:web:nl:0", Version: entry.Version}}}}}},
		{"two kinds of entries", Row{[]Section{{Entries: []Entry{{Suffix: "5:web:nl:0", Version: entry.Version, Flags: Late | Listed}, entry}}}}},
		{"two kinds in two sections", Row{[]Section{{Entries: []Entry{{Suffix: "5:web:nl:0", Version: entry.Version, Flags: Late | Listed}}}, {Writer: Writer{"a", 1}, Hello: true}, {Writer: Writer{"b", 1}, Entries: []Entry{entry}}}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.r.Validate(); !errors.Is(err, ErrRow) {
				t.Errorf("Validate: %v", err)
			}
			if _, err := ParseRow(encodeUnchecked(row.r)); !errors.Is(err, ErrRow) {
				t.Errorf("ParseRow: %v", err)
			}
		})
	}
	for name, b := range map[string][]byte{
		"another format":            {2, 0, 0, 0, 0},
		"a count its length denies": {1, 255, 255, 255, 255},
		"unknown marks":             {1, 1, 0, 0, 0, 1, 0x11, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a'},
	} {
		if _, err := ParseRow(b); !errors.Is(err, ErrRow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// encodeUnchecked writes rows that AppendRow would refuse.
func encodeUnchecked(r Row) []byte {
	b := []byte{rowFormat, byte(len(r.Sections)), 0, 0, 0}
	for i := range r.Sections {
		b = appendSection(b, &r.Sections[i])
	}
	return b
}

func TestAppendRowRefusesInvalidRows(t *testing.T) {
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "index: BUG") {
			t.Errorf("recovered %v", p)
		}
	}()
	AppendRow(nil, Row{[]Section{{}}})
}

func TestValidateFor(t *testing.T) {
	own := Row{[]Section{{Entries: []Entry{{Suffix: "web:nl:0", Version: object.Version{TimestampMicros: 1}}}}}}
	marked, list := Relist(event.IndexKey{Epoch: 5, DC: "ams"}, own, 50)
	hello := Row{[]Section{{Writer: Writer{"a", 1}, Hello: true}}}
	for _, row := range []struct {
		name string
		r    Row
		late bool
		ok   bool
	}{
		{"an ordinary row", own, false, true},
		{"an ordinary row under a late key", own, true, false},
		{"a marked row", marked, false, true},
		{"a late list", list, true, true},
		{"a late list under an ordinary key", list, false, false},
		{"marks only", hello, false, true},
		{"an empty row", Row{}, true, true},
	} {
		err := row.r.ValidateFor(event.IndexKey{Epoch: 5, DC: "ams", Late: row.late})
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add(encode(goldenRow()))
	f.Add(encode(Row{}))
	marked, list := Relist(event.IndexKey{Epoch: 5, DC: "ams"}, goldenRow(), 50)
	f.Add(encode(marked))
	f.Add(encode(list))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRow(b)
		if err != nil {
			if !errors.Is(err, ErrRow) {
				t.Fatalf("not an ErrRow: %v", err)
			}
			return
		}
		if again := AppendRow(nil, r); !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded %x", b, again)
		}
		var acc Accumulator
		acc.Add(r)
		if !same(Merge(r, r), r) || !same(acc.Row(), r) {
			t.Fatal("the row is not its own join")
		}
		Evaluate(1, r, ExpectedIn(r), true, 10, 5)
		for _, e := range r.All() {
			key := event.IndexKey{Epoch: 9, DC: "x", Late: strings.Count(e.Suffix, ":") == 3}
			if _, err := e.Key(key); err != nil {
				t.Fatalf("%q names no blob: %v", e.Suffix, err)
			}
		}
	})
}
