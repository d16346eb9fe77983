package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/Sereal/Sereal/Go/sereal"
)

// TestTable runs the program on a few real and all generated events.
func TestTable(t *testing.T) {
	dir := t.TempDir()
	line := `{"type":"WEB","subtype":"x","event":{"a":[1,-2,2.5,null,true,{"b":"c"}],"m":"text é"}}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "x.ndjson"), []byte(strings.Repeat(line, 25)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--events", dir, "--per-blob", "5,10", "--rounds", "1", "--only", "zstd fastest"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"real events, 5 a blob: 5 blobs,", "real events, 10 a blob: 2 blobs,", "generated events, 10 a blob", "| msgpack, zstd fastest |", "| json, zstd fastest |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestEveryCandidate: all of them bring back every event, which run checks, and
// the JSON has a cell for each.
func TestEveryCandidate(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--per-blob", "500", "--rounds", "1", "--json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Cells []cell
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	all, err := candidates(config{window: 1 << 20, encoders: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Cells) != len(all) {
		t.Errorf("%d cells for %d candidates", len(got.Cells), len(all))
	}
	for _, c := range got.Cells {
		if c.Events != 3*generatedEvents || c.StoredBytes == 0 || c.EncodeMB == 0 || c.DecodeMB == 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestWrongArguments(t *testing.T) {
	for _, args := range [][]string{
		{"--per-blob", "x"}, {"--per-blob", "0"}, {"--rounds", "0"}, {"--encoders", "0"}, {"--window", "7"}, {"--events", t.TempDir()}, {"more"}, {"--nonsense"}, {"--only", "nonsense"},
		{"--per-blob", "1000000", "--rounds", "1"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// TestSereal: the library reads in our Sereal what encoding/json reads in the
// JSON it was made of.
func TestSereal(t *testing.T) {
	text := `{"a":[0,15,16,-1,-16,-17,300,-70000,2.5,null,true,false,"",{"b":"c"}],"long":"` + strings.Repeat("x", 40) + `","é":"é",` +
		`"many":[` + strings.Repeat("1,", 20) + `1],"map":{` + strings.Repeat(`"k":1,`, 20) + `"k":1}}`
	var c corpus
	if err := c.add([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if err := sereal.Unmarshal(c.sereal[0], &got); err != nil {
		t.Fatal(err)
	}
	if got = plain(got); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

// plain gives the library's values the types encoding/json would.
func plain(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []byte:
		return string(v)
	case *[]any:
		return plain(*v)
	case *map[string]any:
		return plain(*v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = plain(x)
		}
		return out
	}
	return v
}
