package cluster

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mayflydb/mayfly/ring"
)

// compound is a packet of several messages.
func compound(parts ...string) string {
	b := []byte{gossipCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return string(b) + strings.Join(parts, "")
}

// exchange is the head of an exchange of all nodes, nodes being a number in msgpack.
func exchange(nodes string) string {
	return "\x06\x83\xa4Join\xc2\xa5Nodes" + nodes + "\xacUserStateLen\x00"
}

func TestPlainPacket(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		ok           bool
	}{
		{"a question", "\x00ping", true},
		{"news", "\x04alive", true},
		{"several", compound("\x04a", "\x03b", "\x05c"), true},
		{"several, with a sum", "\x0cssss" + compound("\x02a", "\x0bb"), true},
		{"nothing", "", false},
		{"nothing, with a sum", "\x0cssss", false},
		{"a sum cut short", "\x0cs", false},
		{"something compressed", "\x09bomb", false},
		{"something compressed among others", compound("\x04a", "\x09bomb"), false},
		{"several in several", compound(compound("\x04a")), false},
		{"a sum in a sum", "\x0cssss\x0cssss\x04a", false},
		{"one for users", "\x08user", false},
		{"an exchange", "\x06", false},
		{"an encrypted one", "\x0aplain", false},
		{"one with a label", "\xf4\x01xping", false},
		{"lengths cut short", "\x07\x09\x00\x01", false},
		{"a part cut short", "\x07\x01\x00\x09\x04", false},
		{"an empty part", compound("\x04a", ""), false},
		{"bytes left", compound("\x04a") + "x", false},
		{"one too long", "\x04" + strings.Repeat("x", maxGossipPacket), false},
	} {
		if got := plainPacket([]byte(c.packet)); got != c.ok {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestPlainStream(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		ok           bool
	}{
		{"a question", "\x00", true},
		{"an answer", "\x02", true},
		{"an error", "\x0d", true},
		{"no nodes", exchange("\x00"), true},
		{"nodes", exchange("\xcd\x10\x00"), true},
		{"nodes, with a sign", exchange("\xd1\x10\x00"), true},
		{"nodes, in eight bytes", exchange("\xcf\x00\x00\x00\x00\x00\x00\x10\x00"), true},
		{"as many as there may be", exchange("\xcd\x10\x40"), true},
		{"one too many", exchange("\xcd\x10\x41"), false},
		{"a million", exchange("\xce\x00\x10\x00\x00"), false},
		{"2^64-1", exchange("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), false},
		{"fewer than none", exchange("\xff"), false},
		{"fewer than none, in four bytes", exchange("\xd2\xff\xff\xff\xff"), false},
		{"a text for a number", exchange("\xa1x"), false},
		{"something after them", exchange("\x00")[:len(exchange("\x00"))-1] + "\x01", false},
		{"another order", "\x06\x83\xa5Nodes\x01", false},
		{"compressed", "\x09", false},
		{"for users", "\x08", false},
		{"with a label", "\xf4", false},
	} {
		for n := range len(c.stream) {
			if ok, certain := plainStream([]byte(c.stream[:n])); certain && ok != c.ok {
				t.Errorf("%s: after %d bytes it is %v", c.name, n, ok)
			}
		}
		if ok, certain := plainStream([]byte(c.stream)); !certain || ok != c.ok {
			t.Errorf("%s: %v, certain: %v", c.name, ok, certain)
		}
	}
}

// What is looked at before a library reads it: no panic, whatever it is.
func FuzzGuards(f *testing.F) {
	f.Add(goldenConfiguration())
	for _, s := range []string{exchange("\x00"), exchange("\xce\x00\x10\x00\x00"), compound("\x04a", "\x03b"), "\x0cssss\x00", "\x09"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		plainPacket(b)
		_ = checkConfiguration(b)
		for n := range b { // what is certain stays so, whatever follows
			if ok, certain := plainStream(b[:n]); certain {
				if again, still := plainStream(b); !still || again != ok {
					t.Fatalf("%v after %d bytes, %v after all", ok, n, again)
				}
			}
		}
	})
}

// What is given on is what came, in whatever pieces; no more than is allowed.
func TestGossipConn(t *testing.T) {
	for _, c := range []struct {
		name, said string
		pieces     int
		left       int
		want       string
	}{
		{"an exchange in one piece", exchange("\x01") + "rest", 1000, maxGossipStream, exchange("\x01") + "rest"},
		{"byte by byte", exchange("\x01") + "rest", 1, maxGossipStream, exchange("\x01") + "rest"},
		{"too many nodes", exchange("\xce\xff\xff\xff\xff"), 3, maxGossipStream, ""},
		{"too long", exchange("\x01") + "rest", 1, len(exchange("\x01")) + 2, exchange("\x01") + "re"},
	} {
		here, there := net.Pipe()
		go func() {
			for said := c.said; said != ""; {
				n := min(c.pieces, len(said))
				if _, err := io.WriteString(there, said[:n]); err != nil {
					break
				}
				said = said[n:]
			}
			_ = there.Close()
		}()
		garbled := 0
		g := newGossipConn(here, func() { garbled++ })
		g.left = c.left
		got, err := io.ReadAll(g)
		if whole := string(got) == c.said; string(got) != c.want || whole != (err == nil) || whole != (garbled == 0) {
			t.Errorf("%s: %q, %v, garbled %d times", c.name, got, err, garbled)
		}
		_ = here.Close()
	}
}

// Who is taken in: members, and some that are none yet.
func TestWelcomer(t *testing.T) {
	member, self := nodeID("member"), netip.MustParseAddrPort("10.0.0.1:7070")
	g := &gossip{self: nodeID("self").String(), seen: map[ring.NodeID]sighting{}}
	w := welcomer{g, self, func(id ring.NodeID) bool { return id == member }}
	node := func(name, at string, port uint16) *memberlist.Node {
		return &memberlist.Node{Name: name, Addr: netip.MustParseAddr(at).AsSlice(), Port: port}
	}
	strange := node(nodeID("stranger").String(), "10.0.0.3", 1)
	crooked := *strange
	crooked.Addr = []byte{1, 2, 3}
	loud := *strange
	loud.Meta = make([]byte, 513)
	for _, c := range []struct {
		name string
		node *memberlist.Node
		ok   bool
	}{
		{"itself", node(g.self, "10.0.0.1", 7070), true},
		{"a member", node(member.String(), "10.0.0.2", 7070), true},
		{"a stranger", strange, true},
		{"no id", node("n1", "10.0.0.2", 7070), false},
		{"an id in capitals", node(strings.ToUpper(member.String()), "10.0.0.2", 7070), false},
		{"no id at all", node(ring.NodeID{}.String(), "10.0.0.2", 7070), false},
		{"where this node is", node(member.String(), "10.0.0.1", 7070), false},
		{"where this node is, in other words", node(member.String(), "::ffff:10.0.0.1", 7070), false},
		{"nowhere", node(member.String(), "0.0.0.0", 7070), false},
		{"everywhere", node(member.String(), "224.0.0.1", 7070), false},
		{"no port", node(member.String(), "10.0.0.2", 0), false},
		{"no address", &crooked, false},
		{"too much to say", &loud, false},
	} {
		if err := w.NotifyAlive(c.node); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	for i := range maxStrangers {
		n := node(nodeID(fmt.Sprint("stranger ", i)).String(), "10.0.1.1", 1)
		if err := w.NotifyAlive(n); err != nil {
			t.Fatalf("stranger %d: %v", i, err)
		}
		g.note(n, true)
	}
	g.note(node(member.String(), "10.0.0.2", 7070), true)
	says(t, w.NotifyAlive(strange), "64 others that are none")
	if err := w.NotifyAlive(node(nodeID("stranger 5").String(), "10.0.1.2", 1)); err != nil {
		t.Errorf("a stranger that is known: %v", err)
	}
	first := nodeID("stranger 0")
	g.note(node(first.String(), "10.0.1.1", 1), false)
	says(t, w.NotifyAlive(strange), "64 others") // or they would be let in by turns
	s := g.seen[first]
	s.Since = time.Now().Add(-2 * strangerForgot)
	g.seen[first] = s
	if err := w.NotifyAlive(strange); err != nil {
		t.Errorf("one has been silent for long: %v", err)
	}
	if n := g.unwelcome.Load(); n != 12 {
		t.Errorf("%d were counted as not taken in, want 12", n)
	}
}

// What makes memberlist allocate, inflate or remember does not reach it, connections
// are bounded, and the node goes on.
func TestHostileGossip(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	me := n.identity()
	stranger := identity{Cluster: me.Cluster, Node: nodeID("stranger")}
	dial := func(said string) net.Conn {
		nc, err := net.Dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write(appendPreface(nil, preface{Kind: kindGossip, From: stranger}))
		if a, err := readAnswer(nc); err != nil || a.Verdict != Welcome {
			t.Fatal(a, err)
		}
		_, _ = io.WriteString(nc, said)
		return nc
	}
	bombs := []string{exchange("\xce\x00\x10\x00\x00"), exchange("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "\x09\x82\xa4Algo\x00\xa3Buf\xc6\xff\xff\xff\xff", "\x08\x81\xaaUserMsgLen\xce\x01\x40\x00\x00"}
	for _, b := range bombs {
		nc := dial(b)
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Errorf("%q: the connection stays open", b)
		}
		_ = nc.Close()
	}
	eventually(t, "they are counted", func() error {
		if g := n.Stats().Garbled; g != uint64(len(bombs)) {
			return fmt.Errorf("%d of %d", g, len(bombs))
		}
		return nil
	})
	var idle []net.Conn
	for range maxGossipIn + 5 {
		idle = append(idle, dial(""))
	}
	for _, nc := range idle[:5] {
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Error("one too many does not make the oldest go")
		}
	}
	for _, nc := range idle {
		_ = nc.Close()
	}

	packets, err := net.Dial("udp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	eventually(t, "names are bounded", func() error {
		for i := range 200 {
			name := nodeID(fmt.Sprint(i)).String()
			alive := "\x04\x86\xabIncarnation\x01\xa4Node\xda\x00\x20" + name + "\xa4Addr\xa4\x7f\x00\x00\x01\xa4Port\x09\xa4Meta\xa0\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00"
			_, _ = packets.Write([]byte(packetMagic + string(me.Cluster[:]) + alive))
		}
		s := n.Stats()
		if known := s.Alive + s.Silent; s.Unwelcome == 0 || known != maxStrangers || n.gossip.list.NumMembers() > maxStrangers+1 {
			return fmt.Errorf("%d are known, %d times one was not taken in, %d for memberlist", known, s.Unwelcome, n.gossip.list.NumMembers())
		}
		return nil
	})
	n.touch(5)
}
