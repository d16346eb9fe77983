package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxDepth bounds how deep maps and arrays may be nested in a document; a scalar
// has depth 0, an empty map depth 1. An event has at most MaxDepth-1, because a
// blob puts an array around it.
const MaxDepth = 32

// ErrMsgpack is what every malformed msgpack document is. Nothing was done with
// it, and trying again will not help.
var ErrMsgpack = errors.New("malformed msgpack")

// A MsgpackError says where a document is malformed and why.
type MsgpackError struct {
	Offset int // bytes from the start of the document to the value at fault
	Reason string
}

// Error gives the offset and the reason.
func (e *MsgpackError) Error() string {
	return fmt.Sprintf("malformed msgpack at byte %d: %s", e.Offset, e.Reason)
}

// Is makes every MsgpackError an ErrMsgpack.
func (e *MsgpackError) Is(target error) bool { return target == ErrMsgpack }

const (
	reasonEnds  = "it ends inside a value"
	reasonCount = "it claims more elements than it has bytes left"
	reasonDepth = "maps and arrays are nested too deep"
	reasonCode  = "0xc1 is no type of msgpack"
	reasonRest  = "something follows the document"
	reasonMap   = "not a map"
	reasonArray = "not an array"
)

// Validate reports whether doc is one well-formed msgpack value and nothing
// more, at most MaxDepth deep. It must be asked before anything decodes msgpack
// that came from outside: it allocates nothing, calls nothing recursively and
// reads every byte once at most, whatever the document claims. Keys of maps may
// be of any type and may repeat; strings may hold any bytes. The error is a
// *MsgpackError.
func Validate(doc []byte) error {
	n, reason := walk(doc, MaxDepth)
	return whole(doc, n, reason)
}

// ValidateMap is Validate for a document that is to be an event: a map, at most
// MaxDepth-1 deep.
func ValidateMap(doc []byte) error {
	if len(doc) > 0 && !isMap(doc[0]) {
		return &MsgpackError{0, reasonMap}
	}
	n, reason := walk(doc, MaxDepth-1)
	return whole(doc, n, reason)
}

// Skip is the length in bytes of the well-formed msgpack value that doc begins
// with, under the rules of Validate; what follows it is not looked at. The error
// is a *MsgpackError.
func Skip(doc []byte) (int, error) {
	n, reason := walk(doc, MaxDepth)
	if reason != "" {
		return 0, &MsgpackError{n, reason}
	}
	return n, nil
}

// SplitArray calls yield with each element of doc, which must be one well-formed
// msgpack array and nothing more. The elements alias doc. Elements before a
// malformed one are yielded. The error is a *MsgpackError or what yield
// returned, which ends the walk.
func SplitArray(doc []byte, yield func(element []byte) error) error {
	count, at, ok := arrayHeader(doc)
	if !ok {
		return &MsgpackError{0, reasonArray}
	}
	for range count {
		n, reason := walk(doc[at:], MaxDepth-1)
		if reason != "" {
			return &MsgpackError{at + n, reason}
		}
		if err := yield(doc[at : at+n : at+n]); err != nil {
			return err
		}
		at += n
	}
	return whole(doc, at, "")
}

// whole turns what walk returned into Validate's error.
func whole(doc []byte, n int, reason string) error {
	if reason == "" && n < len(doc) {
		reason = reasonRest
	}
	if reason != "" {
		return &MsgpackError{n, reason}
	}
	return nil
}

// walk finds the end of the value doc begins with. If reason is empty, n is the
// value's length, at most len(doc); otherwise n is where it is malformed.
//
// Invariant: left values are still to come, then stack[depth-1] of the container
// round them, and so on outwards. at may be past the end of doc, by a scalar that
// is cut short, until the next look at doc or the return.
func walk(doc []byte, maxDepth int) (n int, reason string) {
	var stack [MaxDepth]uint64
	depth, left, at := 0, uint64(1), 0
	for {
		for left > 0 {
			if at >= len(doc) {
				return len(doc), reasonEnds
			}
			left--
			shape := shapes[doc[at]]
			if shape < shapeLong { // by far the most: the first byte tells the length
				at += int(shape)
				continue
			}
			size, count := 1, fixCount(doc[at], shape)
			if shape > shapeFixMap {
				var reason string
				if size, count, reason = longShape(doc[at:], shape); reason != "" {
					return at, reason
				}
			}
			if !isContainer(shape) {
				at += size
				continue
			}
			if depth >= maxDepth {
				return at, reasonDepth
			}
			if count > uint64(len(doc)-at-size) {
				return at, reasonCount
			}
			at += size
			stack[depth] = left
			depth++
			left = count
		}
		if depth == 0 {
			break
		}
		depth--
		left = stack[depth]
	}
	if at > len(doc) {
		return len(doc), reasonEnds
	}
	return at, ""
}

