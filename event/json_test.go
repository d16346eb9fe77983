package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

func TestAppendMsgpack(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`null`, "c0"}, {`true`, "c3"}, {`false`, "c2"}, {" \t\r\n1 \t\r\n", "01"},
		{`0`, "00"}, {`-0`, "00"}, {`127`, "7f"}, {`128`, "cc80"}, {`255`, "ccff"}, {`256`, "cd0100"}, {`65535`, "cdffff"}, {`65536`, "ce00010000"},
		{`4294967295`, "ceffffffff"}, {`4294967296`, "cf0000000100000000"}, {`9007199254740993`, "cf0020000000000001"},
		{`18446744073709551615`, "cfffffffffffffffff"}, {`18446744073709551616`, "cb43f0000000000000"},
		{`-1`, "ff"}, {`-32`, "e0"}, {`-33`, "d0df"}, {`-128`, "d080"}, {`-129`, "d1ff7f"}, {`-32768`, "d18000"}, {`-32769`, "d2ffff7fff"},
		{`-2147483648`, "d280000000"}, {`-2147483649`, "d3ffffffff7fffffff"}, {`-9223372036854775808`, "d38000000000000000"},
		{`-9223372036854775809`, "cbc3e0000000000000"}, {`-18446744073709551616`, "cbc3f0000000000000"},
		{`1.0`, "cb3ff0000000000000"}, {`-0.0`, "cb8000000000000000"}, {`1e0`, "cb3ff0000000000000"}, {`1E+2`, "cb4059000000000000"}, {`25e-2`, "cb3fd0000000000000"},
		{`1e-400`, "cb0000000000000000"}, {`1.7976931348623157e308`, "cb7fefffffffffffff"},
		{`""`, "a0"}, {`"a"`, "a161"}, {`"` + strings.Repeat("x", 31) + `"`, "bf" + strings.Repeat("78", 31)},
		{`"` + strings.Repeat("x", 32) + `"`, "d920" + strings.Repeat("78", 32)}, {`"` + strings.Repeat("x", 255) + `"`, "d9ff" + strings.Repeat("78", 255)},
		{`"` + strings.Repeat("x", 256) + `"`, "da0100" + strings.Repeat("78", 256)}, {`"` + strings.Repeat("x", 65536) + `"`, "db00010000" + strings.Repeat("78", 65536)},
		{`"\"\\\/\b\f\n\r\t"`, "a8225c2f080c0a0d09"}, {`"\u0041\u00e9\u20AC\ud83d\ude00"`, "aa41c3a9e282acf09f9880"}, {`"é€😀"`, "a9c3a9e282acf09f9880"},
		{`"\ud83d"`, "a3efbfbd"}, {`"\ude00\ud83d"`, "a6efbfbdefbfbd"}, {`"\ud83dx"`, "a4efbfbd78"}, {`"\ud83d\u0041"`, "a4efbfbd41"},
		{"\"\xff\"", "a3efbfbd"}, {"\"a\xc3\"", "a461efbfbd"}, {"\"\x7f\"", "a17f"}, {`"\u0000"`, "a100"},
		{`[]`, "90"}, {`[ ]`, "90"}, {`[1]`, "9101"}, {`[1,[2,[]],3]`, "930192029003"}, {`{}`, "80"}, {`{"a":1}`, "81a16101"},
		{` { "b" : 1 , "a" : [ true ] , "b" : null } `, "83a16201a16191c3a162c0"},
		{`[` + strings.Repeat("1,", 14) + `1]`, "9f" + strings.Repeat("01", 15)}, {`[` + strings.Repeat("1,", 15) + `1]`, "dc0010" + strings.Repeat("01", 16)},
		{`[` + strings.Repeat("1,", 65535) + `1]`, "dd00010000" + strings.Repeat("01", 65536)},
		{`[` + strings.Repeat(`[`+strings.Repeat("1,", 15)+`1],`, 15) + `[]]`, "dc0010" + strings.Repeat("dc0010"+strings.Repeat("01", 16), 15) + "90"},
		{`{` + strings.Repeat(`"a":1,`, 15) + `"a":1}`, "de0010" + strings.Repeat("a16101", 16)},
		{strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), strings.Repeat("91", MaxDepth-1) + "90"},
	} {
		got, err := AppendMsgpack([]byte("before"), []byte(tc.text))
		if err != nil || string(got[:6]) != "before" || hex.EncodeToString(got[6:]) != tc.want {
			t.Errorf("%.60s: got %.80x, %v, want %.80s", tc.text, got, err, tc.want)
		}
	}
}

