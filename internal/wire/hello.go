package wire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/mayflydb/mayfly/internal/object"
)

// A hello is the first thing each side sends: the caller at once, the server
// when it has read the caller's. Integers are little-endian. The last byte of
// the magic is the hello's own format, which outlives protocol versions: any
// two programs can at least tell each other why they cannot talk.
//
//	offset  size  field
//	0       8     magic "MAYFLY", 0, 1
//	8       2     lowest protocol version spoken
//	10      2     highest protocol version spoken
//	12      4     largest body it takes, bytes
//	16      4     requests it takes at once on this connection; 0 from a caller
//	20      4     zero
//	24      8     features, a bit each; unknown bits are ignored
//	32      16    cluster id; zero from a user that takes any
//	48      16    node id; zero from a user
//	64      2     name length, bytes, 0..255
//	66      2     refusal length, bytes, 0..1024
//	68      n     name of the user or node, printable UTF-8
//	68+n    r     refusal: why the server will not talk, a sentence; empty if it will
//	…       4     CRC-32C of every byte before it
const (
	helloMagic      = "MAYFLY\x00\x01"
	helloFixedSize  = 68
	maxNameBytes    = 255
	maxRefusalBytes = 1024
	maxHelloBytes   = helloFixedSize + maxNameBytes + maxRefusalBytes + 4

	// ProtocolMin and ProtocolMax are the versions this program speaks.
	ProtocolMin, ProtocolMax = 1, 1
)

// ErrHello says that the other side did not begin as a mayfly does.
var ErrHello = errors.New("not a mayfly")

// An ID names a cluster or a node. The zero ID is none.
type ID [16]byte

// IsZero tells whether id is none.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the id as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A Hello introduces one side of a connection to the other.
type Hello struct {
	ProtocolMin, ProtocolMax uint16
	MaxBodyBytes             uint32 // largest body it takes
	MaxRequests              uint32 // requests it takes at once; 0 from a caller
	Features                 uint64 // a bit each
	Cluster, Node            ID     // Node is zero for users
	Name                     string // of the user or the node, at most 255 bytes
	Refusal                  string // from a server: why it will not talk
}

// IsNode tells whether a node, not a user, is speaking.
func (h *Hello) IsNode() bool { return !h.Node.IsZero() }

// AppendHello appends the encoding of h to dst. Name and refusal are cut to
// their bounds.
func AppendHello(dst []byte, h *Hello) []byte {
	start := len(dst)
	name, refusal := object.Printable(h.Name, maxNameBytes), object.Printable(h.Refusal, maxRefusalBytes)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, h.ProtocolMin)
	dst = binary.LittleEndian.AppendUint16(dst, h.ProtocolMax)
	dst = binary.LittleEndian.AppendUint32(dst, h.MaxBodyBytes)
	dst = binary.LittleEndian.AppendUint32(dst, h.MaxRequests)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.Features)
	dst = append(dst, h.Cluster[:]...)
	dst = append(dst, h.Node[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(refusal)))
	dst = append(append(dst, name...), refusal...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// helloSize returns the length of the hello that b begins with, reading only
// what it needs. Zero means that more bytes are needed to tell; the answer is
// at most maxHelloBytes.
func helloSize(b []byte) (int, error) {
	if n := min(len(b), len(helloMagic)); string(b[:n]) != helloMagic[:n] {
		return 0, fmt.Errorf("%w: it began with %q", ErrHello, b[:n])
	}
	if len(b) < helloFixedSize {
		return 0, nil
	}
	name, refusal := int(binary.LittleEndian.Uint16(b[64:])), int(binary.LittleEndian.Uint16(b[66:]))
	if name > maxNameBytes || refusal > maxRefusalBytes {
		return 0, fmt.Errorf("%w: its hello has a name of %d bytes and a refusal of %d", ErrHello, name, refusal)
	}
	return helloFixedSize + name + refusal + 4, nil
}

// ParseHello decodes b, which is one whole hello. Every error is an [ErrHello].
func ParseHello(b []byte) (Hello, error) {
	n, err := helloSize(b)
	switch {
	case err != nil:
		return Hello{}, err
	case n == 0 || n != len(b):
		return Hello{}, fmt.Errorf("%w: a hello of %d bytes that should have %d", ErrHello, len(b), n)
	case crc32.Checksum(b[:n-4], castagnoli) != binary.LittleEndian.Uint32(b[n-4:]):
		return Hello{}, fmt.Errorf("%w: its hello's CRC does not match", ErrHello)
	case binary.LittleEndian.Uint32(b[20:]) != 0:
		return Hello{}, fmt.Errorf("%w: its hello's reserved bytes are not zero", ErrHello)
	}
	text := b[helloFixedSize : n-4]
	nameBytes := int(binary.LittleEndian.Uint16(b[64:]))
	h := Hello{
		ProtocolMin:  binary.LittleEndian.Uint16(b[8:]),
		ProtocolMax:  binary.LittleEndian.Uint16(b[10:]),
		MaxBodyBytes: binary.LittleEndian.Uint32(b[12:]),
		MaxRequests:  binary.LittleEndian.Uint32(b[16:]),
		Features:     binary.LittleEndian.Uint64(b[24:]),
		Cluster:      ID(b[32:48]),
		Node:         ID(b[48:64]),
		Name:         string(text[:nameBytes]),
		Refusal:      string(text[nameBytes:]),
	}
	if !object.IsPrintable(h.Name) || !object.IsPrintable(h.Refusal) {
		return Hello{}, fmt.Errorf("%w: its hello holds unprintable text", ErrHello)
	}
	return h, nil
}

// agree decides, from both hellos, whether the two sides can talk. Both sides
// come to the same answer; the error is the sentence either of them reports.
func agree(caller, server *Hello) error {
	switch {
	case caller.ProtocolMin > server.ProtocolMax || server.ProtocolMin > caller.ProtocolMax:
		return object.Errorf(object.CodeRefused, object.NotDone,
			"%s speaks protocol %s and %s speaks %s: run releases that have one in common",
			caller.who(), caller.versions(), server.who(), server.versions())
	case caller.Cluster != server.Cluster && (caller.IsNode() || !caller.Cluster.IsZero()):
		return object.Errorf(object.CodeRefused, object.NotDone,
			"%s belongs to cluster %s and %s to cluster %s: check the address and the cluster id in the configuration",
			caller.who(), caller.Cluster, server.who(), server.Cluster)
	}
	return nil
}

// who names a side in a sentence.
func (h *Hello) who() string {
	switch {
	case h.IsNode() && h.Name != "":
		return fmt.Sprintf("node %q", h.Name)
	case h.IsNode():
		return "node " + h.Node.String()
	case h.Name != "":
		return fmt.Sprintf("user %q", h.Name)
	}
	return "an unnamed user"
}

func (h *Hello) versions() string {
	if h.ProtocolMin == h.ProtocolMax {
		return fmt.Sprint(h.ProtocolMin)
	}
	return fmt.Sprintf("%d to %d", h.ProtocolMin, h.ProtocolMax)
}
