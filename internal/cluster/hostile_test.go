package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// A voter whose log was cut off at the leader's end gets a snapshot; all come back
// from theirs.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	var nodes []*testNode
	for _, name := range []string{"a", "b", "c"} {
		n := newTestNode(t, name).listen()
		n.cfg.snapshotEvery = 4
		nodes = append(nodes, n)
	}
	startTogether(t, nodes)
	nodes[2].stop()
	for i := range int64(12) {
		nodes[0].touch(100 + i)
	}
	eventually(t, "the log is cut off", func() error {
		l := leader(t, nodes[:2]...)
		if first, err := l.era().store.FirstIndex(); err != nil || first < 6 {
			return fmt.Errorf("it begins with entry %d, %v", first, err)
		}
		return nil
	})
	nodes[2].mustStart()
	sees(t, 111, nodes...)
	eventually(t, "c has it by Raft", func() error {
		if h, err := nodes[2].era().machine.document(); err != nil || h.doc == nil || h.doc.Settings.LatenessSeconds != 111 {
			return fmt.Errorf("%v, %v", h.version(), err)
		}
		return nil
	})
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		n.mustStart()
	}
	nodes[1].touch(200)
	sees(t, 200, nodes...)
}

// What is no node of a cluster is dropped and counted, whatever it says, and nothing
// is left of it.
func TestStrangeCallers(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a")
	n.cfg.Timing.Ask = 50 * time.Millisecond
	n.mustStart()
	call := func(bytes ...[]byte) net.Conn {
		nc, err := net.Dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		for _, b := range bytes {
			_, _ = nc.Write(b)
		}
		return nc
	}
	counted := func(what string, have func(Stats) uint64) {
		t.Helper()
		eventually(t, what, func() error {
			if have(n.Stats()) == 0 {
				return errors.New("not counted yet")
			}
			return nil
		})
	}
	ended := func(what string, nc net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Errorf("%s: the connection stays open", what)
		}
		_ = nc.Close()
	}
	me := n.identity()
	stranger := identity{Cluster: me.Cluster, Era: me.Era, Origin: me.Origin, Node: nodeID("stranger"), Log: logID(id("x"))}

	ended("garbage", call([]byte(streamMagic), make([]byte, prefaceSize)))
	counted("garbage", func(s Stats) uint64 { return s.Garbled })
	ended("a preface that does not end", call([]byte(streamMagic)))
	ended("a question that does not end", call(appendPreface(nil, preface{Kind: kindRequest, From: stranger}), []byte{opHello}))
	ended("a stranger's Raft", call(appendPreface(nil, preface{Kind: kindRaft, From: stranger, WantNode: me.Node, WantLog: me.Log})))
	counted("a stranger", func(s Stats) uint64 { return s.Refused["stranger"] })
	ended("a log that is not here", call(appendPreface(nil, preface{Kind: kindRaft, From: stranger, WantNode: me.Node, WantLog: logID(id("y"))})))
	counted("another log", func(s Stats) uint64 { return s.Refused["other log"] })

	nc := call(appendPreface(nil, preface{Kind: kindRequest, From: stranger}), appendMessage(nil, message{Op: opPropose, Body: []byte{7, 7}}))
	if a, err := readAnswer(nc); err != nil || a.Verdict != Welcome {
		t.Fatal(a, err)
	}
	if m, err := readMessage(nc, false); err != nil || m.Err == nil {
		t.Errorf("a proposal of garbage: %+v, %v", m, err)
	}
	_ = nc.Close()
	nc = call(appendPreface(nil, preface{Kind: kindRequest, From: stranger}), []byte{99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	if _, err := readAnswer(nc); err != nil {
		t.Fatal(err)
	}
	m, err := readMessage(nc, false)
	if err != nil {
		t.Fatal(err)
	}
	says(t, m.Err, "operation 99 is not known")
	_ = nc.Close()

	packets, err := net.Dial("udp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	other := id("another cluster")
	eventually(t, "packets are counted", func() error {
		_, _ = packets.Write([]byte("garbage"))
		_, _ = packets.Write(append(append([]byte(packetMagic), other[:]...), "ping"...))
		if p := n.Stats().Packets; p.Garbled == 0 || p.Foreign == 0 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	n.touch(5)
}

// However many callers do not say what they want, or announce more than there is room
// for, who asks is answered.
func TestCrowdOfCallers(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	stranger := preface{Kind: kindRequest, From: identity{Node: nodeID("stranger")}}
	var all []net.Conn
	call := func(said []byte) net.Conn {
		nc, err := net.Dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write(said)
		all = append(all, nc)
		return nc
	}
	greet := func() {
		t.Helper()
		nc := call(append(appendPreface(nil, stranger), appendMessage(nil, message{Op: opHello, Body: appendGreeting(nil, greeting{Self: goldenMember})})...))
		if a, err := readAnswer(nc); err != nil || a.Verdict != Welcome {
			t.Fatal(a, err)
		}
		if m, err := readMessage(nc, false); err != nil || m.Err != nil {
			t.Errorf("a question: %+v, %v", m, err)
		}
	}
	for range maxTalking + 10 {
		call([]byte(streamMagic))
	}
	eventually(t, "some had to go", func() error {
		if n.Stats().Crowded < 10 {
			return errors.New("not yet")
		}
		return nil
	})
	greet()

	long := appendMessage(nil, message{Op: opPropose})
	binary.LittleEndian.PutUint32(long[4:], maxProposalBytes)
	for i := range 2 * maxQuestionBytes / maxProposalBytes {
		nc := call(append(appendPreface(nil, stranger), long...))
		if a, err := readAnswer(nc); err != nil || a.Verdict != Welcome {
			t.Fatal(a, err)
		}
		if i < maxQuestionBytes/maxProposalBytes {
			eventually(t, "it is being read", func() error {
				if read := n.streams.questions.Load(); read != int64(i+1)*maxProposalBytes {
					return fmt.Errorf("%d bytes are", read)
				}
				return nil
			})
			continue
		}
		if m, err := readMessage(nc, false); err != nil || m.Err == nil || m.Err.Code != object.CodeOverload || m.Err.Outcome != object.NotDone {
			t.Errorf("one too many: %+v, %v", m, err)
		}
	}
	greet()
	for _, nc := range all {
		_ = nc.Close()
	}
	eventually(t, "nothing is left", func() error {
		if open, read := n.streams.open.Load(), n.streams.questions.Load(); open != 0 || read != 0 || n.streams.talking.count() != 0 {
			return fmt.Errorf("%d connections, %d bytes", open, read)
		}
		return nil
	})
}
