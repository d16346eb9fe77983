package event

import (
	"errors"
	"strings"
	"testing"
)

func TestIndexKeyText(t *testing.T) {
	for _, tc := range []struct {
		text, canonical string
		want            IndexKey
	}{
		{"1790000000:ams4", "1790000000:ams4", IndexKey{1790000000, "ams4", false}},
		{"1790000000-ams4", "1790000000:ams4", IndexKey{1790000000, "ams4", false}},
		{"1790000000:ams4:late", "1790000000:ams4:late", IndexKey{1790000000, "ams4", true}},
		{"1790000000-ams4:late", "1790000000:ams4:late", IndexKey{1790000000, "ams4", true}},
		{"1790000000:late", "1790000000:late", IndexKey{1790000000, "late", false}},
		{"1790000000:late:late", "1790000000:late:late", IndexKey{1790000000, "late", true}},
		{"1790000000--ams-4", "1790000000:-ams-4", IndexKey{1790000000, "-ams-4", false}},
		{"9007199254740992:" + strings.Repeat("d", 64), "9007199254740992:" + strings.Repeat("d", 64), IndexKey{MaxEpoch, strings.Repeat("d", 64), false}},
	} {
		got, err := ParseIndexKey(tc.text)
		if err != nil || got != tc.want || got.String() != tc.canonical || got.Validate() != nil {
			t.Errorf("ParseIndexKey(%q) = %+v (%q), %v, want %+v (%q)", tc.text, got, got, err, tc.want, tc.canonical)
		}
	}
}

var badIndexKeys = []string{
	"", ":", "-", "1", "1:", "1-", "1:late:", "1::late", "1:a:b", "1:a:LATE", "1:a-late:x", "0:a", "01:a", "-1:a", "1 :a", "1:a b", "1/a",
	"9007199254740993:a", "1:" + strings.Repeat("d", 65), "1:a:late:late", "99999999999999999999999:a",
}

func TestBadIndexKeys(t *testing.T) {
	for _, text := range badIndexKeys {
		_, err := ParseIndexKey(text)
		wantKeyError(t, text, err)
	}
	for _, k := range []IndexKey{{}, {0, "a", false}, {MaxEpoch + 1, "a", false}, {1, "", false}, {1, "a:late", false}, {1, "a|b", true}} {
		if err := k.Validate(); !errors.Is(err, ErrKey) {
			t.Errorf("%+v: got %v, want ErrKey", k, err)
		}
	}
}

func FuzzParseIndexKey(f *testing.F) {
	for _, text := range badIndexKeys {
		f.Add(text)
	}
	f.Add("1790000000-ams4:late")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseIndexKey(text)
		if err != nil {
			wantKeyError(t, text, err)
			return
		}
		if err := k.Validate(); err != nil {
			t.Fatal(err)
		}
		if back, err := ParseIndexKey(k.String()); err != nil || back != k {
			t.Fatalf("%q, canonical %q: %+v, %v", text, k, back, err)
		}
		if strings.Replace(text, "-", ":", 1) != k.String() && text != k.String() {
			t.Fatalf("%q is not a text of %q", text, k)
		}
		if epoch, err := TimedEpoch(text); err != nil || epoch != k.Epoch {
			t.Fatalf("TimedEpoch(%q) = %d, %v", text, epoch, err)
		}
	})
}
