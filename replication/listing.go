package replication

import (
	"fmt"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// lateTries bounds how often a late list is tried: one more would mean that
// each took longer than a list stays open.
const lateTries = 4

// A Listing decides how a delta gets into the index: into the row it is meant
// for or, if that is closed, as late. Its blobs are stored already; whoever puts
// them acknowledges when the listing is over without an error, not before.
//
// A row that is closed is answered with object.CodeClosed. Then the entries go
// first into the late list of the present second, and after that, marked so, into
// the row: a blob that is marked as listed must be found in a list. A list that
// is closed by the time it is written to is followed by that of another second.
// Hellos, finals and goodbyes for a closed second are refused: they would change
// what was said of it.
type Listing struct {
	key   event.IndexKey
	delta index.Row

	stage   listingStage
	tries   int
	lateKey event.IndexKey
	marked  index.Row
	list    index.Row
}

type listingStage uint8

const (
	listingRow    listingStage = iota // the row itself is being written
	listingLate                       // a late list is
	listingMarked                     // the row is, after the list
	listingOver
)

// A ListingAction is what a driver is to do next.
type ListingAction struct {
	Kind ListingActionKind
	Key  event.IndexKey // of what is to be written, or was
	Row  index.Row      // to be written under Key, or to be published
	Err  *object.Error  // for ListingOver: nil if all is in the index
}

// A ListingActionKind says what to do.
type ListingActionKind uint8

const (
	// AddToRow: add Row to the row of Key, and tell [Listing.Added].
	AddToRow ListingActionKind = iota + 1
	// ListingOver: nothing more is to be done. If Err is nil everything is in the
	// index, Row is what tails are to be told under Key, and the writer may be
	// answered.
	ListingOver
)

// NewListing begins to list a delta, which must be valid for the key and not
// empty. The action is the first thing to do.
func NewListing(key event.IndexKey, delta index.Row) (Listing, ListingAction) {
	return Listing{key: key, delta: delta}, ListingAction{Kind: AddToRow, Key: key, Row: delta}
}

// Late tells that the row was closed: what is listed came late.
func (l *Listing) Late() bool { return l.stage != listingRow && l.tries > 0 }

// Added takes the outcome of the last AddToRow. nowSeconds is the driver's clock,
// Unix time.
func (l *Listing) Added(err *object.Error, nowSeconds int64) ListingAction {
	closed := err != nil && err.Code == object.CodeClosed
	switch {
	case l.stage == listingOver:
		panic("replication: BUG: a listing goes on after its end")
	case closed && l.stage != listingMarked:
		return l.writeLate(err, nowSeconds)
	case err != nil:
		return l.over(maybeListed(err))
	case l.stage == listingRow:
		return l.listed(l.key, l.delta)
	case l.stage == listingLate && !l.marked.Empty():
		l.stage = listingMarked
		return ListingAction{Kind: AddToRow, Key: l.key, Row: l.marked}
	}
	return l.listed(l.lateKey, l.list)
}

// writeLate turns to the late list of the present second.
func (l *Listing) writeLate(cause *object.Error, nowSeconds int64) ListingAction {
	if l.tries++; l.tries > lateTries {
		return l.over(maybeListed(cause))
	}
	l.marked, l.list = index.Relist(l.key, l.delta, nowSeconds)
	if l.list.Empty() {
		return l.over(object.Errorf(object.CodeExpired, object.NotDone,
			"second %d of %s is closed: hello, final and goodbye come too late for it", l.key.Epoch, l.key.DC))
	}
	l.stage, l.lateKey = listingLate, index.LateKey(l.key, nowSeconds)
	return ListingAction{Kind: AddToRow, Key: l.lateKey, Row: l.list}
}

func (l *Listing) listed(key event.IndexKey, row index.Row) ListingAction {
	l.stage = listingOver
	return ListingAction{Kind: ListingOver, Key: key, Row: row}
}

func (l *Listing) over(err *object.Error) ListingAction {
	l.stage = listingOver
	return ListingAction{Kind: ListingOver, Err: err}
}

// maybeListed returns err with the outcome that holds when the blob is stored and
// its entry may not be: a retry of the identical put lists it.
func maybeListed(err *object.Error) *object.Error {
	e := *err
	e.Outcome = object.MaybeDone
	e.Message = fmt.Sprintf("the blob is stored, its index entry may not be: %s; send it again", e.Message)
	return &e
}

// A RowOfBlobs is what some blobs add to one row of the index.
type RowOfBlobs struct {
	Key   event.IndexKey
	Delta index.Row
	Blobs []int // which of the records they are, ascending
}

// RowOfBlob returns the delta that lists one blob, and the key of the row it
// belongs to. The error is of a record that no row can list.
func RowOfBlob(h *object.Header) (event.IndexKey, index.Row, *object.Error) {
	key, delta, err := index.DeltaOf(h)
	if err != nil {
		return event.IndexKey{}, index.Row{}, object.Errorf(object.CodeBadRequest, object.MaybeDone, "%w", err)
	}
	return key, delta, nil
}

// RowsOfBlobs returns the deltas that list records of blobs, one for each row they
// belong to, in the order in which the rows are first met. fault is called for a
// record that no row can list.
func RowsOfBlobs(recs []object.Record, fault func(i int, err *object.Error)) []RowOfBlobs {
	rows, deltas := make([]RowOfBlobs, 0, 1), make([][]index.Row, 0, 1) // the latter side by side with rows
	at := make(map[event.IndexKey]int)                                  // where in rows
	for i := range recs {
		key, delta, err := RowOfBlob(&recs[i].Header)
		if err != nil {
			fault(i, err)
			continue
		}
		r, known := at[key]
		if !known {
			r = len(rows)
			rows, deltas, at[key] = append(rows, RowOfBlobs{Key: key}), append(deltas, nil), r
		}
		rows[r].Blobs, deltas[r] = append(rows[r].Blobs, i), append(deltas[r], delta)
	}
	for r := range rows {
		rows[r].Delta = index.Merge(deltas[r]...)
	}
	return rows
}
