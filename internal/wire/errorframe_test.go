package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
)

func TestErrorGolden(t *testing.T) {
	e := &object.Error{Code: object.CodeConflict, Outcome: object.NotDone, Message: "other bytes", Cause: errors.New("stays")}
	want := unhex(t, "05 01 0b00 6f74686572206279746573")
	got := AppendError(nil, e)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	back, rest, err := ParseError(append(got, 0xee))
	if err != nil || back.Code != e.Code || back.Outcome != e.Outcome || back.Message != e.Message || back.Cause != nil || !bytes.Equal(rest, []byte{0xee}) {
		t.Errorf("parsed back as %+v, %x, %v", back, rest, err)
	}
}

func TestErrorMessageIsBounded(t *testing.T) {
	long := &object.Error{Code: object.CodeInternal, Outcome: object.MaybeDone, Message: strings.Repeat("ab\n", 5000)}
	back, _, err := ParseError(AppendError(nil, long))
	if err != nil || len(back.Message) != maxMessageBytes || strings.Contains(back.Message, "\n") {
		t.Errorf("%d bytes, %v", len(back.Message), err)
	}
}

func TestUnknownCodeKeepsItsNumber(t *testing.T) {
	back, _, err := ParseError([]byte{200, 2, 0, 0})
	if err != nil || back.Code != 200 || back.Code.Retryable() {
		t.Errorf("%+v, %v", back, err)
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(AppendError(nil, &object.Error{Code: object.CodeAbsent, Outcome: object.Done, Message: "words"}))
	f.Add([]byte{1, 4, 0, 0})
	f.Add([]byte{1, 1, 255, 255, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := ParseError(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("an error that is no ErrFrame: %v", err)
			}
			return
		}
		if back := append(AppendError(nil, e), rest...); !bytes.Equal(back, b) {
			t.Fatalf("encodes back as %x, was %x", back, b)
		}
	})
}
