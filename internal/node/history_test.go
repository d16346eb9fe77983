package node

import (
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/ring"
)

// TestHistoryNamesTheMembers, and what was said survives its encoding; a node
// that is alone, or does not know where the others are, names nobody.
func TestHistoryNamesTheMembers(t *testing.T) {
	c := startTrio(t)
	said, err := clientStore{c.nodes[1].Store(), c.nodes[1]}.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := proto.ParseHistory(proto.AppendHistory(nil, said))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Addresses) != 3 || h.Rings.Version() != c.nodes[1].ring().Version() {
		t.Fatalf("%d addresses, version %v", len(h.Addresses), h.Rings.Version())
	}
	for i, n := range c.nodes {
		found := false
		for _, a := range h.Addresses {
			found = found || a.Node == n.ID() && a.At == n.Addr().String()
		}
		if !found {
			t.Errorf("node %d is not among %v", i, h.Addresses)
		}
	}
	for _, addresses := range [][]string{{""}, {"0.0.0.0:7070", ":7070"}} {
		doc := &agreed.Document{History: c.nodes[0].ring()}
		for i, at := range addresses {
			doc.Members = append(doc.Members, agreed.Member{ID: c.nodes[i].id, Address: at, State: agreed.Valid})
		}
		n := &Node{agreement: &seat{c: &council{}, doc: doc}}
		n.view.Store(&view{doc: doc, fence: ring.NewFence(doc.History)})
		if h, err := (clientStore{nil, n}).History(t.Context()); err != nil || len(h.Addresses) != 0 {
			t.Errorf("members at %q: %v, %v", addresses, h.Addresses, err)
		}
	}
}
