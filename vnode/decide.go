package vnode

import (
	"fmt"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/object"
)

// A conflict says why a write-once key did not take a record.
type conflict uint8

const (
	noConflict conflict = iota
	otherBytes          // it holds another value
	erased              // it was erased, and takes no value again
	staleErase          // the erasing record is stamped before the value it is to erase
)

// decide chooses what becomes of a record, given what is stored under its key.
// It is pure.
//
//	bucket      stored                  next                     becomes
//	any         nothing                 any                      Append
//	index       the very same delta     delta                    Same
//	ordinary    a version at least as great                      Same: acknowledged, not visible
//	ordinary    a lesser version        any                      Append
//	write-once  the same value          value                    Same, whatever their stamps
//	write-once  another value           value                    Conflict
//	write-once  a tombstone             value                    Conflict
//	write-once  a value, lesser version tombstone                Append
//	write-once  a value, greater        tombstone                Conflict: stamp it again
//	write-once  a tombstone             tombstone                Append if greater, else Same
func decide(writeOnce bool, old, next *object.Header) (bitcask.Action, conflict) {
	switch {
	case old == nil:
		return bitcask.Append, noConflict
	case next.Kind == object.Delta:
		return bitcask.Same, noConflict // the engine shows only the very same version
	case !writeOnce:
		return bitcask.Newest(old, next), noConflict
	}
	switch {
	case next.Kind == object.Tombstone && old.Kind == object.Tombstone:
		return bitcask.Newest(old, next), noConflict
	case next.Kind == object.Tombstone && next.Version().Compare(old.Version()) < 0:
		return bitcask.Conflict, staleErase
	case next.Kind == object.Tombstone:
		return bitcask.Append, noConflict
	case old.Kind == object.Tombstone:
		return bitcask.Conflict, erased
	case old.Checksum == next.Checksum && old.ValueBytes == next.ValueBytes:
		return bitcask.Same, noConflict
	}
	return bitcask.Conflict, otherBytes
}

// conflictError says what to do about a conflict.
func conflictError(why conflict, h *object.Header) error {
	what := ""
	switch why {
	case otherBytes:
		what = "holds another value already, and its bucket is write-once: put the value under another key"
	case erased:
		what = "was erased, and its bucket is write-once: put the value under another key"
	case staleErase:
		what = "holds a value with a later timestamp than the delete: check the clocks and delete it again"
	default:
		panic(fmt.Sprintf("vnode: BUG: conflict %d", why))
	}
	return object.Errorf(object.CodeConflict, object.NotDone, "%.120q %s", h.Key, what)
}