var badJSON = []string{
	``, ` `, `nul`, `nulll`, `True`, `truefalse`, `1 2`, `[]]`, `{}}`, `+1`, `01`, `-`, `--1`, `-01`, `1.`, `.5`, `1.e1`, `1e`, `1e+`, `0x1`, `1_000`,
	`NaN`, `Infinity`, `1e309`, `-1e309`, `"`, `"a`, `"\`, `"\"`, `"\x"`, `"\u12"`, `"\u123"`, `"\u123g"`, `"\u"`, "\"\n\"", "\"\x00\"", "\"\x1f\"", `'a'`,
	`[`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `[1}`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a",1}`, `{"a":}`, `{"a":1]`,
	"\x00", "\xef\xbb\xbf{}", "{}\x00", "[\x00]", `// comment`, `{"a":1 /* c */}`, strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	strings.Repeat("[", 1_000_000), strings.Repeat(`{"a":`, 1_000_000),
}

func TestMalformedJSON(t *testing.T) {
	for _, text := range badJSON {
		before := []byte("before")
		got, err := AppendMsgpack(before, []byte(text))
		var asError *JSONError
		if !errors.Is(err, ErrJSON) || !errors.As(err, &asError) {
			t.Errorf("%.60q: got %v, want ErrJSON", text, err)
		} else if asError.Offset < 0 || asError.Offset > len(text) {
			t.Errorf("%.60q: offset %d", text, asError.Offset)
		}
		if string(got) != "before" {
			t.Errorf("%.60q: dst became %q", text, got)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for _, tc := range []struct{ doc, want string }{
		{"c0", `null`}, {"c2", `false`}, {"c3", `true`}, {"00", `0`}, {"7f", `127`}, {"ff", `-1`}, {"e0", `-32`},
		{"cc80", `128`}, {"cdffff", `65535`}, {"ceffffffff", `4294967295`}, {"cfffffffffffffffff", `18446744073709551615`},
		{"d07f", `127`}, {"d080", `-128`}, {"d18000", `-32768`}, {"d280000000", `-2147483648`}, {"d38000000000000000", `-9223372036854775808`},
		{"ca3dcccccd", `0.1`}, {"ca7f800000", `null`}, {"ca40000000", `2.0`}, {"cb3ff0000000000000", `1.0`}, {"cb8000000000000000", `-0.0`},
		{"cb3fb999999999999a", `0.1`}, {"cb7ff0000000000000", `null`}, {"cbfff0000000000000", `null`}, {"cb7ff8000000000000", `null`},
		{"cb444b1ae4d6e2ef50", `1e+21`}, {"cb444b1ae4d6e2ef4f", `999999999999999900000.0`}, {"cb3eb0c6f7a0b5ed8d", `0.000001`}, {"cb3eb0c6f7a0b5ed8c", `9.999999999999997e-07`},
		{"a0", `""`}, {"a161", `"a"`}, {"d90161", `"a"`}, {"da000161", `"a"`}, {"db0000000161", `"a"`},
		{"a8225c2f080c0a0d09", `"\"\\/\u0008\u000c\n\r\t"`}, {"a3001f7f", "\"\\u0000\\u001f\x7f\""}, {"a9c3a9e282acf09f9880", `"é€😀"`}, {"a3ff6180", "\"\ufffda\ufffd\""},
		{"c403000102", `"AAEC"`}, {"c500010a", `"Cg=="`}, {"c400", `""`}, {"d4ff00", `{"ext":-1,"data":"AA=="}`}, {"c70105ff", `{"ext":5,"data":"/w=="}`}, {"c70005", `{"ext":5,"data":""}`},
		{"d6ff00000000", `{"ext":-1,"data":"AAAAAA=="}`}, {"c800010500", `{"ext":5,"data":"AA=="}`},
		{"90", `[]`}, {"93019102c0", `[1,[2],null]`}, {"dc0001c3", `[true]`}, {"80", `{}`}, {"82a162c0a16181a16301", `{"b":null,"a":{"c":1}}`}, {"de0001a16101", `{"a":1}`}, {"df00000001a16101", `{"a":1}`},
		{"82a16101a16102", `{"a":1,"a":2}`},
		{"8601c0ffc0c0c0c3c0cb3ff0000000000000c0c40100c0", `{"1":null,"-1":null,"null":null,"true":null,"1.0":null,"AA==":null}`},
		{"8391a16102810102039fc0c0c0c0c0c0c0c0c0c0c0c0c0c0c004"[:4] + "a161" + "02" + "8101" + "02" + "03" + "d40500" + "04", `{"kaFh":2,"gQEC":3,"1AUA":4}`},
		{"81cb7ff800000000000001", `{"null":1}`},
	} {
		got, err := AppendJSON([]byte("before"), unhex(t, tc.doc))
		if err != nil || string(got) != "before"+tc.want {
			t.Errorf("%s: got %s, %v, want %s", tc.doc, got, err, tc.want)
		}
		if !json.Valid(got[6:]) {
			t.Errorf("%s: %s is not JSON", tc.doc, got[6:])
		}
	}
	for _, doc := range []string{"", "c1", "91", "c0c0", "81c0", strings.Repeat("91", MaxDepth) + "90"} {
		got, err := AppendJSON([]byte("before"), unhex(t, doc))
		if !errors.Is(err, ErrMsgpack) || string(got) != "before" {
			t.Errorf("%s: got %q, %v, want ErrMsgpack", doc, got, err)
		}
	}
}

// TestKeysOfKeysStaySmall: a map as a key of a map as a key … must not double
// the text with each level.
func TestKeysOfKeysStaySmall(t *testing.T) {
	doc := unhex(t, strings.Repeat("81", MaxDepth-1)+"80"+strings.Repeat("a122", MaxDepth-1))
	got, err := AppendJSON(nil, doc)
	if err != nil || len(got) > 4*len(doc) || !json.Valid(got) {
		t.Errorf("%d bytes of JSON for %d of msgpack, %v", len(got), len(doc), err)
	}
}

// FuzzAppendMsgpack compares the transcoder with encoding/json: what is JSON,
// and what it says.
func FuzzAppendMsgpack(f *testing.F) {
	for _, text := range badJSON {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(`{"a":[1,-2,3.5e-7,"\ud83d\ude00é",null,true,{"b":18446744073709551615}],"c":"` + strings.Repeat("x", 300) + `"}`))
	f.Add([]byte("\"\xc3\xff\\ud800\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := AppendMsgpack(nil, text)
		if len(doc) > 3*len(text)+8 {
			t.Fatalf("%d bytes of msgpack for %d of JSON", len(doc), len(text))
		}
		if err != nil {
			if json.Valid(text) && !strings.Contains(err.Error(), reasonDepth) && !strings.Contains(err.Error(), "range of float64") {
				t.Fatalf("JSON was refused: %v", err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatal("what is not JSON was accepted")
		}
		if err := Validate(doc); err != nil {
			t.Fatal(err)
		}
		var want, got any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		m := msgpack.NewDecoder(bytes.NewReader(doc))
		m.UseLooseInterfaceDecoding(true)
		if err := m.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if want, got = numbers(want), numbers(got); !reflect.DeepEqual(want, got) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
		again, err := AppendJSON(nil, doc)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := AppendMsgpack(nil, again); err != nil || !bytes.Equal(back, doc) {
			t.Fatalf("by way of %s the document became %x, was %x: %v", again, back, doc, err)
		}
	})
}

// numbers gives the numbers of both decoders one type: int64, uint64 for what is
// beyond it, float64.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			panic(err)
		}
		return f
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// FuzzAppendJSON: every valid document has a text that is JSON on one line, of a
// size in proportion.
func FuzzAppendJSON(f *testing.F) {
	for _, text := range wellFormed {
		f.Add(unhex(f, text))
	}
	f.Add(unhex(f, strings.Repeat("81", MaxDepth-1)+"80"+strings.Repeat("a122", MaxDepth-1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, err := AppendJSON(nil, doc)
		if (err == nil) != (Validate(doc) == nil) {
			t.Fatalf("got %v, Validate says %v", err, Validate(doc))
		}
		if err != nil {
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) || bytes.ContainsRune(text, '\n') {
			t.Fatalf("not JSON on one line: %q", text)
		}
		if len(text) > 16*len(doc)+8 {
			t.Fatalf("%d bytes of JSON for %d of msgpack", len(text), len(doc))
		}
	})
}

func TestFloatsSurviveJSON(t *testing.T) {
	for _, f := range []float64{0, 1, -1, 0.1, 1e21, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64, 123456789012345680000, math.Pi} {
		text := appendFloat(nil, f, 64)
		doc, err := AppendMsgpack(nil, text)
		if err != nil || doc[0] != 0xcb {
			t.Fatalf("%s: %x, %v: want a float", text, doc, err)
		}
		if back, err := strconv.ParseFloat(string(text), 64); err != nil || back != f {
			t.Errorf("%v became %s", f, text)
		}
	}
}

func BenchmarkAppendMsgpack(b *testing.B) {
	text, err := AppendJSON(nil, sampleEvent(b, 7))
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = AppendMsgpack(dst[:0], text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	doc := sampleEvent(b, 7)
	var dst []byte
	var err error
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = AppendJSON(dst[:0], doc); err != nil {
			b.Fatal(err)
		}
	}
}
