package proto

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/mayflydb/mayfly/ring"
)

// Bounds of what a node tells of the others.
const (
	MaxAddresses    = ring.MaxNodes
	MaxAddressBytes = 255 + len(":65535")
)

// History is who owns what, and where to reach them: what a client needs to ask
// an owner rather than any node.
type History struct {
	Rings *ring.History
	// Addresses are those of the members as far as the node knows any: ascending by
	// node, each once, at most MaxAddresses. A node that is alone tells none, for
	// whoever asks has reached it.
	Addresses []Address
}

// An Address is where a node serves the native protocol.
type Address struct {
	Node ring.NodeID
	At   string // host:port, at most MaxAddressBytes
}

// AppendHistory appends the result of the operation history:
//
//	offset  size  field
//	0       4     h, length of the rings' history, bytes
//	4       h     the rings' history, see format-ring.md
//	4+h     4     number of addresses, 0..4096
//	8+h     …     addresses, ascending by node: node id (16), text: host:port
//
// Addresses that ParseHistory would refuse are a bug of the caller.
func AppendHistory(dst []byte, h History) []byte {
	start := len(dst)
	dst, _ = h.Rings.AppendBinary(append(dst, 0, 0, 0, 0)) // its error is always nil
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	if len(h.Addresses) > MaxAddresses {
		panic(fmt.Sprintf("proto: BUG: %d addresses of nodes", len(h.Addresses)))
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.Addresses)))
	for _, a := range h.Addresses {
		dst = append(dst, a.Node[:]...)
		dst = appendText(dst, a.At)
	}
	return dst
}

// ParseHistory decodes the result of the operation history. Nothing of it
// aliases b.
func ParseHistory(b []byte) (History, error) {
	r := reader{b: b}
	rings := r.take(int(r.u32()))
	n := r.u32()
	if r.bad || n > MaxAddresses {
		return History{}, malformed("a history that is cut short or has too many addresses")
	}
	h, err := ring.UnmarshalHistory(rings)
	if err != nil {
		return History{}, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	var addresses []Address
	for i := uint32(0); i < n && !r.bad; i++ {
		var a Address
		copy(a.Node[:], r.take(len(a.Node)))
		a.At = string(r.text())
		if r.bad {
			break
		}
		if !ValidAddress(a.At) {
			return History{}, malformed(fmt.Sprintf("%.40q as the address of a node", a.At))
		}
		if i > 0 && addresses[i-1].Node.Compare(a.Node) >= 0 {
			return History{}, malformed("addresses of nodes out of order")
		}
		addresses = append(addresses, a)
	}
	if err := r.end("a history"); err != nil {
		return History{}, err
	}
	return History{h, addresses}, nil
}

// ValidAddress tells whether text can be an [Address]: one host, which is not
// "any", and a port.
func ValidAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && port != "" && host != "" && len(text) <= MaxAddressBytes && !net.ParseIP(host).IsUnspecified()
}
