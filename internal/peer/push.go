package peer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// Pushes: one node tells another, on a stream, what it has just made durable.
// [PushHandler] is the side that tells, [Peer.Follow] the side that is told. The
// bytes are in the package comment. Nothing depends on a push: what is not told,
// for want of room, of a connection or of a subscription, is found by reading the
// index.

// OpSubscribe is the operation whose answer is pushes.
const OpSubscribe uint8 = 40

// Pushes tells whether an operation of the wire is one that a [PushHandler]
// serves.
func Pushes(op uint8) bool { return op == OpSubscribe }

// Bounds of what is asked for and pushed.
const (
	MaxSubscribedDCs = 256     // named in one subscription; who wants more takes all
	maxPushedRow     = 1 << 20 // bytes of a delta; a larger one is not pushed
	maxPushedBody    = 1 << 20 // bytes of a record; a larger one is not pushed
)

// blobBucket is the bucket whose records are pushed; its type is rowBucketType.
const blobBucket = "events"

// A Subscription says what a node wants to be told of.
type Subscription struct {
	DCs    []string // ascending, each once, at most MaxSubscribedDCs; none: all
	Bodies bool     // blobs as well, not only what the index says of them
}

// Wants tells whether pushes of a data centre are asked for.
func (s *Subscription) Wants(dc string) bool {
	if len(s.DCs) == 0 {
		return true
	}
	_, named := slices.BinarySearch(s.DCs, dc)
	return named
}

// Equal tells whether two subscriptions ask for the same.
func (s *Subscription) Equal(t *Subscription) bool {
	return s.Bodies == t.Bodies && slices.Equal(s.DCs, t.DCs)
}

const subscriptionHead = 3 // bytes

// appendSubscription appends the arguments of a subscription:
//
//	offset  size  field
//	0       1     1 if bodies are wanted, else 0
//	1       2     number of data centres, 0..MaxSubscribedDCs; 0 is all
//	3       …     their names, a text each, ascending, each once
func appendSubscription(dst []byte, s *Subscription) []byte {
	bodies := byte(0)
	if s.Bodies {
		bodies = 1
	}
	dst = binary.LittleEndian.AppendUint16(append(dst, bodies), uint16(len(s.DCs)))
	for _, dc := range s.DCs {
		dst = appendText(dst, []byte(dc))
	}
	return dst
}

// parseSubscription decodes the arguments of a subscription, which it does not
// alias.
func parseSubscription(b []byte) (s Subscription, err error) {
	if len(b) < subscriptionHead || b[0] > 1 {
		return s, malformed(fmt.Sprintf("a subscription of % x", b[:min(len(b), 8)]))
	}
	s.Bodies = b[0] == 1
	n := int(binary.LittleEndian.Uint16(b[1:]))
	b = b[subscriptionHead:]
	if n > MaxSubscribedDCs || n > len(b)/3 { // a name has a length and at least a byte
		return s, malformed(fmt.Sprintf("%d data centres in %d bytes; at most %d are subscribed to by name", n, len(b), MaxSubscribedDCs))
	}
	for range n {
		if len(b) < 2 {
			return s, malformed("a subscription that is cut short")
		}
		size := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; size > len(b) || !event.ValidName(string(b[:size])) {
			return s, malformed("a subscription to what is no data centre")
		}
		dc := string(b[:size])
		if k := len(s.DCs); k > 0 && strings.Compare(s.DCs[k-1], dc) >= 0 {
			return s, malformed("a subscription whose data centres are not in order")
		}
		s.DCs, b = append(s.DCs, dc), b[size:]
	}
	if len(b) > 0 {
		return s, malformed("a subscription with more behind it")
	}
	return s, nil
}

// A pushKind says what a message of the stream is.
type pushKind uint8

const (
	pushReady pushKind = 1 + iota // from now on everything is pushed
	pushDelta                     // what was added to an index row
	pushBody                      // a blob
)

// A pushed is one message as it arrived.
type pushed struct {
	kind  pushKind
	row   event.IndexKey // of a delta
	delta index.Row      // aliases nothing
	key   event.Key      // of a body
	rec   object.Record  // aliases the message; without Buf
}

// pushDeltaHead is the part of a delta's meta before the key of its row:
//
//	offset  size  field
//	0       1     2
//	1       8     xxhash64 of the delta
//	9       …     the index key
const pushDeltaHead = 9 // bytes

func appendPushDeltaMeta(dst []byte, key event.IndexKey, delta []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(pushDelta)), object.Checksum(delta))
	return key.AppendTo(dst)
}

// parsePush decodes and checks a message.
func parsePush(meta, body []byte) (m pushed, err error) {
	if len(meta) == 0 {
		return m, malformed("a push of nothing")
	}
	switch m.kind = pushKind(meta[0]); {
	case m.kind == pushDelta:
		err = m.parseDelta(meta, body)
	case len(meta) > 1:
		err = malformed("a push with more behind its kind")
	case m.kind == pushBody:
		err = m.parseBody(body)
	case m.kind != pushReady || len(body) > 0:
		err = malformed(fmt.Sprintf("a push of kind %d with %d bytes", meta[0], len(body)))
	}
	return m, err
}

func (m *pushed) parseDelta(meta, body []byte) (err error) {
	switch {
	case len(meta) < pushDeltaHead || len(body) > maxPushedRow:
		return malformed(fmt.Sprintf("a delta of %d bytes, with %d", len(body), len(meta)))
	case binary.LittleEndian.Uint64(meta[1:]) != object.Checksum(body):
		return malformed("a delta that was damaged on its way")
	}
	if m.row, err = event.ParseIndexKey(string(meta[pushDeltaHead:])); err != nil {
		return malformed(err.Error())
	}
	if m.delta, err = index.ParseRow(body); err != nil {
		return err
	}
	if m.delta.Empty() {
		return malformed("a delta that says nothing")
	}
	return m.delta.ValidateFor(m.row)
}

func (m *pushed) parseBody(body []byte) (err error) {
	if len(body) > maxPushedBody {
		return malformed(fmt.Sprintf("a blob of %d bytes", len(body)))
	}
	if m.rec, err = object.ParseRecord(body); err != nil {
		return err
	}
	if m.rec.Kind != object.Value || string(m.rec.Type) != rowBucketType || string(m.rec.Bucket) != blobBucket {
		return malformed(fmt.Sprintf("a record of %q/%q that is no blob", m.rec.Type, m.rec.Bucket))
	}
	if m.key, err = event.ParseKey(string(m.rec.Key)); err != nil {
		return malformed(err.Error())
	}
	return m.rec.Verify()
}

// A push is a message on its way to one subscriber. It has one use of the
// piece's Buffer; meta is shared and not modified.
type push struct {
	meta  []byte
	piece wire.Piece
	body  bool // of a blob, else a delta
}

// size is what a push that waits costs, bytes.
func (p *push) size() int64 { return int64(len(p.meta) + p.piece.Buf.Cap()) }
