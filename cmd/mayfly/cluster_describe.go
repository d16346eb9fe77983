package main

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// A statusJSON is the state of a cluster.
type statusJSON struct {
	Name        string       `json:"name"`
	Cluster     string       `json:"cluster"` // its id
	Version     string       `json:"version"`
	Era         uint32       `json:"era"`
	Now         int64        `json:"now"`
	SlotSeconds int64        `json:"slot_seconds"`
	Slot        int64        `json:"slot"` // now's
	Partitions  int          `json:"partitions"`
	Owners      int          `json:"owners"`
	Leader      string       `json:"leader"` // "" if none is known
	Voters      []string     `json:"voters"`
	Staged      []string     `json:"staged"`
	Change      changeState  `json:"change"`
	Members     []memberJSON `json:"members"` // those that take part
	Handing     handing      `json:"to_copy"`
	Short       shortage     `json:"short"` // fewer copies than wanted
	None        shortage     `json:"none"`  // of these: not one that is known to be whole
	Silent      silence      `json:"silent"`
}

// A changeState is how far a change of the ring is.
type changeState struct {
	Phase    string   `json:"phase"` // "idle", "proposed", "fixed"
	Round    uint64   `json:"round"`
	Boundary int64    `json:"boundary_slot"` // 0 if there never was one
	Time     int64    `json:"boundary_time"` // when that slot begins
	Waiting  []string `json:"waiting"`       // whose promises are missing
	Returns  []string `json:"returns"`       // members that were down and own again then: it is not an operator's change
}

// A memberJSON is a member and what it says of itself.
type memberJSON struct {
	Name         string   `json:"name"`
	ID           string   `json:"id"`
	Zone         string   `json:"zone"`
	Weight       uint32   `json:"weight"`
	State        string   `json:"state"`
	Down         bool     `json:"down"` // as agreed
	Up           bool     `json:"up"`   // it answers
	Why          string   `json:"why,omitempty"`
	Role         string   `json:"role,omitempty"` // in the agreement
	Address      string   `json:"address"`
	Disks        []string `json:"disks"`
	Program      string   `json:"program,omitempty"`
	Version      string   `json:"version,omitempty"` // of the document it has
	Partitions   int      `json:"partitions"`        // of the newest ring
	StoredBytes  uint64   `json:"stored_bytes"`
	FreeBytes    uint64   `json:"free_bytes"`
	ToGet        uint64   `json:"bytes_to_get"`
	Rate         uint64   `json:"bytes_per_second"`
	Lacking      int      `json:"lacking_partitions"`
	Unattainable int      `json:"unattainable_partitions"`
	Faults       []string `json:"faults,omitempty"` // of its disks
}

func describeStatus(p *picture) statusJSON {
	d := p.doc
	s := statusJSON{
		Name: d.Name, Cluster: hex.EncodeToString(d.Cluster[:]), Version: d.Version.String(), Era: d.Version.Era,
		Now: p.now, SlotSeconds: d.Settings.SlotSeconds, Slot: d.History.SlotOf(p.now),
		Partitions: 1 << d.History.Newest().Bits(), Owners: d.History.Newest().N(),
		Voters: []string{}, Staged: stagedTexts(d), Change: describeChange(d), Members: []memberJSON{}, Handing: p.handing(),
	}
	s.Leader, s.Voters = leadership(p)
	s.Short, s.None = p.shortages()
	s.Silent = p.silence()
	for _, m := range d.Members {
		if m.State.Live() {
			s.Members = append(s.Members, describeMember(p, m))
		}
	}
	slices.SortFunc(s.Members, func(a, b memberJSON) int { return strings.Compare(a.Name, b.Name) })
	if up, leads := s.votersUp(); !leads && up <= len(s.Voters)/2 {
		s.Leader = "" // who is left remembers one for a while
	}
	return s
}

func describeChange(d *agreed.Document) changeState {
	c := d.Change
	s := changeState{Phase: c.Phase.String(), Round: c.Round, Boundary: c.Boundary, Time: c.Boundary * d.Settings.SlotSeconds, Waiting: []string{}, Returns: []string{}}
	if d.Pending != nil {
		for _, id := range d.Pending.Returning {
			s.Returns = append(s.Returns, nameOf(d, id))
		}
	}
	for _, id := range c.Waiting {
		s.Waiting = append(s.Waiting, nameOf(d, id))
	}
	slices.Sort(s.Waiting)
	return s
}

// leadership returns who leads and who votes: as the leader says, or else who
// knows one, or else who has the newest document.
func leadership(p *picture) (leader string, voters []string) {
	voters = []string{}
	var best *memberReport
	for _, m := range p.doc.Members {
		r := p.reports[m.ID]
		if p.answers(m.ID) && (best == nil || r.knows() > best.knows() || r.knows() == best.knows() && best.Version.Before(r.Version)) {
			best = &r
		}
	}
	if best == nil {
		return "", voters
	}
	for _, id := range best.Agreement.Voters {
		voters = append(voters, nameOf(p.doc, id))
	}
	slices.Sort(voters)
	if !best.Agreement.Leader.IsZero() {
		leader = nameOf(p.doc, best.Agreement.Leader)
	}
	return leader, voters
}

// knows is greater the better a member knows who leads.
func (r *memberReport) knows() int {
	switch {
	case r.Agreement.Role == "leader":
		return 2
	case !r.Agreement.Leader.IsZero():
		return 1
	}
	return 0
}

func describeMember(p *picture, m agreed.Member) memberJSON {
	j := memberJSON{
		Name: m.Name, ID: m.ID.String(), Zone: m.Zone, Weight: m.Weight, State: m.State.String(), Down: m.Down, Address: m.Address,
		Partitions: ownedBy(p.doc.History.Newest(), m.ID), Disks: []string{},
	}
	for _, id := range m.Disks {
		j.Disks = append(j.Disks, hex.EncodeToString(id[:]))
	}
	r, asked := p.reports[m.ID]
	switch {
	case !asked:
		return j
	case r.err != nil:
		j.Why = r.err.Error()
		return j
	}
	j.Up, j.Role, j.Program, j.Version = true, r.Agreement.Role, r.Program, r.Version.String()
	j.ToGet, j.Rate, j.Lacking, j.Unattainable = p.toGet(m.ID), r.Merging.BytesPerSecond, r.Merging.Partitions, r.Merging.Unattainable
	for _, disk := range r.Disks {
		j.StoredBytes += disk.StoredBytes
		j.FreeBytes += disk.FreeBytes
		switch {
		case disk.Failed != "":
			j.Faults = append(j.Faults, cmp.Or(disk.Path, "disk "+disk.ID)+": "+disk.Failed)
		case disk.LowSpace:
			j.Faults = append(j.Faults, disk.Path+" is nearly full and takes no puts")
		}
	}
	return j
}

func ownedBy(r *ring.Ring, id ring.NodeID) (n int) {
	for range r.OwnedBy(id) {
		n++
	}
	return n
}
