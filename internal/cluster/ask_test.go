package cluster

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// Whom to ask for a newer document: who says the newest, but not again and again who
// does not give it while others have one too.
func TestNewestElsewhere(t *testing.T) {
	mine := goldenDocument(t)
	at := func(name string, era uint32, index uint64) sighting {
		return sighting{Node: nodeID(name), Alive: true, News: news{Version: ring.Version{Era: era, Index: index}, Origin: mine.origin}}
	}
	dead, twice := at("dead", 1, 9), at("twice", 1, 9)
	dead.Alive, twice.News.Origin = false, nodeID("another")
	for _, c := range []struct {
		name string
		all  []sighting
		vain []string
		want string
	}{
		{"nobody", nil, nil, ""},
		{"nobody has a newer one", []sighting{at("a", 1, 1)}, nil, ""},
		{"one has", []sighting{at("a", 1, 1), at("b", 1, 2)}, nil, "b"},
		{"the newest one", []sighting{at("a", 1, 2), at("b", 1, 9), at("c", 1, 3)}, nil, "b"},
		{"eras first", []sighting{at("a", 1, 9), at("b", 2, 1)}, nil, "b"},
		{"one that is dead, and an era that was begun twice", []sighting{dead, twice, at("a", 1, 2)}, nil, "a"},
		{"one in vain", []sighting{at("a", 1, 9), at("b", 1, 2)}, []string{"a"}, "b"},
		{"one in vain, who comes last", []sighting{at("b", 1, 2), at("a", 1, 9)}, []string{"a"}, "b"},
		{"all in vain", []sighting{at("b", 1, 2), at("a", 1, 9)}, []string{"a", "b"}, "a"},
		{"one in vain, the others have nothing newer", []sighting{at("a", 1, 9), at("b", 1, 1)}, []string{"a"}, "a"},
	} {
		vain := map[ring.NodeID]time.Time{}
		for _, name := range c.vain {
			vain[nodeID(name)] = time.Now()
		}
		var want ring.NodeID
		if c.want != "" {
			want = nodeID(c.want)
		}
		if got, _ := newestElsewhere(mine, c.all, vain); got != want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Who waits for what another has asked waits no longer than it may.
func TestFetchWaits(t *testing.T) {
	busy := make(fetch, 1)
	busy <- struct{}{}
	c := &Cluster{gossip: &gossip{seen: map[ring.NodeID]sighting{nodeID("b"): {Alive: true, Address: "127.0.0.1:1"}}}}
	c.sessions.Store(nodeID("b"), busy)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.fetchFrom(ctx, nodeID("b"), ring.Version{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:70": "127.0.0.1:70", "[::1]:70": "[::1]:70", "[::ffff:10.0.0.1]:70": "10.0.0.1:70", "127.0.0.1:http": "127.0.0.1:80",
		"0.0.0.0:70": "", "[::]:70": "", ":70": "", "127.0.0.1": "", "127.0.0.1:99999": "", "127.0.0.1:nothing": "",
	} {
		got, err := resolve(t.Context(), address)
		if err != nil && want == "" {
			says(t, err, "the address", address)
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := resolve(ctx, "localhost.:70"); err == nil {
		t.Error("a name is looked up for somebody who has gone")
	}
	six, four := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")
	if got := preferred([]netip.Addr{six, four}); got != four {
		t.Errorf("preferred %v", got)
	}
}
