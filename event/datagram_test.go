package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// msgpackOf is the msgpack of JSON values, one after another.
func msgpackOf(tb testing.TB, texts ...string) (b []byte) {
	tb.Helper()
	for _, text := range texts {
		var err error
		if b, err = AppendMsgpack(b, []byte(text)); err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
	}
	return b
}

// parsed is what ParseDatagram yields, a line an envelope.
func parsed(b []byte) (lines []string, err error) {
	var scratch Scratch
	err = ParseDatagram(b, &scratch, func(e Envelope) error {
		lines = append(lines, fmt.Sprintf("%d %s %s %s %x ?%d", e.Epoch, e.DC, e.Type, e.Subtype, e.Event, e.Unknown))
		return nil
	})
	return lines, err
}

// envelopes say the same in either format. want is empty if they are refused.
var envelopes = []struct{ name, text, want string }{
	{"the least", `{"type":"WEB","subtype":"search","event":{}}`, "0  WEB search 80 ?0"},
	{"all members, in another order", `{"event":{"a":[1]},"epoch":1790000000,"subtype":"search","dc":"ams4","type":"WEB"}`, "1790000000 ams4 WEB search 81a1619101 ?0"},
	{"null for what may be left out", `{"type":"WEB","subtype":"s","event":{},"epoch":null,"dc":null}`, "0  WEB s 80 ?0"},
	{"members to come", `{"v":2,"type":"WEB","subtype":"s","event":{},"tags":{"type":"LB"}}`, "0  WEB s 80 ?2"},
	{"an event as deep as allowed", `{"type":"WEB","subtype":"s","event":` + strings.Repeat(`{"a":`, MaxDepth-2) + `{}` + strings.Repeat(`}`, MaxDepth-2) + `}`, "0  WEB s " + strings.Repeat("81a161", MaxDepth-2) + "80 ?0"},
	{"members that repeat in the event", `{"type":"WEB","subtype":"s","event":{"type":1,"type":2}}`, "0  WEB s 82a47479706501a47479706502 ?0"},
	{"the last epoch", `{"type":"WEB","subtype":"s","event":{},"epoch":9007199254740992}`, "9007199254740992  WEB s 80 ?0"},
	{"the longest names", `{"type":"` + strings.Repeat("t", 64) + `","subtype":"A-z_0.9","event":{}}`, "0  " + strings.Repeat("t", 64) + " A-z_0.9 80 ?0"},

	{"no type", `{"subtype":"s","event":{}}`, ""},
	{"no subtype", `{"type":"WEB","event":{}}`, ""},
	{"no event", `{"type":"WEB","subtype":"s"}`, ""},
	{"nothing", `{}`, ""},
	{"null type", `{"type":null,"subtype":"s","event":{}}`, ""},
	{"empty type", `{"type":"","subtype":"s","event":{}}`, ""},
	{"a type too long", `{"type":"` + strings.Repeat("t", 65) + `","subtype":"s","event":{}}`, ""},
	{"a colon in the subtype", `{"type":"WEB","subtype":"s:1","event":{}}`, ""},
	{"a number as type", `{"type":1,"subtype":"s","event":{}}`, ""},
	{"an empty dc", `{"type":"WEB","subtype":"s","event":{},"dc":""}`, ""},
	{"a dc with a space", `{"type":"WEB","subtype":"s","event":{},"dc":"a b"}`, ""},
	{"epoch 0", `{"type":"WEB","subtype":"s","event":{},"epoch":0}`, ""},
	{"a negative epoch", `{"type":"WEB","subtype":"s","event":{},"epoch":-5}`, ""},
	{"a very negative epoch", `{"type":"WEB","subtype":"s","event":{},"epoch":-5000000000}`, ""},
	{"an epoch out of range", `{"type":"WEB","subtype":"s","event":{},"epoch":9007199254740993}`, ""},
	{"an epoch with a fraction", `{"type":"WEB","subtype":"s","event":{},"epoch":1790000000.5}`, ""},
	{"an epoch as text", `{"type":"WEB","subtype":"s","event":{},"epoch":"1790000000"}`, ""},
	{"an array as event", `{"type":"WEB","subtype":"s","event":[]}`, ""},
	{"null as event", `{"type":"WEB","subtype":"s","event":null}`, ""},
	{"type twice", `{"type":"WEB","type":"WEB","subtype":"s","event":{}}`, ""},
	{"epoch twice, null first", `{"epoch":null,"type":"WEB","subtype":"s","event":{},"epoch":5}`, ""},
	{"event twice", `{"type":"WEB","event":{},"subtype":"s","event":{}}`, ""},
}

