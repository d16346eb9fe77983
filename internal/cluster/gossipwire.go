package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mayflydb/mayfly/ring"
)

// A packet of gossip, over UDP, begins with
//
//	offset  size  field
//	0       4     magic "MFG", 1
//	4       16    cluster id
//	20      …     what memberlist says
//
// so that the nodes of one cluster never hear those of another.
const (
	packetMagic      = "MFG\x01"
	packetHeaderSize = 20
	maxPacketBytes   = 64 << 10
	packetBacklog    = 64
	gossipBacklog    = 16
	maxGossipHeard   = 32 << 20 // bytes of exchanges that are being read
	maxGossipIn      = 64       // connections that others have made; each lasts as long as Timing.Ask at most
)

// parsePacket returns what memberlist said. mine is false if the packet is another
// cluster's, ok if it is none.
func parsePacket(b []byte, cluster [16]byte) (payload []byte, mine, ok bool) {
	if len(b) < packetHeaderSize || string(b[:4]) != packetMagic {
		return nil, false, false
	}
	return b[packetHeaderSize:], [16]byte(b[4:20]) == cluster, true
}

// A gossipWire is memberlist's transport over the shared port.
type gossipWire struct {
	me        func() identity
	advertise netip.AddrPort
	packets   net.PacketConn
	stats     *streamCounters
	lost      *packetCounters
	timeout   time.Duration

	packetCh chan *memberlist.Packet
	streamCh chan net.Conn
	in       *conns          // called by others
	out      *conns          // called by this node
	ctx      context.Context // ends with Shutdown
	stop     context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
	heard    moment // when a packet of the cluster came last
}

type packetCounters struct {
	foreign, garbled, overflow, out, in atomic.Uint64
}

func newGossipWire(me func() identity, advertise netip.AddrPort, packets net.PacketConn, timeout time.Duration, stats *streamCounters, lost *packetCounters) *gossipWire {
	ctx, stop := context.WithCancel(context.Background())
	w := &gossipWire{
		me: me, advertise: advertise, packets: packets, stats: stats, lost: lost, timeout: timeout,
		packetCh: make(chan *memberlist.Packet, packetBacklog), streamCh: make(chan net.Conn, gossipBacklog),
		in: newConns(maxGossipIn, maxGossipHeard, &stats.crowded), out: newConns(0, 0, nil), ctx: ctx, stop: stop,
	}
	_ = packets.SetReadDeadline(time.Time{}) // fails only on a closed socket, which the read reports
	w.wg.Go(w.listen)
	return w
}

func (w *gossipWire) listen() {
	buf := make([]byte, maxPacketBytes)
	for {
		n, from, err := w.packets.ReadFrom(buf)
		if w.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an answer of the kernel to a packet that nobody took
		}
		payload, mine, ok := parsePacket(buf[:n], w.me().Cluster)
		switch {
		case ok && !mine:
			w.lost.foreign.Add(1)
			continue
		case !ok || !plainPacket(payload):
			w.lost.garbled.Add(1)
			continue
		}
		w.lost.in.Add(1)
		w.heard.set()
		select {
		case w.packetCh <- &memberlist.Packet{Buf: append([]byte(nil), payload...), From: from, Timestamp: time.Now()}:
		default:
			w.lost.overflow.Add(1)
		}
	}
}

// offer hands a connection that was greeted to memberlist, without waiting.
func (w *gossipWire) offer(nc net.Conn) {
	owned, err := w.in.add(newGossipConn(nc, w.garbled))
	if err != nil {
		return
	}
	select {
	case w.streamCh <- owned:
	default:
		w.stats.crowded.Add(1)
		_ = owned.Close()
	}
}

// garbled counts a connection that said what no node says.
func (w *gossipWire) garbled() { w.stats.garbled.Add(1) }

// FinalAdvertiseAddr implements [memberlist.Transport].
func (w *gossipWire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return w.advertise.Addr().AsSlice(), int(w.advertise.Port()), nil
}

// WriteTo implements [memberlist.Transport].
func (w *gossipWire) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("the address %q of a node: %w", addr, err)
	}
	id := w.me().Cluster
	packet := make([]byte, 0, packetHeaderSize+len(b))
	packet = append(append(packet, packetMagic...), id[:]...)
	w.lost.out.Add(1)
	_, err = w.packets.WriteTo(append(packet, b...), net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress implements [memberlist.NodeAwareTransport].
func (w *gossipWire) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return w.WriteTo(b, addr.Addr)
}

// DialTimeout implements [memberlist.Transport].
func (w *gossipWire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return w.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements [memberlist.NodeAwareTransport].
func (w *gossipWire) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	p := preface{Kind: kindGossip, From: w.me()}
	var node ring.NodeID
	if decodeID(node[:], addr.Name) {
		p.WantNode = node
	}
	nc, _, err := w.stats.call(w.ctx, addr.Addr, p, min(timeout, w.timeout))
	if err != nil {
		return nil, err
	}
	return w.out.add(newGossipConn(nc, w.garbled))
}

// PacketCh implements [memberlist.Transport].
func (w *gossipWire) PacketCh() <-chan *memberlist.Packet { return w.packetCh }

// StreamCh implements [memberlist.Transport].
func (w *gossipWire) StreamCh() <-chan net.Conn { return w.streamCh }

// Shutdown implements [memberlist.Transport]. The socket stays the Mux's.
func (w *gossipWire) Shutdown() error {
	w.once.Do(func() {
		w.stop()
		_ = w.packets.SetReadDeadline(past)
		w.in.cut()
		w.out.cut()
		w.wg.Wait()
	})
	return nil
}
