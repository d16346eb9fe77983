package vnode

import (
	"errors"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// MaxStampAhead is how far ahead of this node's clock an object's timestamp may
// be: a greater one would win over puts to come.
const MaxStampAhead = 5 * time.Second

// admit decides whether a record may be taken into its bucket now, whatever is
// stored there, and returns its epoch: that of a timed key, of a plain object
// its timestamp in seconds, rounded up. The drop horizon is the storage's to
// check, which alone can do it without a gap before the write. An error is an
// *object.Error; nothing was done.
func admit(r *rules, h *object.Header, now time.Time, aheadSeconds int64) (epoch int64, err error) {
	if err := checkKind(r, h); err != nil {
		return 0, err
	}
	if int64(h.ValueBytes) > r.MaxValueBytes {
		return 0, object.Errorf(object.CodeTooLarge, object.NotDone,
			"the value of %.40q has %d bytes; the bucket %q takes at most %d: split it", h.Key, h.ValueBytes, r.Name, r.MaxValueBytes)
	}
	if latest := now.Add(MaxStampAhead).UnixMicro(); h.TimestampMicros > latest {
		return 0, object.Errorf(object.CodeTooFarAhead, object.NotDone,
			"the timestamp of %.40q is %d ms ahead of this node's clock; at most %d are taken: set the clocks right",
			h.Key, (h.TimestampMicros-now.UnixMicro())/1000, MaxStampAhead.Milliseconds())
	}
	if !r.Timed {
		return plainEpoch(r, h, now)
	}
	if epoch, err = timedEpoch(r, h.Key); err != nil {
		return 0, err
	}
	return epoch, refusal(r, expiry.Admit(epoch, now.Unix(), expiry.Limits{TTLSeconds: r.TTLSeconds, AheadSeconds: aheadSeconds}))
}

// checkKind refuses records of a kind the bucket does not have.
func checkKind(r *rules, h *object.Header) error {
	switch {
	case r.Rows && h.Kind != object.Delta:
		return badRequest("the bucket %q holds the index, which only grows: it takes deltas, no value or delete", r.Name)
	case !r.Rows && h.Kind == object.Delta:
		return badRequest("the bucket %q is no index: it takes no deltas", r.Name)
	case h.Flags&object.FlagErased != 0 && (h.Kind != object.Tombstone || !r.WriteOnce):
		return badRequest("only a delete in a write-once bucket may be marked as erasing")
	}
	return nil
}

func badRequest(format string, args ...any) error {
	return object.Errorf(object.CodeBadRequest, object.NotDone, format, args...)
}

// timedEpoch returns the epoch of a key of a timed bucket. A key in an indexed
// bucket must be a blob's, or its entry could not be derived from it; one of a
// row must be spelled in the one way that rows are found by.
func timedEpoch(r *rules, key []byte) (int64, error) {
	switch {
	case r.Index:
		k, err := event.ParseKey(string(key))
		if err != nil {
			return 0, badRequest("%w", err)
		}
		return k.Epoch, nil
	case r.Rows:
		k, err := parseRowKey(key)
		return k.Epoch, err
	}
	epoch, err := event.TimedEpoch(key)
	if err != nil {
		return 0, badRequest("%w", err)
	}
	return epoch, nil
}

func parseRowKey(key []byte) (event.IndexKey, error) {
	k, err := event.ParseIndexKey(string(key))
	if err != nil {
		return event.IndexKey{}, badRequest("%w", err)
	}
	if canonical := k.String(); canonical != string(key) {
		return event.IndexKey{}, badRequest("the index row %.80q is to be addressed as %q", key, canonical)
	}
	return k, nil
}

// plainEpoch returns the time of a plain object, which must not be past yet.
func plainEpoch(r *rules, h *object.Header, now time.Time) (int64, error) {
	if err := bucket.CheckKey(h.Key); err != nil {
		return 0, badRequest("%w", err)
	}
	epoch := stampSeconds(h)
	return epoch, refusal(r, expiry.Readable(epoch, now.Unix(), expiry.Limits{TTLSeconds: r.TTLSeconds}))
}

// stampSeconds returns an object's timestamp in seconds, rounded up: nothing is
// hidden before its TTL has wholly passed.
func stampSeconds(h *object.Header) int64 {
	const micros = 1_000_000
	seconds := h.TimestampMicros / micros
	if h.TimestampMicros%micros > 0 {
		seconds++
	}
	return seconds
}

// refusal turns what expiry refused into the caller's error.
func refusal(r *rules, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, expiry.ErrTooFarAhead):
		return object.Errorf(object.CodeTooFarAhead, object.NotDone, "bucket %q: %w", r.Name, err)
	}
	return object.Errorf(object.CodeExpired, object.NotDone, "bucket %q: %w", r.Name, err)
}

// hidden reports whether an object of a timed bucket is past its TTL.
func (r *rules) hidden(epoch, nowSeconds int64) bool {
	return expiry.Hidden(epoch, nowSeconds, expiry.Limits{TTLSeconds: r.TTLSeconds})
}
