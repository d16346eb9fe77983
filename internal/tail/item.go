package tail

import (
	"context"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// A Source is what a hub reads: the store, as its node sees it. All methods may
// be called by many goroutines at once.
type Source interface {
	// Row reads an index row; a row nobody has written is empty. certain tells that
	// enough complete owners were read to miss nothing acknowledged. The row is
	// not modified afterwards. object.CodeExpired says the second is gone for good.
	Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error)
	// Get reads a blob. The caller releases the record.
	Get(ctx context.Context, key event.Key) (object.Record, error)
	// DCs returns the names of all dcs with data; it does not wait for anything.
	DCs() []string
}

// An Update is a delta that is durable, with the bodies of its blobs as far as
// they are at hand.
type Update struct {
	Index event.IndexKey
	Delta index.Row
	// Bodies are the publisher's: the hub retains those it keeps. Those without a
	// Buf, which cannot be retained, are read again when needed.
	Bodies []object.Record
}

// A Kind says what an Item is.
type Kind uint8

const (
	KindBlob      Kind = iota + 1 // Item.Blob
	KindWatermark                 // Item.Watermark
	KindGap                       // Item.Gap
)

// An Item is what a subscription delivers next.
type Item struct {
	Kind    Kind
	Arrival int64 // the second of arrival it came with
	// Low is the lowest second of arrival that is not finished once this item is
	// taken: with Arrival and ID all that a reader needs to keep a cursor.Cursor of
	// its own (Add, then Finish).
	Low int64

	Blob      Blob
	Watermark Watermark
	Gap       Gap
}

// A Blob is one blob that was stored.
type Blob struct {
	Key   event.Key
	Entry index.Entry
	// Record is the stored object; the reader releases it with Item.Release. It is
	// empty if the subscription is without bodies. Its value is not verified yet.
	Record object.Record
	// Late: it came after its second was closed, or outside its writer's final.
	Late bool
}

// A Watermark says what is known of second Epoch of a dc: never that it is
// pending. After Incomplete, Unknown or NoWriters may come another one that knows
// more; after Complete comes none. All blobs on which Complete rests were
// delivered before it, the reader's filter permitting.
type Watermark struct {
	Epoch   int64
	DC      string
	Verdict index.Verdict
}

// A Gap says that something could not be delivered, and never will be by this
// subscription.
type Gap struct {
	// First and Last are the seconds of arrival, inclusive.
	First, Last int64
	// Key is the blob that the index names and nobody could read; zero if whole
	// seconds have expired before they were read.
	Key event.Key
	Err error // an *object.Error
}

// Release gives back the record, if the item has one. The record must not be
// touched after it.
func (i *Item) Release() {
	if i.Kind == KindBlob {
		i.Blob.Record.Release()
		i.Blob.Record = object.Record{}
	}
}

// ID returns the identity under which a cursor.Cursor notes the item; 0 for a gap
// of whole seconds, which Low passes over.
func (i *Item) ID() uint64 {
	switch i.Kind {
	case KindBlob:
		return blobID(i.Blob.Entry.Checksum, i.Blob.Key)
	case KindWatermark:
		return cursor.WatermarkID(i.Watermark.Epoch, i.Watermark.DC, uint8(i.Watermark.Verdict.State))
	}
	return 0
}

func blobID(checksum uint64, key event.Key) uint64 {
	var text [event.MaxKeyBytes]byte
	return cursor.BlobID(checksum, key.AppendTo(text[:0]))
}
