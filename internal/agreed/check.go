package agreed

import (
	"fmt"
	"slices"

	"github.com/mayflydb/mayfly/ring"
)

// check says which of a document's invariants does not hold: of one that was
// decoded, or in a test.
func (d *Document) check() error {
	switch {
	case d.Cluster == ClusterID{}:
		return fmt.Errorf("the cluster has no id")
	case len(d.Members) == 0 || len(d.Members) > MaxMembers:
		return fmt.Errorf("%d members, want 1 to %d", len(d.Members), MaxMembers)
	case d.Version.Before(d.History.Version()) || d.History.Version().Before(d.Moved):
		return fmt.Errorf("version %v, history %v, last moved at %v", d.Version, d.History.Version(), d.Moved)
	case d.Settings.SlotSeconds != d.History.SlotSeconds():
		return fmt.Errorf("slots of %d seconds, and of %d in the history", d.Settings.SlotSeconds, d.History.SlotSeconds())
	case (d.Pending != nil) != (d.Change.Phase == ring.Proposed):
		return fmt.Errorf("the change is %v, and a plan is pending: %v", d.Change.Phase, d.Pending != nil)
	}
	if err := checkName("the cluster's name", d.Name); err != nil {
		return err
	}
	if err := d.Settings.check(); err != nil {
		return err
	}
	if err := d.checkMembers(); err != nil {
		return err
	}
	if err := d.checkRing(); err != nil {
		return err
	}
	for i, x := range d.Staged {
		if err := d.checkStaged(x); err != nil {
			return err
		}
		for _, y := range d.Staged[:i] {
			if x.excludes(y) {
				return fmt.Errorf("%v and %v of node %v are both staged", x.Kind, y.Kind, x.Node)
			}
		}
	}
	return d.checkPending()
}

func (d *Document) checkMembers() error {
	names, disks := map[string]bool{}, map[DiskID]bool{}
	for i, m := range d.Members {
		switch {
		case i > 0 && d.Members[i-1].ID.Compare(m.ID) >= 0:
			return fmt.Errorf("member %v is there twice or out of order", m.ID)
		case m.State < Joining || m.State > Lost:
			return fmt.Errorf("member %v is in %v", m.ID, m.State)
		case m.Back && (!m.Down || m.State != Valid) || m.Down && !m.State.Live():
			return fmt.Errorf("member %v is %v, down: %v, and back: %v", m.ID, m.State, m.Down, m.Back)
		case len(m.Removed) > MaxRemoved:
			return fmt.Errorf("member %v has lost %d disks", m.ID, len(m.Removed))
		case m.State.Live() && names[m.Name]:
			return fmt.Errorf("two members are named %q", m.Name)
		}
		if err := m.Node().Validate(); err != nil {
			return err
		}
		if err := m.checkShape(); err != nil {
			return err
		}
		for _, list := range [][]DiskID{m.Disks, m.Removed} {
			if !slices.EqualFunc(list, sortedDisks(list), func(a, b DiskID) bool { return a == b }) {
				return fmt.Errorf("disks of member %v are out of order", m.ID)
			}
			for _, disk := range list {
				if disks[disk] {
					return fmt.Errorf("disk %x is there twice", disk)
				}
				disks[disk] = true
			}
		}
		names[m.Name] = names[m.Name] || m.State.Live()
	}
	return nil
}

// checkRing compares the members with the newest ring, and the history.
func (d *Document) checkRing() error {
	valid := d.nodes(Valid)
	nodes := d.History.Newest().Nodes()
	if !slices.EqualFunc(valid, nodes, func(a, b ring.Node) bool { return a.ID == b.ID }) {
		return fmt.Errorf("%d members are valid, and others are the %d of the newest ring", len(valid), len(nodes))
	}
	return nil
}

func (d *Document) checkPending() error {
	p := d.Pending
	if p == nil {
		return nil
	}
	if len(p.Returning) > 0 == (len(p.Staged) > 0) {
		return fmt.Errorf("the change that is pending is made of %d things staged and %d that return", len(p.Staged), len(p.Returning))
	}
	for i, x := range p.Staged {
		if err := d.checkStaged(x); err != nil {
			return err
		}
		for _, y := range p.Staged[:i] {
			if x.excludes(y) {
				return fmt.Errorf("%v and %v of node %v are both pending", x.Kind, y.Kind, x.Node)
			}
		}
	}
	for i, id := range p.Returning {
		if m, known := d.Member(id); !known || !m.Back || i > 0 && p.Returning[i-1].Compare(id) >= 0 {
			return fmt.Errorf("member %v returns, and is not back or out of order", id)
		}
	}
	if len(p.Returning) > 0 {
		bare := p.Commit
		if bare.Gaps = nil; len(p.Commit.Gaps) > 0 || bare.From != 0 || bare.Oldest != 0 || bare.Staged != 0 || bare.AcceptLoss {
			return fmt.Errorf("a return is pending, and a commit")
		}
	}
	return nil
}
