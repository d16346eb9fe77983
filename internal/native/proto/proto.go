// Package proto is what a client and a node say to each other over
// [wire]: the operations, and the small encodings of their arguments and
// results. Records travel as they are, in the body of a frame.
//
// Integers are little-endian. A text is its length, 2 bytes, and its bytes. A
// decoder takes the whole of its input or says [ErrArguments]; what it returns
// aliases the input unless it says otherwise.
//
//	op  name          arguments                            result
//	2   put           body: a record                       –
//	3   put batch     meta: count (4), sizes (4 each);     body: failures, see AppendFailures;
//	                  body: the records, one by one        empty if there are none
//	4   get           meta: an object name                 body: the record
//	5   head          meta: an object name                 body: the record's header
//	6   row           meta: an index key                   meta: 1 if certain, else 0 (1), xxhash64 of
//	                                                       the row (8); body: the row
//	7   append index  meta: an index key; body: a row      –
//	8   tail          meta: tail options                   messages: meta an item, body its record
//	9   info          –                                    body: msgpack of [Info]
//	10  history       –                                    body: see AppendHistory
//	50  document      –                                    body: an agreed.Document
//	51  propose       body: an agreed.Command              body: an agreed.Result
//	52  report        –                                    body: msgpack of [Report]
package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// The operations. A number keeps its meaning for ever.
const (
	OpPut         uint8 = 2
	OpPutBatch    uint8 = 3
	OpGet         uint8 = 4
	OpHead        uint8 = 5
	OpRow         uint8 = 6
	OpAppendIndex uint8 = 7
	OpTail        uint8 = 8
	OpInfo        uint8 = 9
	OpHistory     uint8 = 10
	OpDocument    uint8 = 50
	OpPropose     uint8 = 51
	OpReport      uint8 = 52
)

// MaxBatch bounds the records of one batch; their bytes are bounded by the
// frame's body.
const MaxBatch = 4096

// ErrArguments: the bytes are not the arguments or the result of the operation.
var ErrArguments = errors.New("the arguments are malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrArguments, what) }

// A Name names an object.
type Name struct{ Type, Bucket, Key []byte }

// AppendName appends the encoding of n: three texts. The parts must have passed
// the bounds of [object.Header].
func AppendName(dst []byte, n Name) []byte {
	return appendText(appendText(appendText(dst, n.Type), n.Bucket), n.Key)
}

// ParseName decodes an object name.
func ParseName(b []byte) (n Name, err error) {
	r := reader{b: b}
	n = Name{r.text(), r.text(), r.text()}
	return n, r.end("an object name")
}

// AppendSizes appends the arguments of a put batch: the sizes of its records.
func AppendSizes(dst []byte, recs []object.Record) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(recs)))
	for i := range recs {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(recs[i].Raw())))
	}
	return dst
}

// ParseBatch decodes a put batch: the records in body, each of the size that
// meta says. They alias body and have no Buf. A record that is malformed fails
// the batch: it was not made by a client of ours.
func ParseBatch(meta, body []byte) ([]object.Record, error) {
	r := reader{b: meta}
	n := r.u32()
	switch {
	case r.bad || uint64(len(r.b)) != 4*uint64(n):
		return nil, malformed("a batch whose count is not that of its sizes")
	case n == 0 || n > MaxBatch:
		return nil, malformed(fmt.Sprintf("a batch of %d records; 1 to %d are taken", n, MaxBatch))
	}
	recs := make([]object.Record, n)
	for i := range recs {
		size := r.u32()
		if uint64(size) > uint64(len(body)) {
			return nil, malformed("a batch that is shorter than its sizes say")
		}
		var err error
		if recs[i], err = object.ParseRecord(body[:size:size]); err != nil {
			return nil, fmt.Errorf("record %d of %d: %w", i+1, n, err)
		}
		body = body[size:]
	}
	if len(body) > 0 {
		return nil, malformed("a batch that is longer than its sizes say")
	}
	return recs, nil
}

// AppendFailures appends the result of a put batch: for each record that
// failed, in ascending order, its number from 0 (4 bytes) and its error
// ([wire.AppendError]). Nothing is appended if all succeeded.
func AppendFailures(dst []byte, errs []error) []byte {
	for i, err := range errs {
		if err != nil {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(i))
			dst = wire.AppendError(dst, object.AsError(err))
		}
	}
	return dst
}

// ParseFailures decodes the result of a put batch of n records into an error a
// record. It copies what it keeps.
func ParseFailures(b []byte, n int) ([]error, error) {
	errs := make([]error, n)
	last := -1
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, malformed("failures that end too early")
		}
		i := int(binary.LittleEndian.Uint32(b))
		if i <= last || i >= n {
			return nil, malformed("failures out of order")
		}
		e, rest, err := wire.ParseError(b[4:])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArguments, err)
		}
		errs[i], last, b = e, i, rest
	}
	return errs, nil
}

// AppendRowMeta appends what comes with a row: whether it is certain, and the
// checksum of its encoding, for rows, unlike records, bring none of their own.
func AppendRowMeta(dst []byte, certain bool, row []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, boolByte(certain)), object.Checksum(row))
}

// ParseRowMeta decodes what came with a row, and verifies the row.
func ParseRowMeta(meta, row []byte) (certain bool, err error) {
	r := reader{b: meta}
	certain = r.boolean()
	sum := r.u64()
	if err := r.end("what comes with a row"); err != nil {
		return false, err
	}
	if sum != object.Checksum(row) {
		return false, malformed("a row that was damaged on its way")
	}
	return certain, nil
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	if len(s) > math.MaxUint16 {
		panic("proto: BUG: a text that is longer than its length can say")
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// A reader takes fields from the front of b. After the first fault it returns
// zeros, and end tells.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	f := r.b[:n:n]
	r.b = r.b[n:]
	return f
}

func (r *reader) u8() uint8 {
	if f := r.take(1); f != nil {
		return f[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if f := r.take(2); f != nil {
		return binary.LittleEndian.Uint16(f)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if f := r.take(4); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if f := r.take(8); f != nil {
		return binary.LittleEndian.Uint64(f)
	}
	return 0
}

func (r *reader) i64() int64 { return int64(r.u64()) }

func (r *reader) text() []byte { return r.take(int(r.u16())) }

// boolean reads a byte that is 0 or 1.
func (r *reader) boolean() bool {
	v := r.u8()
	r.bad = r.bad || v > 1
	return v == 1
}

// end tells whether all fields were there and nothing follows them.
func (r *reader) end(what string) error {
	switch {
	case r.bad:
		return malformed(what + " that is cut short or out of range")
	case len(r.b) > 0:
		return malformed(what + " with more behind it")
	}
	return nil
}
