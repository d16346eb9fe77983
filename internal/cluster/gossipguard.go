package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mayflydb/mayfly/ring"
)

// What comes by gossip is looked at before memberlist reads it: that believes the
// lengths it is told, inflates what is compressed to 40 MiB, and remembers every name.
// It accepts more than nodes of mayfly say to each other; what they do not say is
// dropped.

// Messages of memberlist, by their first byte.
const (
	gossipPing       = 0
	gossipPingOther  = 1
	gossipAck        = 2
	gossipSuspect    = 3
	gossipAlive      = 4
	gossipDead       = 5
	gossipExchange   = 6 // all nodes known, on a connection
	gossipCompound   = 7
	gossipNack       = 11
	gossipSummed     = 12
	gossipError      = 13
	gossipSumBytes   = 5
	maxGossipPacket  = 4 << 10 // memberlist fills 1400 bytes
	maxGossipStream  = 8 << 20 // bytes of one exchange: a node takes some 250, at most 800
	maxStrangers     = 64      // nodes known that are no members: those that join
	strangerForgot   = 5 * time.Minute
	maxExchangeNodes = maxSightings
)

// errGossip says that what came is nothing that a node says by gossip.
var errGossip = errors.New("no gossip of a node")

// plainPacket reports whether a packet holds only what nodes send each other in
// packets.
func plainPacket(b []byte) bool {
	if len(b) > maxGossipPacket {
		return false
	}
	if len(b) >= gossipSumBytes && b[0] == gossipSummed {
		b = b[gossipSumBytes:]
	}
	if len(b) < 2 || b[0] != gossipCompound {
		return plainMessage(b)
	}
	parts, b := int(b[1]), b[2:]
	if len(b) < 2*parts {
		return false
	}
	lengths, b := b[:2*parts], b[2*parts:]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(b) || !plainMessage(b[:n]) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

func plainMessage(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] {
	case gossipPing, gossipPingOther, gossipAck, gossipSuspect, gossipAlive, gossipDead, gossipNack:
		return true
	}
	return false
}

// plainStream reports whether the bytes of a connection begin as what a node says on
// one, and whether that is certain yet. The head of an exchange, in msgpack, is
//
//	{"Join": bool, "Nodes": number, "UserStateLen": 0}
//
// in this order, and bounds what memberlist allocates.
func plainStream(b []byte) (ok, certain bool) {
	if len(b) == 0 {
		return false, false
	}
	switch b[0] {
	case gossipPing, gossipAck, gossipError:
		return true, true
	case gossipExchange:
	default:
		return false, true
	}
	b = b[1:]
	for _, want := range []struct {
		literal string
		highest uint64
	}{{"\x83\xa4Join", 1}, {"\xa5Nodes", maxExchangeNodes}, {"\xacUserStateLen", 0}} {
		n := min(len(b), len(want.literal))
		if string(b[:n]) != want.literal[:n] {
			return false, true
		}
		v, size := packedNumber(b[n:])
		switch {
		case n < len(want.literal) || size == 0:
			return false, false
		case size < 0 || v > want.highest:
			return false, true
		}
		b = b[n+size:]
	}
	return true, true
}

// packedNumber decodes a number or a bool of msgpack. size is 0 if b is cut short, -1
// if it is neither, or negative.
func packedNumber(b []byte) (v uint64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch first := b[0]; {
	case first < 0x80:
		return uint64(first), 1
	case first == 0xc2 || first == 0xc3: // false, true
		return uint64(first & 1), 1
	case first >= 0xcc && first <= 0xd3: // unsigned, then signed, of 1, 2, 4 and 8 bytes
		n := 1 << ((first - 0xcc) % 4)
		if len(b) < 1+n {
			return 0, 0
		}
		if first >= 0xd0 && b[1] >= 0x80 {
			return 0, -1
		}
		for _, x := range b[1 : 1+n] {
			v = v<<8 | uint64(x)
		}
		return v, 1 + n
	}
	return 0, -1
}

// A gossipConn is a connection as memberlist may read it. Read is called by one
// goroutine at a time.
type gossipConn struct {
	net.Conn
	garbled func() // told once if it is none of a node's

	head    []byte // was read, and not given yet
	checked bool
	left    int // bytes that may still come
	failed  error
}

func newGossipConn(nc net.Conn, garbled func()) *gossipConn {
	return &gossipConn{Conn: nc, garbled: garbled, left: maxGossipStream}
}

// Read implements [net.Conn].
func (c *gossipConn) Read(p []byte) (int, error) {
	if c.failed == nil && !c.checked {
		c.failed = c.check()
	}
	if c.failed != nil {
		return 0, c.failed
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.left == 0 {
		c.garbled()
		c.failed = fmt.Errorf("%w: more than %d bytes", errGossip, maxGossipStream)
		return 0, c.failed
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// check reads until it is certain that a node speaks.
func (c *gossipConn) check() error {
	b := make([]byte, 64) // more than the head of an exchange
	for n := 0; ; {
		more, err := c.Conn.Read(b[n:])
		n += more
		if ok, certain := plainStream(b[:n]); certain {
			if !ok {
				c.garbled()
				return fmt.Errorf("%w: it begins with %x", errGossip, b[:n])
			}
			c.checked, c.head, c.left = true, b[:n], c.left-n
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A welcomer decides which nodes memberlist may know of.
type welcomer struct {
	g      *gossip
	self   netip.AddrPort
	member func(ring.NodeID) bool
}

// NotifyAlive implements [memberlist.AliveDelegate]. The error is why the node is not
// taken in. It is called with memberlist's locks held: it waits for nothing.
func (w welcomer) NotifyAlive(n *memberlist.Node) error {
	if n.Name == w.g.self {
		return nil // memberlist knows better
	}
	err := w.judge(n)
	if err != nil {
		w.g.unwelcome.Add(1)
	}
	return err
}

func (w welcomer) judge(n *memberlist.Node) error {
	var id ring.NodeID
	ip, ok := netip.AddrFromSlice(n.Addr)
	at := netip.AddrPortFrom(ip.Unmap(), n.Port)
	switch {
	case !decodeID(id[:], n.Name) || id.IsZero() || id.String() != n.Name:
		return fmt.Errorf("%w: its name is no node id", errGossip)
	case !ok || ip.IsUnspecified() || ip.IsMulticast() || n.Port == 0:
		return fmt.Errorf("%w: it is nowhere", errGossip)
	case at == w.self:
		return fmt.Errorf("%w: it is said to be where this node is", errGossip)
	case len(n.Meta) > memberlist.MetaMaxSize:
		return fmt.Errorf("%w: its news are of %d bytes", errGossip, len(n.Meta))
	case !w.member(id) && !w.g.hasRoom(id, w.member):
		return fmt.Errorf("it is no member, and %d others that are none are known already", maxStrangers)
	}
	return nil
}

// hasRoom reports whether a node that is no member is known, or may become so. Those
// that are silent for long are forgotten first.
func (g *gossip) hasRoom(id ring.NodeID, member func(ring.NodeID) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, found := g.seen[id]; found {
		return true
	}
	strangers := 0
	for other, s := range g.seen {
		switch {
		case member(other):
		case !s.Alive && time.Since(s.Since) > strangerForgot:
			delete(g.seen, other)
		default:
			strangers++
		}
	}
	return strangers < maxStrangers
}