func TestEnvelopes(t *testing.T) {
	for _, tc := range envelopes {
		for format, b := range map[string][]byte{"json": []byte(tc.text), "msgpack": msgpackOf(t, tc.text)} {
			lines, err := parsed(b)
			if tc.want == "" {
				var asError *DatagramError
				if !errors.Is(err, ErrEnvelope) || !errors.As(err, &asError) || *asError != (DatagramError{0, 1, asError.First}) || lines != nil {
					t.Errorf("%s, %s: got %q, %v, want it refused", tc.name, format, lines, err)
				}
			} else if err != nil || len(lines) != 1 || lines[0] != tc.want {
				t.Errorf("%s, %s: got %q, %v, want %q", tc.name, format, lines, err, tc.want)
			}
		}
	}
}

// TestMsgpackEnvelopes is what JSON cannot say.
func TestMsgpackEnvelopes(t *testing.T) {
	for name, text := range map[string]string{
		"names as bin":            "83" + "c404" + hex.EncodeToString([]byte("type")) + "c403574542" + "a7" + hex.EncodeToString([]byte("subtype")) + "c40173" + "a5" + hex.EncodeToString([]byte("event")) + "80",
		"members under a number":  "84" + "01c0" + "a474797065a3574542" + "a773756274797065a173" + "a56576656e7480",
		"map32 and str8":          "df00000003" + "d90474797065d903574542" + "d907" + hex.EncodeToString([]byte("subtype")) + "a173" + "a56576656e7480",
		"an epoch as uint64":      "84" + "a565706f6368cf0000000000000005" + "a474797065a3574542" + "a773756274797065a173" + "a56576656e7480",
		"a member that is a map":  "84" + "8001" + "a474797065a3574542" + "a773756274797065a173" + "a56576656e7480",
		"an epoch as signed int8": "84" + "a565706f6368d005" + "a474797065a3574542" + "a773756274797065a173" + "a56576656e7480",
	} {
		lines, err := parsed(unhex(t, text))
		if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "WEB s 80") {
			t.Errorf("%s: got %q, %v", name, lines, err)
		}
	}
}

