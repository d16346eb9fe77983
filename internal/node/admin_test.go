package node

import (
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/ring"
)

// TestAdministration: the document, an operator's command and a node's report, over
// the wire.
func TestAdministration(t *testing.T) {
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	rec := stamped(t, c.now(), bucket.Events, blobKey(c.clock.Load(), 1), strings.Repeat("value", 1000))
	if err := putOnce(t, nodes[0], rec); err != nil {
		t.Fatal(err)
	}
	until(t, "all owners have it", func() bool { return len(slotsOf(t, nodes[1])) == 1 })
	cl, err := client.Dial(t.Context(), client.Config{Addrs: []string{nodes[1].Addr().String()}, Pinned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	doc, err := cl.Document(t.Context())
	if err != nil || len(doc.Members) != 3 || doc.Version != c.present().Version {
		t.Fatalf("%+v, %v", doc, err)
	}
	result, err := cl.Propose(t.Context(), agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageWeight, Node: councilID("n2"), Weight: 3}})
	if err != nil || result.Err != nil || !result.Changed {
		t.Fatalf("%+v, %v", result, err)
	}
	if doc, err = cl.Document(t.Context()); err != nil || len(doc.Staged) != 1 {
		t.Errorf("what was proposed is not there: %+v, %v", doc.Staged, err)
	}
	report, err := cl.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	for _, s := range report.Stored {
		for _, slot := range s.Timed {
			stored += slot.Bytes
			if slot.Slot != doc.History.SlotOf(c.clock.Load()) {
				t.Errorf("slot %d has %d bytes", slot.Slot, slot.Bytes)
			}
		}
	}
	if report.Node != nodes[1].id || len(report.Members) != 3 || len(report.Disks) != 1 || report.Disks[0].StoredBytes != stored || stored == 0 {
		t.Errorf("%d bytes stored: %+v", stored, report)
	}
	if report.HighestEpoch != nodes[1].gate.Highest() || report.Version != doc.Version {
		t.Errorf("%+v", report)
	}
	// New vnodes vouch for nothing of before: a plan must know.
	gap := func() bool {
		n := false
		for _, g := range nodes[2].gaps(nodes[2].ring()) {
			n = n || !g.Plain && g.From < doc.History.SlotOf(c.clock.Load()) && g.Until != ring.Forever
		}
		return n
	}
	c.clock.Add(1000)
	until(t, "all is merged, and nothing is lacking", func() bool { return nodes[2].doubted() == 0 })
	if gap() || len(nodes[2].gaps(nodes[2].ring())) != 0 {
		t.Errorf("gaps: %+v", nodes[2].gaps(nodes[2].ring()))
	}
}
