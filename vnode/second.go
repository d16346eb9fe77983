package vnode

import (
	"errors"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// ErrClosed: the second of an index row is closed to what the delta says. The
// delta was not taken and never will be; its entries may be sent again as late
// ones, see [index.Relist]. The code of such an error is object.CodeClosed.
var ErrClosed = errors.New("the second is closed")

const (
	// DefaultLatenessSeconds is how long after its second a row is waited for
	// before it is called incomplete, unless the cluster agreed otherwise.
	DefaultLatenessSeconds = 5

	// openAfterSeconds is how long a row stays open after the lateness bound, and
	// a late list after its second: deltas that are under way must not miss it.
	openAfterSeconds = 5
)

// lastOpen returns the last second, by this node's clock, in which the row takes
// ordinary entries, or a late list anything.
func lastOpen(key event.IndexKey, latenessSeconds int64) int64 {
	if key.Late {
		return key.Epoch + openAfterSeconds
	}
	return key.Epoch + latenessSeconds + openAfterSeconds - 1
}

// checkOpen refuses a delta that comes after its row's second was closed. What
// is marked as late and listed already may come at any time, but not into a late
// list, which those who follow arrival have read by then.
func checkOpen(key event.IndexKey, delta index.Row, now, latenessSeconds int64) error {
	last := lastOpen(key, latenessSeconds)
	if now <= last || !key.Late && allListed(delta) {
		return nil
	}
	return object.Errorf(object.CodeClosed, object.NotDone,
		"the index row %v was open until %d, now is %d: send the entries as late: %w", key, last, now, ErrClosed)
}

// settled reports whether a row is closed: late entries apart, it changes no more.
func (s *Set) settled(key []byte, now time.Time) bool {
	k, err := event.ParseIndexKey(string(key))
	return err == nil && now.Unix() > lastOpen(k, s.cfg.LatenessSeconds)
}

// allListed reports whether a delta says nothing but that blobs came late and
// stand in a late list.
func allListed(delta index.Row) bool {
	const both = index.Late | index.Listed
	for i := range delta.Sections {
		s := &delta.Sections[i]
		if s.Hello || s.Goodbye || s.Final != nil || len(s.Succeeds) > 0 {
			return false
		}
		for j := range s.Entries {
			if s.Entries[j].Flags&both != both {
				return false
			}
		}
	}
	return true
}
