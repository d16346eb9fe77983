package proto

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/ring"
)

func testReport() Report {
	return Report{
		Node: ring.NodeID{1}, Name: "n1", Program: "v1", NowMicros: 7, Ready: true,
		Version: ring.Version{Era: 1, Index: 9}, HighestEpoch: 1763712000,
		Agreement: Agreement{Role: "leader", Leader: ring.NodeID{1}, Voters: []ring.NodeID{{1}, {2}}},
		Members:   []Sight{{ring.NodeID{1}, "a:7070", true}, {ring.NodeID{2}, "", false}},
		Merging:   Merging{Partitions: 3, Unattainable: 1, Slots: 12, BytesToGet: 1 << 40, BytesMoved: 5, BytesPerSecond: 6},
		Gaps:      []Gap{{ring.Partition{Bits: 6, Prefix: 10}, false, 4, 5}, {ring.Partition{Bits: 6, Prefix: 11}, true, 0, 0}},
		Disks:     []Disk{{"00", "/d1", 10, 20, 1, true, "it is gone"}},
		Stored:    []Stored{{ring.Partition{Bits: 6, Prefix: 10}, 8, []SlotBytes{{Slot: 4, Bytes: 9}, {Slot: 5, Bytes: 10}}}},
	}
}

func TestReport(t *testing.T) {
	want := testReport()
	b, err := AppendReport([]byte("x"), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseReport(b[1:])
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	for cut := range len(b) - 1 {
		if _, err := ParseReport(b[1 : 1+cut]); !errors.Is(err, ErrArguments) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// The names of fields are the format: a reader of another version looks for them.
func TestGoldenReport(t *testing.T) {
	small := Report{Node: ring.NodeID{1}, Stored: []Stored{{Timed: []SlotBytes{{Slot: 4, Bytes: 9}}}}}
	b, err := AppendReport(nil, small)
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) string { return hex.EncodeToString(append([]byte{0xa0 | byte(len(s))}, s...)) }
	zero := "c420" + hex.EncodeToString([]byte(strings.Repeat("00", 16)))
	number := "d30000000000000000"
	want := "8d" + text("node") + "c420" + hex.EncodeToString([]byte("01"+strings.Repeat("00", 15))) +
		text("name") + "a0" + text("program") + "a0" + text("now_micros") + number + text("ready") + "c2" +
		text("version") + "82" + text("Era") + "ce00000000" + text("Index") + "cf0000000000000000" +
		text("highest_epoch") + number +
		text("agreement") + "83" + text("role") + "a0" + text("leader") + zero + text("voters") + "c0" +
		text("members") + "c0" +
		text("merging") + "86" + text("partitions") + "00"
	if got := hex.EncodeToString(b); !strings.HasPrefix(got, want) {
		t.Errorf("\n got %s\nwant %s…", got, want)
	}
	if end := text("plain") + "cf0000000000000000" + text("timed") + "91" + "92" + "d30000000000000004" + "cf0000000000000009"; !strings.HasSuffix(hex.EncodeToString(b), end) {
		t.Errorf("\n got %x\nwant …%s", b, end)
	}
}

func TestHostileReports(t *testing.T) {
	many := testReport()
	many.Members = make([]Sight, ring.MaxNodes+1)
	disorder := testReport()
	disorder.Stored = append(disorder.Stored, disorder.Stored[0])
	for _, c := range []struct {
		claim string
		b     []byte
	}{
		{"nothing", nil},
		{"4 billion elements", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}},
		{"a map that is none", []byte{0x81, 0xa4, 'n', 'o', 'd', 'e', 0xc3}},
		{"a node that is none", append([]byte{0x81, 0xa4, 'n', 'o', 'd', 'e', 0xa2}, "zz"...)},
		{"more members than there may be", encoded(t, many)},
		{"a partition twice", encoded(t, disorder)},
	} {
		if _, err := ParseReport(c.b); !errors.Is(err, ErrArguments) {
			t.Errorf("%s: %v", c.claim, err)
		}
	}
}

func encoded(t testing.TB, r Report) []byte {
	t.Helper()
	b, err := AppendReport(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is too much is told more coarsely, and holds all that it held.
func TestCoarseReports(t *testing.T) {
	var gaps []Gap
	for slot := range int64(MaxReportGaps + 1) {
		gaps = append(gaps, Gap{ring.Partition{Bits: 6, Prefix: uint32(slot % 2)}, false, slot, slot + 1})
	}
	if got := coarseGaps(gaps); !reflect.DeepEqual(got, []Gap{
		{ring.Partition{Bits: 6}, false, 0, MaxReportGaps + 1}, {ring.Partition{Bits: 6, Prefix: 1}, false, 1, MaxReportGaps},
	}) {
		t.Errorf("gaps of two partitions became %v", got)
	}
	for i := range gaps {
		gaps[i].Partition = ring.Partition{Bits: 16, Prefix: uint32(i)}
	}
	if got := coarseGaps(gaps); !reflect.DeepEqual(got, []Gap{{ring.Partition{}, false, 0, MaxReportGaps + 1}}) {
		t.Errorf("gaps everywhere became %v", got)
	}
	var many, one Stored
	many.Partition.Bits, one.Partition = 1, ring.Partition{Bits: 1, Prefix: 1}
	one.Timed = []SlotBytes{{Slot: 1, Bytes: 1}}
	for slot := range int64(MaxReportStored) {
		many.Timed = append(many.Timed, SlotBytes{Slot: slot, Bytes: 2})
	}
	got := coarseStored([]Stored{many, one})
	if len(got[0].Timed) != MaxReportStored/2 || got[0].Timed[0] != (SlotBytes{Slot: 1, Bytes: 4}) || len(got[1].Timed) != 1 || len(many.Timed) != MaxReportStored {
		t.Errorf("%d slots became %d: %v…", len(many.Timed), len(got[0].Timed), got[0].Timed[:2])
	}
	if got := pairs(make([]SlotBytes, 3)); len(got) != 2 {
		t.Errorf("three slots became %d", len(got))
	}
	if _, err := ParseReport(encoded(t, Report{Gaps: gaps, Stored: []Stored{many, one}, Disks: make([]Disk, MaxReportDisks+1)})); err != nil {
		t.Error(err)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(encoded(f, testReport()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if again, err := ParseReport(encoded(t, r)); err != nil || again.Node != r.Node || len(again.Stored) != len(r.Stored) {
			t.Fatalf("what decodes does not come back: %v", err)
		}
	})
}
