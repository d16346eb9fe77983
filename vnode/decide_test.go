package vnode

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/object"
)

// head is a header of a made-up key: what a decision looks at.
func head(kind object.Kind, stamp int64, value string) *object.Header {
	h := &object.Header{
		Kind: kind, TimestampMicros: stamp, ValueBytes: uint32(len(value)), Checksum: object.Checksum([]byte(value)),
		Type: []byte("t"), Bucket: []byte("b"), Key: []byte("k"),
	}
	object.AppendHeader(nil, h) // sets the CRC
	return h
}

func TestDecide(t *testing.T) {
	const never = bitcask.Action(0)
	a1, a2, b1, b2 := head(object.Value, 1, "a"), head(object.Value, 2, "a"), head(object.Value, 1, "b"), head(object.Value, 2, "b")
	gone1, gone2, gone3 := head(object.Tombstone, 1, ""), head(object.Tombstone, 2, ""), head(object.Tombstone, 3, "")
	delta := head(object.Delta, 1, "d")
	lower, higher := a1, b1
	if a1.Version().Compare(b1.Version()) > 0 {
		lower, higher = b1, a1
	}

	tests := []struct {
		claim     string
		old, next *object.Header
		plain     bitcask.Action // in an ordinary bucket
		once      bitcask.Action // in a write-once one
		why       conflict
	}{
		{"the first value is stored", nil, a1, bitcask.Append, bitcask.Append, noConflict},
		{"a delete of nothing is stored: the value may come later", nil, gone1, bitcask.Append, bitcask.Append, noConflict},
		{"a retry is acknowledged", a1, a1, bitcask.Same, bitcask.Same, noConflict},
		{"a later stamp of one value", a1, a2, bitcask.Append, bitcask.Same, noConflict},
		{"an earlier stamp of one value", a2, a1, bitcask.Same, bitcask.Same, noConflict},
		{"another value, later", a1, b2, bitcask.Append, bitcask.Conflict, otherBytes},
		{"another value, earlier", b2, a1, bitcask.Same, bitcask.Conflict, otherBytes},
		{"equal stamps: the greater header wins", lower, higher, bitcask.Append, bitcask.Conflict, otherBytes},
		{"equal stamps: the lesser header loses", higher, lower, bitcask.Same, bitcask.Conflict, otherBytes},
		{"a later delete", a1, gone2, bitcask.Append, bitcask.Append, noConflict},
		{"a delete at the value's stamp wins", a1, gone1, bitcask.Append, bitcask.Append, noConflict},
		{"a delete stamped before the value", a2, gone1, bitcask.Same, bitcask.Conflict, staleErase},
		{"a value after a delete", gone1, a2, bitcask.Append, bitcask.Conflict, erased},
		{"a value before a delete", gone3, a2, bitcask.Same, bitcask.Conflict, erased},
		{"a retried delete", gone2, gone2, bitcask.Same, bitcask.Same, noConflict},
		{"a second delete, later", gone2, gone3, bitcask.Append, bitcask.Append, noConflict},
		{"a second delete, earlier", gone3, gone2, bitcask.Same, bitcask.Same, noConflict},
		{"a delta", nil, delta, bitcask.Append, never, noConflict},
		{"the very same delta", delta, delta, bitcask.Same, never, noConflict},
	}
	for _, test := range tests {
		t.Run(test.claim, func(t *testing.T) {
			if got, why := decide(false, test.old, test.next); got != test.plain || why != noConflict {
				t.Errorf("ordinary: got %v, %v, want %v", got, why, test.plain)
			}
			if test.once == never {
				return
			}
			if got, why := decide(true, test.old, test.next); got != test.once || why != test.why {
				t.Errorf("write-once: got %v, %v, want %v, %v", got, why, test.once, test.why)
			}
		})
	}
}

// Whatever the order in which records of an ordinary key come, the greatest
// version is what remains.
func TestOrdinaryKeysConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(anyHead), 1, 8).Draw(t, "records")
		var stored, greatest *object.Header
		for _, next := range records {
			if action, _ := decide(false, stored, next); action == bitcask.Append {
				stored = next
			}
			if greatest == nil || next.Version().Compare(greatest.Version()) > 0 {
				greatest = next
			}
		}
		if stored.Version() != greatest.Version() {
			t.Fatalf("stored %+v, greatest is %+v", stored.Version(), greatest.Version())
		}
	})
}

// A write-once key never shows two values, and never one after it was erased;
// what the storage shows is the greatest version, so each record that is
// appended must be the greatest so far.
func TestWriteOnceKeysStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stored *object.Header
		for _, next := range rapid.SliceOfN(rapid.Custom(anyHead), 1, 12).Draw(t, "records") {
			action, _ := decide(true, stored, next)
			if action != bitcask.Append {
				continue
			}
			if stored != nil && next.Version().Compare(stored.Version()) <= 0 {
				t.Fatalf("%+v was appended and is hidden by %+v", next.Version(), stored.Version())
			}
			if stored != nil && next.Kind == object.Value {
				t.Fatalf("a value was appended after %v", stored.Kind)
			}
			stored = next
		}
	})
}

func anyHead(t *rapid.T) *object.Header {
	stamp := rapid.Int64Range(1, 4).Draw(t, "stamp")
	if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
		return head(object.Tombstone, stamp, "")
	}
	return head(object.Value, stamp, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value"))
}

func TestConflictErrors(t *testing.T) {
	for _, why := range []conflict{otherBytes, erased, staleErase} {
		err := conflictError(why, head(object.Value, 1, "a"))
		if e := object.AsError(err); !errors.Is(err, object.CodeConflict) || e.Outcome != object.NotDone || e.Code.Retryable() {
			t.Errorf("%d: %v: %v, %v", why, err, e.Code, e.Outcome)
		}
	}
}
