package generate

import (
	"bytes"
	"encoding/hex"
	"io"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/event"
)

// TestGeneratorGolden pins what seeds give: the demonstration must be the same
// everywhere. Whoever changes the events changes the numbers.
func TestGeneratorGolden(t *testing.T) {
	for seed, want := range map[uint64]uint64{
		0:              0xc60270b2056376be,
		1:              0x78f12161a669c075,
		math.MaxUint64: 0x30527e74cbed7e87,
	} {
		g := NewGenerator(seed)
		sum := xxhash.New()
		for range 10_000 {
			ev, err := g.Next()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = sum.WriteString(ev.Type + ":" + ev.Subtype)
			_, _ = sum.Write(ev.Body)
		}
		if got := sum.Sum64(); got != want {
			t.Errorf("seed %d gives %#x, want %#x", seed, got, want)
		}
	}
}

// TestGeneratorEvents: every event is a valid one, none is like another, and
// kinds and sizes are about what is promised.
func TestGeneratorEvents(t *testing.T) {
	const n = 20_000
	g := NewGenerator(7)
	count := make(map[string]int)
	seen := make(map[uint64]bool)
	bytes, least, most := 0, math.MaxInt, 0
	for range n {
		ev, _ := g.Next()
		if err := event.ValidateMap(ev.Body); err != nil {
			t.Fatalf("%s:%s %s: %v", ev.Type, ev.Subtype, hex.EncodeToString(ev.Body), err)
		}
		if !event.ValidName(ev.Type) || !event.ValidName(ev.Subtype) {
			t.Fatalf("names %q %q", ev.Type, ev.Subtype)
		}
		count[ev.Type]++
		seen[xxhash.Sum64(ev.Body)] = true
		bytes += len(ev.Body)
		least, most = min(least, len(ev.Body)), max(most, len(ev.Body))
	}
	if len(seen) != n {
		t.Errorf("%d of %d events are different", len(seen), n)
	}
	if least < 150 || most > 1500 || bytes/n < 250 || bytes/n > 500 {
		t.Errorf("sizes from %d to %d, on average %d", least, most, bytes/n)
	}
	for typ, percent := range map[string]int{"WEB": 68, "LB": 26, "CRON": 6} {
		if got := count[typ] * 100 / n; got < percent-2 || got > percent+2 {
			t.Errorf("%d%% are %s, want about %d%%", got, typ, percent)
		}
	}
}

func TestFirst(t *testing.T) {
	s := First(NewGenerator(1), 2)
	for range 2 {
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
	}
}

// TestEnvelopeGolden pins the form of a datagram in both encodings.
func TestEnvelopeGolden(t *testing.T) {
	ev := Event{Type: "WEB", Subtype: "app", Body: []byte{0x82, 0xa1, 'n', 0x05, 0xa1, 's', 0xa1, 'x'}}
	tests := []struct {
		name     string
		encoding Encoding
		tags     Tags
		want     string
	}{
		{"bare msgpack", Msgpack, Tags{}, "\x83\xa4type\xa3WEB\xa7subtype\xa3app\xa5event\x82\xa1n\x05\xa1s\xa1x"},
		{"tagged msgpack", Msgpack, Tags{1_800_000_000, "eu"},
			"\x85\xa4type\xa3WEB\xa7subtype\xa3app\xa5epoch\xce\x6b\x49\xd2\x00\xa2dc\xa2eu\xa5event\x82\xa1n\x05\xa1s\xa1x"},
		{"bare JSON", JSON, Tags{}, `{"type":"WEB","subtype":"app","event":{"n":5,"s":"x"}}` + "\n"},
		{"tagged JSON", JSON, Tags{1_800_000_000, "eu"},
			`{"type":"WEB","subtype":"app","epoch":1800000000,"dc":"eu","event":{"n":5,"s":"x"}}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.encoding.AppendEnvelope([]byte("before"), ev, tt.tags)
			if string(got) != "before"+tt.want {
				t.Errorf("got  %q\nwant %q", got[6:], tt.want)
			}
		})
	}
}

// TestEnvelopesParse: what generators make is what collectors read, several to a
// datagram, whichever the encoding.
func TestEnvelopesParse(t *testing.T) {
	for _, encoding := range []Encoding{Msgpack, JSON} {
		t.Run(encoding.String(), func(t *testing.T) {
			var datagram []byte
			var want []Event
			g := NewGenerator(3)
			for range 50 {
				ev, _ := g.Next()
				datagram = encoding.AppendEnvelope(datagram, ev, Tags{Epoch: 77, DC: "eu"})
				ev.Body = bytes.Clone(ev.Body)
				want = append(want, ev)
			}
			var scratch event.Scratch
			i := 0
			err := event.ParseDatagram(datagram, &scratch, func(env event.Envelope) error {
				if env.Epoch != 77 || string(env.DC) != "eu" || env.Unknown != 0 ||
					string(env.Type) != want[i].Type || string(env.Subtype) != want[i].Subtype || !bytes.Equal(env.Event, want[i].Body) {
					t.Errorf("envelope %d is %+v, want %+v", i, env, want[i])
				}
				i++
				return nil
			})
			if err != nil || i != len(want) {
				t.Errorf("%d envelopes, %v", i, err)
			}
		})
	}
}

func TestParseEncoding(t *testing.T) {
	for _, e := range []Encoding{Msgpack, JSON} {
		if got, err := ParseEncoding(e.String()); err != nil || got != e {
			t.Errorf("%v: %v, %v", e, got, err)
		}
	}
	if _, err := ParseEncoding("xml"); err == nil {
		t.Error("xml is taken")
	}
}

// TestPacker holds every width of every header against the validator, and the
// integers against their golden bytes.
func TestPacker(t *testing.T) {
	ints := map[int64]string{
		0: "00", 127: "7f", 128: "cc80", 255: "ccff", 256: "cd0100", 65535: "cdffff", 65536: "ce00010000",
		math.MaxUint32: "ceffffffff", math.MaxUint32 + 1: "cf0000000100000000", math.MaxInt64: "cf7fffffffffffffff",
		-1: "ff", -32: "e0", -33: "d0df", -128: "d080", -129: "d1ff7f", math.MinInt16: "d18000", math.MinInt16 - 1: "d2ffff7fff",
		math.MinInt32: "d280000000", math.MinInt32 - 1: "d3ffffffff7fffffff", math.MinInt64: "d38000000000000000",
	}
	for n, want := range ints {
		var p packer
		p.int(n)
		if got := hex.EncodeToString(p.b); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	for _, n := range []int{0, 15, 16, 31, 32, 255, 256, 65535, 65536} {
		var p packer
		p.mapOf(1)
		p.string(string(make([]byte, n)))
		p.arrayOf(n)
		for range n {
			p.null()
		}
		if err := event.ValidateMap(p.b); err != nil {
			t.Errorf("%d elements: %v", n, err)
		}
	}
}

func BenchmarkGenerator(b *testing.B) {
	g := NewGenerator(1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		ev, _ := g.Next()
		n += len(ev.Body)
	}
	b.SetBytes(int64(n / b.N))
}
