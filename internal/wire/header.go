package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A frame is a header, then the meta, then the body. Integers are
// little-endian. This is protocol 1.
//
//	offset  size  field
//	0       4     magic "MFW1"
//	4       1     operation, the doors' numbers; 1 is ping
//	5       1     class
//	6       2     flags: 1 response, 2 error, 4 more, 8 cancel, 16 credit
//	8       8     request id, chosen by the caller, never twice on a connection
//	16      8     history version: index
//	24      4     history version: era
//	28      4     milliseconds the caller still waits; 0 without a limit
//	32      4     meta length, bytes, 0..MaxMetaBytes
//	36      4     body length, bytes, 0..MaxBodyBytes
//	40      16    trace id; zero without a trace
//	56      8     span id
//	64      1     trace flags
//	65      7     zero
//	72      4     CRC-32C of the meta; 0 if it is empty
//	76      4     CRC-32C of the 76 bytes before
//	80      …     meta
//	…       …     body
//
// The body has no checksum here: records and rows bring their own, and keep it
// from the client's memory to the disk.
//
// A frame without the response flag asks: it is a request, or with cancel or
// credit says something about the request of that id. With it, it answers: an
// answer ends with a frame without more. Request id 0 is the connection itself:
// an error about it is the last word before a close, or, with CodeStopping, the
// notice that no new request will be taken.
const (
	HeaderBytes  = 80       // a frame's header
	MaxMetaBytes = 64 << 10 // a meta, bytes
	MaxBodyBytes = 64 << 20 // a body, bytes: the largest record, or a batch

	magic = "MFW1"
)

// OpPing is answered by the connection itself. All other operations belong to
// the handlers.
const OpPing = 1

// Flags say what a frame is.
type Flags uint16

const (
	FlagResponse Flags = 1 << iota // answers the request of that id
	FlagError                      // with response: the meta is an error (see AppendError)
	FlagMore                       // with response: further frames of this answer follow
	FlagCancel                     // the caller has lost interest in that request
	FlagCredit                     // the caller takes that many more bytes of a stream: meta u32

	// The combinations that mean something; any other is a fault.
	flagsRequest = Flags(0)
	flagsLast    = FlagResponse
	flagsMore    = FlagResponse | FlagMore
	flagsError   = FlagResponse | FlagError
)

// ErrFrame says that what arrived is not a frame of this protocol: nothing
// after it on that connection can be understood.
var ErrFrame = errors.New("the frame is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A History is the version of the ring history a frame was sent under. Greater
// eras win, then greater indexes.
type History struct {
	Era   uint32
	Index uint64
}

// A Trace is a W3C trace context. The zero Trace is none.
type Trace struct {
	ID    [16]byte
	Span  [8]byte
	Flags uint8
}

// A Header is a frame's header.
type Header struct {
	Op              uint8
	Class           Class
	Flags           Flags
	ID              uint64
	History         History
	RemainingMillis uint32 // milliseconds; 0 without a limit
	MetaBytes       uint32
	BodyBytes       uint32
	Trace           Trace
	MetaCRC         uint32 // CRC-32C of the meta
}

// Validate tells the first rule of the protocol the header breaks. It does not
// judge operation and class: a server answers those it does not know.
func (h *Header) Validate() error {
	switch h.Flags {
	case flagsRequest, flagsLast, flagsMore, flagsError, FlagCancel, FlagCredit:
	default:
		return fmt.Errorf("%w: flags %#x mean nothing", ErrFrame, uint16(h.Flags))
	}
	switch {
	case h.ID == 0 && h.Flags != flagsError:
		return fmt.Errorf("%w: request id 0 is kept for errors of the connection", ErrFrame)
	case h.MetaBytes > MaxMetaBytes:
		return fmt.Errorf("%w: a meta of %d bytes; the bound is %d", ErrFrame, h.MetaBytes, MaxMetaBytes)
	case h.BodyBytes > MaxBodyBytes:
		return fmt.Errorf("%w: a body of %d bytes; the bound is %d", ErrFrame, h.BodyBytes, MaxBodyBytes)
	case h.Flags == FlagCancel && h.MetaBytes+h.BodyBytes != 0, h.Flags == FlagCredit && (h.MetaBytes != 4 || h.BodyBytes != 0):
		return fmt.Errorf("%w: a cancel or credit frame of the wrong size", ErrFrame)
	}
	return nil
}

// AppendHeader appends the encoding of h to dst. The header must be valid.
func AppendHeader(dst []byte, h *Header) []byte {
	if err := h.Validate(); err != nil {
		panic("wire: BUG: an invalid header is sent: " + err.Error())
	}
	start := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, h.Op, byte(h.Class))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Flags))
	dst = binary.LittleEndian.AppendUint64(dst, h.ID)
	dst = binary.LittleEndian.AppendUint64(dst, h.History.Index)
	dst = binary.LittleEndian.AppendUint32(dst, h.History.Era)
	dst = binary.LittleEndian.AppendUint32(dst, h.RemainingMillis)
	dst = binary.LittleEndian.AppendUint32(dst, h.MetaBytes)
	dst = binary.LittleEndian.AppendUint32(dst, h.BodyBytes)
	dst = append(dst, h.Trace.ID[:]...)
	dst = append(dst, h.Trace.Span[:]...)
	dst = append(dst, h.Trace.Flags, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.MetaCRC)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// ParseHeader decodes the HeaderBytes that b begins with. Every error is an
// [ErrFrame]: after it the connection is of no use.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, fmt.Errorf("%w: %d bytes are less than a header", ErrFrame, len(b))
	}
	b = b[:HeaderBytes]
	if string(b[:4]) != magic {
		return Header{}, fmt.Errorf("%w: it begins with %q, not %q", ErrFrame, b[:4], magic)
	}
	if crc32.Checksum(b[:76], castagnoli) != binary.LittleEndian.Uint32(b[76:]) {
		return Header{}, fmt.Errorf("%w: the header's CRC does not match", ErrFrame)
	}
	h := Header{
		Op:              b[4],
		Class:           Class(b[5]),
		Flags:           Flags(binary.LittleEndian.Uint16(b[6:])),
		ID:              binary.LittleEndian.Uint64(b[8:]),
		History:         History{Index: binary.LittleEndian.Uint64(b[16:]), Era: binary.LittleEndian.Uint32(b[24:])},
		RemainingMillis: binary.LittleEndian.Uint32(b[28:]),
		MetaBytes:       binary.LittleEndian.Uint32(b[32:]),
		BodyBytes:       binary.LittleEndian.Uint32(b[36:]),
		Trace:           Trace{ID: [16]byte(b[40:56]), Span: [8]byte(b[56:64]), Flags: b[64]},
		MetaCRC:         binary.LittleEndian.Uint32(b[72:]),
	}
	if [7]byte(b[65:72]) != [7]byte{} {
		return Header{}, fmt.Errorf("%w: its reserved bytes are not zero", ErrFrame)
	}
	if err := h.Validate(); err != nil {
		return Header{}, err
	}
	return h, nil
}

func metaCRC(meta []byte) uint32 { return crc32.Checksum(meta, castagnoli) }