func TestDatagramsOfSeveral(t *testing.T) {
	env := func(i int) string { return fmt.Sprintf(`{"type":"WEB","subtype":"s","event":{"i":%d}}`, i) }
	want := func(i int) string { return fmt.Sprintf("0  WEB s 81a169%02x ?0", i) }
	bad := `{"type":"WEB"}`
	for _, tc := range []struct {
		name    string
		b       []byte
		want    []int
		refused int
		reason  error
	}{
		{"nothing", nil, nil, 0, nil},
		{"white space", []byte(" \n\n"), nil, 0, nil},
		{"lines", []byte(env(1) + "\n" + env(2) + "\n" + env(3) + "\n"), []int{1, 2, 3}, 0, nil},
		{"crlf and empty lines", []byte("\r\n" + env(1) + "\r\n\r\n" + env(2)), []int{1, 2}, 0, nil},
		{"nothing between", []byte(env(1) + env(2)), []int{1, 2}, 0, nil},
		{"over several lines", []byte("{\"type\":\n\"WEB\",\n\"subtype\":\"s\",\n\"event\":\n{\"i\"\n:1}}" + env(2)), []int{1, 2}, 0, nil},
		{"a refused one between", []byte(env(1) + "\n" + bad + "\n" + env(2)), []int{1, 2}, 1, ErrEnvelope},
		{"a malformed one between", []byte(env(1) + "\n{\"type\":WEB}\n" + env(2)), []int{1, 2}, 1, ErrJSON},
		{"a cut one between", []byte(env(1) + "\n" + env(9)[:20] + "\n" + env(2)), []int{1, 2}, 1, ErrJSON},
		{"a cut one, its value missing", []byte(env(1) + "\n" + `{"type":` + "\n" + env(2) + "\n" + env(3)), []int{1, 2, 3}, 1, ErrJSON},
		{"the last one cut", []byte(env(1) + "\n" + env(2)[:30]), []int{1}, 1, ErrJSON},
		{"garbage on a line", []byte(env(1) + "\nhello\n" + env(2)), []int{1, 2}, 1, ErrJSON},
		{"a number on a line", []byte(env(1) + "\n17\n" + env(2)), []int{1, 2}, 1, ErrEnvelope},
		{"nonsense on every line", []byte(strings.Repeat("{nonsense}\n", 100) + env(1)), nil, maxMalformed, ErrJSON},
		{"an array of envelopes", []byte("[" + env(1) + "]"), nil, 1, ErrEnvelope},
		{"text", []byte("hello, is anybody there?"), nil, 1, ErrEnvelope},
		{"msgpack", msgpackOf(t, env(1), env(2), env(3)), []int{1, 2, 3}, 0, nil},
		{"msgpack, a refused one between", msgpackOf(t, env(1), bad, env(2)), []int{1, 2}, 1, ErrEnvelope},
		{"msgpack, a number between", msgpackOf(t, env(1), "17", env(2)), []int{1}, 1, ErrEnvelope},
		{"msgpack, the last one cut", msgpackOf(t, env(1), env(2))[:40], []int{1}, 1, ErrMsgpack},
		{"msgpack, malformed between", append(append(msgpackOf(t, env(1)), 0x81, 0xc1), msgpackOf(t, env(2))...), []int{1}, 1, ErrMsgpack},
		{"a byte order mark", []byte("\xef\xbb\xbf" + env(1)), nil, 1, ErrEnvelope},
		{"an envelope too deep", msgpackOf(t, `{"a":`+strings.Repeat(`[`, MaxDepth-1)+strings.Repeat(`]`, MaxDepth-1)+`}`, env(1)), []int{1}, 1, ErrEnvelope},
		{"msgpack, an event too deep", append(unhex(t, "81a56576656e74"+strings.Repeat("81c0", MaxDepth-1)+"80"), msgpackOf(t, env(1))...), nil, 1, ErrMsgpack},
		{"msgpack, a name too deep", append(unhex(t, "81"+strings.Repeat("81c0", MaxDepth-1)+"80c0"), msgpackOf(t, env(1))...), nil, 1, ErrMsgpack},
		{"msgpack, a name as deep as allowed", append(unhex(t, "81"+strings.Repeat("81c0", MaxDepth-2)+"80c0"), msgpackOf(t, env(1))...), []int{1}, 1, ErrEnvelope},
		{"noise", []byte("\x8f\x9f\xdf\xff"), nil, 1, ErrMsgpack},
	} {
		lines, err := parsed(tc.b)
		var wantLines []string
		for _, i := range tc.want {
			wantLines = append(wantLines, want(i))
		}
		if strings.Join(lines, "\n") != strings.Join(wantLines, "\n") {
			t.Errorf("%s: got %q, want %q", tc.name, lines, wantLines)
		}
		var asError *DatagramError
		switch {
		case tc.refused == 0 && err == nil:
		case !errors.As(err, &asError) || asError.Refused != tc.refused || asError.Delivered != len(tc.want):
			t.Errorf("%s: got %v, want %d refused", tc.name, err, tc.refused)
		case !errors.Is(err, tc.reason):
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.reason)
		}
	}
}

func TestYieldEndsTheDatagram(t *testing.T) {
	errStop := errors.New("stop")
	text := `{"type":"WEB","subtype":"s","event":{}}`
	for _, b := range [][]byte{[]byte(text + "\n" + text), msgpackOf(t, text, text)} {
		var scratch Scratch
		n := 0
		err := ParseDatagram(b, &scratch, func(Envelope) error { n++; return errStop })
		if n != 1 || err != errStop {
			t.Errorf("%d envelopes, %v, want 1 and what yield returned", n, err)
		}
	}
}

