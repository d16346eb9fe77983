package agreed

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Founding is what a cluster begins with.
type Founding struct {
	Cluster  ClusterID
	Name     string
	Settings Settings
	Bits     uint8       // the rings have 2^Bits partitions
	Buckets  *bucket.Set // nil: bucket.DefaultSet
	// Members found it together: all of them own from slot 0 on. State, Down and
	// Removed must be zero.
	Members []Member
}

// Found returns the first document of a cluster, of version 1.1. Errors are
// *object.Error: what is wrong with f.
func Found(f Founding) (*Document, error) {
	d := &Document{Version: ring.Version{Era: 1, Index: 1}, Cluster: f.Cluster, Name: f.Name, Settings: f.Settings, Buckets: f.Buckets}
	if d.Buckets == nil {
		d.Buckets = bucket.DefaultSet()
	}
	if f.Cluster == (ClusterID{}) {
		return nil, refuse(object.CodeBadRequest, "a cluster needs an id: make one at random")
	}
	if err := checkName("the cluster's name", f.Name); err != nil {
		return nil, err
	}
	if err := f.Settings.check(); err != nil {
		return nil, err
	}
	if len(f.Members) == 0 {
		return nil, refuse(object.CodeBadRequest, "a cluster needs a member to found it")
	}
	for _, m := range f.Members {
		if m.State != 0 || m.Down || len(m.Removed) > 0 {
			return nil, refuse(object.CodeBadRequest, "member %q cannot found a cluster: it has a past in one", m.Name)
		}
		if err := d.checkNew(m); err != nil {
			return nil, err
		}
		m = m.own()
		m.State = Valid
		d.Members = d.with(m)
	}
	first, _, err := ring.Claim(d.nodes(Valid), f.Bits, d.N(), nil)
	if err != nil {
		return nil, refused(err)
	}
	if d.History, err = ring.NewHistory(d.Version, f.Settings.SlotSeconds, first); err != nil {
		return nil, refused(err)
	}
	return d, nil
}

// check says what is wrong with the settings.
func (s Settings) check() error {
	const year = 366 * 86400
	var faults []error
	for _, x := range []struct {
		what              string
		is, least, atMost int64
	}{
		{"slot_seconds", s.SlotSeconds, 1, year},
		{"ahead_seconds", s.AheadSeconds, 0, 86400},
		{"skew_seconds", s.SkewSeconds, 0, 86400},
		{"lead_seconds", s.LeadSeconds, 1, 86400},
		{"lateness_seconds", s.LatenessSeconds, 0, 86400},
	} {
		if x.is < x.least || x.is > x.atMost {
			faults = append(faults, fmt.Errorf("%s is %d, want %d to %d", x.what, x.is, x.least, x.atMost))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return refuse(object.CodeBadRequest, "settings: %v", err)
	}
	return nil
}

// own returns m with slices of its own, in order.
func (m Member) own() Member {
	m.Disks, m.Removed = sortedDisks(m.Disks), sortedDisks(m.Removed)
	return m
}

func sortedDisks(disks []DiskID) []DiskID {
	disks = slices.Clone(disks)
	slices.SortFunc(disks, compareDisks)
	return slices.Compact(disks)
}

// with returns the members with m in its place.
func (d *Document) with(m Member) []Member {
	members := slices.Clone(d.Members)
	i, found := d.find(m.ID)
	if found {
		members[i] = m
		return members
	}
	return slices.Insert(members, i, m)
}

// nodes returns the members in a state as a ring sees them.
func (d *Document) nodes(state MemberState) (nodes []ring.Node) {
	for _, m := range d.Members {
		if m.State == state {
			nodes = append(nodes, m.Node())
		}
	}
	return nodes
}
