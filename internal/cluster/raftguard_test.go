package cluster

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/ring"
)

func goldenConfiguration() []byte {
	return raft.EncodeConfiguration(alone(nodeID("a"), logID(id("log"))))
}

func TestCheckRPC(t *testing.T) {
	entries := func(all ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: 5, PrevLogEntry: 7, Entries: all}
	}
	snapshot := func(change func(*raft.InstallSnapshotRequest)) *raft.InstallSnapshotRequest {
		c := &raft.InstallSnapshotRequest{SnapshotVersion: 1, Term: 5, Configuration: goldenConfiguration(), Size: 9}
		change(c)
		return c
	}
	other := alone(nodeID("a"), logID(id("log")))
	other.Servers[0].ID = "another"
	for _, c := range []struct {
		name    string
		command any
		ok      bool
	}{
		{"nothing new", entries(), true},
		{"commands", entries(&raft.Log{Index: 8, Term: 4}, &raft.Log{Index: 9, Term: 5, Type: raft.LogNoop}), true},
		{"a configuration", entries(&raft.Log{Index: 8, Type: raft.LogConfiguration, Data: goldenConfiguration()}), true},
		{"no entry where one should be", entries(nil), false},
		{"a gap", entries(&raft.Log{Index: 9}), false},
		{"an entry twice", entries(&raft.Log{Index: 8}, &raft.Log{Index: 8}), false},
		{"an entry before the first", &raft.AppendEntriesRequest{PrevLogEntry: math.MaxUint64, Entries: []*raft.Log{{}}}, false},
		{"an entry of a later term", entries(&raft.Log{Index: 8, Term: 6}), false},
		{"an entry of no kind", entries(&raft.Log{Index: 8, Type: 77}), false},
		{"an entry of a kind that is no more", entries(&raft.Log{Index: 8, Type: raft.LogAddPeerDeprecated}), false},
		{"a configuration of garbage", entries(&raft.Log{Index: 8, Type: raft.LogConfiguration, Data: []byte("x")}), false},
		{"a configuration of nothing", entries(&raft.Log{Index: 8, Type: raft.LogConfiguration}), false},
		{"a server that is none", entries(&raft.Log{Index: 8, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(other)}), false},
		{"a vote", &raft.RequestVoteRequest{Term: 6}, true},
		{"a term at the limit", &raft.RequestVoteRequest{Term: 5 + maxTermsAhead}, true},
		{"a vote in the last term", &raft.RequestVoteRequest{Term: math.MaxUint64}, false},
		{"one before a vote", &raft.RequestPreVoteRequest{Term: math.MaxUint64}, false},
		{"a heartbeat in the last term", &raft.AppendEntriesRequest{Term: math.MaxUint64}, false},
		{"an older term", &raft.RequestVoteRequest{Term: 1}, true},
		{"a snapshot", snapshot(func(*raft.InstallSnapshotRequest) {}), true},
		{"a snapshot of another version", snapshot(func(c *raft.InstallSnapshotRequest) { c.SnapshotVersion = 0 }), false},
		{"a snapshot too long", snapshot(func(c *raft.InstallSnapshotRequest) { c.Size = math.MaxInt64 }), false},
		{"a snapshot of less than nothing", snapshot(func(c *raft.InstallSnapshotRequest) { c.Size = -1 }), false},
		{"a snapshot without servers", snapshot(func(c *raft.InstallSnapshotRequest) { c.Configuration = nil }), false},
		{"a snapshot in the last term", snapshot(func(c *raft.InstallSnapshotRequest) { c.Term = math.MaxUint64 }), false},
		{"to stand for election", &raft.TimeoutNowRequest{}, true},
	} {
		if err := checkRPC(c.command, 5); (err == nil) != c.ok || err != nil && !errors.Is(err, errRaft) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Who speaks Raft in the name of a member, and says what would end the process, is
// refused; the node goes on, in its term.
func TestHostileRaft(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	n.touch(3)
	term, me := n.era().raft.CurrentTerm(), n.identity()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("x"), Addr: []byte(serverAddress(me.Node, me.Log))}
	last := n.era().raft.LastIndex()
	var stats streamCounters
	hostile := raft.NewNetworkTransport(newRaftStreams(n.identity, func(ring.NodeID) (string, error) { return n.address, nil }, &stats), 0, patience, io.Discard)
	defer hostile.Close()
	to, at := serverID(me.Log), serverAddress(me.Node, me.Log)
	entries := func(all ...*raft.Log) error {
		return hostile.AppendEntries(to, at, &raft.AppendEntriesRequest{RPCHeader: header, Term: term + 1, PrevLogEntry: last, PrevLogTerm: term, Entries: all}, &raft.AppendEntriesResponse{})
	}
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: header, Term: math.MaxUint64}
	vote := &raft.RequestVoteRequest{RPCHeader: header, Term: math.MaxUint64}
	snapshot := &raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Term: term + 1, Configuration: []byte("x")}
	for i, err := range []error{
		hostile.AppendEntries(to, at, heartbeat, &raft.AppendEntriesResponse{}),
		entries(nil),
		entries(&raft.Log{Index: last + 1, Term: term + 1, Type: raft.LogConfiguration, Data: []byte("x")}),
		hostile.RequestVote(to, at, vote, &raft.RequestVoteResponse{}),
		hostile.InstallSnapshot(to, at, snapshot, &raft.InstallSnapshotResponse{}, strings.NewReader("")),
	} {
		if err == nil {
			t.Fatalf("message %d is not refused", i)
		}
		says(t, err, errRaft.Error())
	}
	if n.Stats().Garbled != 5 {
		t.Errorf("%d were counted", n.Stats().Garbled)
	}
	n.touch(4)
	if got := n.era().raft.CurrentTerm(); got != term {
		t.Errorf("term %d, it was %d", got, term)
	}
}