// TestHostileDatagramsStaySmall: nothing in 64 KiB makes the scratch grow beyond
// proportion, and nothing is taken for an envelope.
func TestHostileDatagramsStaySmall(t *testing.T) {
	const size = 65507
	for _, unit := range []string{
		"{", "{\n", "{\"a\":\n", "{\"a\":[\n", "{}\n", "\n", "{\"a\":[1,1,1,1,1,\n", "{\"", "{\"type\":\"a\",\n{", " 1.5", "{\"a\":1.5}", "{\"\xff\":\"\xff\"}",
		"\x81", "\x81\xc0", "\xde\xff\xff", "\xdf\xff\xff\xff\xff", "\x80", "\x81\xc0\xc0",
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		var scratch Scratch
		_ = ParseDatagram(b, &scratch, func(e Envelope) error { t.Errorf("%q: %+v", unit, e); return nil })
		if cap(scratch.buf) > 8*size {
			t.Errorf("%q: %d bytes of scratch", unit, cap(scratch.buf))
		}
	}
}

func TestParseDatagramAllocatesNothing(t *testing.T) {
	text := `{"type":"WEB","subtype":"search","epoch":1790000000,"dc":"ams4","event":{"a":1.5,"b":"text","c":[1,2,3]},"more":1}`
	var scratch Scratch
	sum := 0
	yield := func(e Envelope) error { sum += len(e.Event); return nil }
	for name, b := range map[string][]byte{"msgpack": msgpackOf(t, text, text), "json": []byte(text + "\n" + text)} {
		n := testing.AllocsPerRun(100, func() {
			if err := ParseDatagram(b, &scratch, yield); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations a datagram", name, n)
		}
	}
}

func FuzzParseDatagram(f *testing.F) {
	for _, tc := range envelopes {
		f.Add([]byte(tc.text))
		f.Add(msgpackOf(f, tc.text))
	}
	f.Add([]byte("{\"type\":\n{\"type\":\"a\",\"subtype\":\"b\",\"event\":{}}\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var scratch Scratch
		delivered := 0
		var copies [][]byte
		err := ParseDatagram(b, &scratch, func(e Envelope) error {
			delivered++
			if !ValidName(e.Type) || !ValidName(e.Subtype) || len(e.DC) > 0 && !ValidName(e.DC) || e.Epoch < 0 || e.Epoch > MaxEpoch || e.Unknown < 0 {
				t.Fatalf("bad names: %+v", e)
			}
			if err := ValidateMap(e.Event); err != nil {
				t.Fatal(err)
			}
			copies = append(copies, bytes.Clone(e.Event))
			return nil
		})
		var asError *DatagramError
		if err != nil && (!errors.As(err, &asError) || asError.Refused < 1 || asError.Delivered != delivered || asError.First == nil) {
			t.Fatalf("%d delivered, %v", delivered, err)
		}
		if err != nil && !errors.Is(err, ErrEnvelope) && !errors.Is(err, ErrJSON) && !errors.Is(err, ErrMsgpack) {
			t.Fatal(err)
		}
		if len(b) > 0 && b[0] != '{' && !isSpace(b[0]) && scratch.buf != nil {
			t.Fatal("msgpack was copied")
		}
		var builder Builder
		for _, e := range copies {
			if err := builder.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		checkAgain(t, &builder, copies)
	})
}

// checkAgain seals the events and reads them back.
func checkAgain(t *testing.T, b *Builder, want [][]byte) {
	blob, _ := b.Seal(nil)
	p, err := ParseBlob(blob)
	if err != nil {
		t.Fatal(err)
	}
	events, err := p.Events(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events.All() {
		if !bytes.Equal(e, want[i]) {
			t.Fatalf("event %d is %x, want %x", i, e, want[i])
		}
	}
}

func BenchmarkParseDatagram(b *testing.B) {
	event, err := AppendJSON(nil, sampleEvent(b, 7))
	if err != nil {
		b.Fatal(err)
	}
	text := `{"type":"WEB","subtype":"search","epoch":1790000000,"dc":"ams4","event":` + string(event) + `}`
	for name, datagram := range map[string][]byte{"msgpack": msgpackOf(b, text, text, text), "json": []byte(text + "\n" + text + "\n" + text)} {
		b.Run(name, func(b *testing.B) {
			var scratch Scratch
			n := 0
			b.SetBytes(int64(len(datagram)))
			b.ReportAllocs()
			for b.Loop() {
				if err := ParseDatagram(datagram, &scratch, func(Envelope) error { n++; return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
