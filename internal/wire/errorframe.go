package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
)

// An error on the wire. Little-endian.
//
//	offset  size  field
//	0       1     code, 1..255; see object.Code
//	1       1     outcome: 1 not done, 2 maybe done, 3 done
//	2       2     message length, bytes, 0..maxMessageBytes
//	4       …     message, printable UTF-8
const (
	errorFixedSize  = 4
	maxMessageBytes = 2048
)

// AppendError appends the encoding of e to dst. The message is cut to its
// bound; the cause stays here.
func AppendError(dst []byte, e *object.Error) []byte {
	message := object.Printable(e.Message, maxMessageBytes)
	dst = append(dst, byte(e.Code), byte(e.Outcome))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(message)))
	return append(dst, message...)
}

// ParseError decodes the error that b begins with and returns the bytes after
// it. A code this program does not know keeps its number.
func ParseError(b []byte) (e *object.Error, rest []byte, err error) {
	if len(b) < errorFixedSize {
		return nil, nil, fmt.Errorf("%w: an error of %d bytes", ErrFrame, len(b))
	}
	code, outcome, n := object.Code(b[0]), object.Outcome(b[1]), int(binary.LittleEndian.Uint16(b[2:]))
	b = b[errorFixedSize:]
	switch {
	case code == 0 || outcome < object.NotDone || outcome > object.Done:
		return nil, nil, fmt.Errorf("%w: an error with code %d and outcome %d", ErrFrame, code, outcome)
	case n > maxMessageBytes || n > len(b):
		return nil, nil, fmt.Errorf("%w: an error message of %d bytes in %d", ErrFrame, n, len(b))
	case !object.IsPrintable(string(b[:n])):
		return nil, nil, fmt.Errorf("%w: an error message that is not text", ErrFrame)
	}
	return &object.Error{Code: code, Outcome: outcome, Message: string(b[:n])}, b[n:], nil
}