// The shape of a value is told by its first byte. Below shapeLong it is the
// length of the whole value, first byte included.
const (
	shapeLong     = 0x80 // of all that follow
	shapeFixArray = 0x80 // the count is in the first byte
	shapeFixMap   = 0x81
	shapeArray16  = 0x82 // a count of 2 or 4 bytes
	shapeArray32  = 0x83
	shapeMap16    = 0x84
	shapeMap32    = 0x85
	shapeBytes8   = 0x86 // a length of 1, 2 or 4 bytes, then so many bytes
	shapeBytes16  = 0x87
	shapeBytes32  = 0x88
	shapeExt8     = 0x89 // likewise, and a type byte between
	shapeExt16    = 0x8a
	shapeExt32    = 0x8b
	shapeInvalid  = 0x8c
)

func isContainer(shape uint8) bool { return shape >= shapeLong && shape <= shapeMap32 }

// fixCount is the number of values in a container whose count is in its first
// byte; a map has two a member.
func fixCount(first, shape uint8) uint64 { return uint64(first&15) << (shape & 1) }

var shapes = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c < 0x80 || c >= 0xe0: // fixint
			t[c] = 1
		case c < 0x90:
			t[c] = shapeFixMap
		case c < 0xa0:
			t[c] = shapeFixArray
		case c < 0xc0: // fixstr
			t[c] = uint8(1 + c&0x1f)
		}
	}
	copy(t[0xc0:], []uint8{
		1, shapeInvalid, 1, 1, // nil, never used, false, true
		shapeBytes8, shapeBytes16, shapeBytes32, shapeExt8, shapeExt16, shapeExt32,
		5, 9, // float32, float64
		2, 3, 5, 9, 2, 3, 5, 9, // uint8 to uint64, int8 to int64
		3, 4, 6, 10, 18, // fixext1 to fixext16
		shapeBytes8, shapeBytes16, shapeBytes32,
		shapeArray16, shapeArray32, shapeMap16, shapeMap32,
	})
	return t
}()

// longShape reads what the first byte does not tell. For a container, size is
// that of its header and count that of the values in it; otherwise size is that
// of the whole value.
func longShape(doc []byte, shape uint8) (size int, count uint64, reason string) {
	switch shape {
	case shapeFixArray, shapeFixMap:
		return 1, fixCount(doc[0], shape), ""
	case shapeInvalid:
		return 0, 0, reasonCode
	}
	n, width := lengthAt(doc, shape)
	if width == 0 {
		return 0, 0, reasonEnds
	}
	switch shape {
	case shapeArray16, shapeArray32:
		return 1 + width, n, ""
	case shapeMap16, shapeMap32:
		return 1 + width, 2 * n, ""
	case shapeExt8, shapeExt16, shapeExt32:
		width++
	}
	if n+uint64(width)+1 > uint64(len(doc)) {
		return 0, 0, reasonEnds
	}
	return 1 + width + int(n), 0, ""
}

// lengthAt reads the length or count after a value's first byte; width is its
// own size, 0 if doc is too short for it.
func lengthAt(doc []byte, shape uint8) (n uint64, width int) {
	switch shape {
	case shapeBytes8, shapeExt8:
		if len(doc) >= 2 {
			return uint64(doc[1]), 1
		}
	case shapeBytes16, shapeExt16, shapeArray16, shapeMap16:
		if len(doc) >= 3 {
			return uint64(binary.BigEndian.Uint16(doc[1:])), 2
		}
	default:
		if len(doc) >= 5 {
			return uint64(binary.BigEndian.Uint32(doc[1:])), 4
		}
	}
	return 0, 0
}

// The types a value's first byte tells.
func isMap(first byte) bool { return first&0xf0 == 0x80 || first == 0xde || first == 0xdf }
func isStr(first byte) bool { return first&0xe0 == 0xa0 || first >= 0xd9 && first <= 0xdb }
func isBin(first byte) bool { return first >= 0xc4 && first <= 0xc6 }
func isExt(first byte) bool { return first >= 0xc7 && first <= 0xc9 || first >= 0xd4 && first <= 0xd8 }

// arrayHeader reads the header of an array: its count of elements and its own
// size in bytes. The count is at most the bytes that follow.
func arrayHeader(doc []byte) (count, size int, ok bool) {
	if len(doc) == 0 {
		return 0, 0, false
	}
	switch shapes[doc[0]] {
	case shapeFixArray, shapeArray16, shapeArray32:
	default:
		return 0, 0, false
	}
	size, n, reason := longShape(doc, shapes[doc[0]])
	if reason != "" || n > uint64(len(doc)-size) {
		return 0, 0, false
	}
	return int(n), size, true
}
