package client

import (
	"cmp"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// An Object is what a caller stores.
type Object struct {
	Type   string // bucket type; "" is "default"
	Bucket string
	Key    string // of events and other timed buckets: begins with "<epoch>:"
	Value  []byte // copied when it is encoded

	TimestampMicros int64  // microseconds since the Unix epoch, UTC; 0 is now
	EventCount      uint32 // events in the value, if it is a blob
	Writer          string // who writes it; "" is nobody in particular
	Incarnation     uint64 // of the writer
	Metadata        []byte // fields, see object.AppendField
}

// Encode stamps an object and makes its record, the bytes that every attempt
// sends and every replica keeps. The caller releases it. What cannot be stored
// is refused with the reason: object.CodeBadRequest or CodeTooLarge.
func (c *Client) Encode(o Object) (object.Record, error) {
	if err := bucket.CheckNames(cmp.Or(o.Type, bucket.DefaultType), o.Bucket); err != nil {
		return object.Record{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	stamp := o.TimestampMicros
	if stamp == 0 {
		stamp = c.stampMicros()
	}
	return object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: stamp, EventCount: o.EventCount,
		Type: []byte(cmp.Or(o.Type, bucket.DefaultType)), Bucket: []byte(o.Bucket), Key: []byte(o.Key),
		Writer: []byte(o.Writer), Incarnation: o.Incarnation, Metadata: o.Metadata,
	}, o.Value)
}
