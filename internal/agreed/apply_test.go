package agreed

import (
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

func TestWhoMayJoin(t *testing.T) {
	s := newStory(t, 3)
	id := s.join(3)
	if r := s.must(Command{Kind: Join, Member: testMember(3, "a")}); r.Changed {
		t.Error("said again, and changed")
	}
	change := func(i int, change func(*Member)) Command {
		m := testMember(i, "a")
		change(&m)
		return Command{Kind: Join, Member: m}
	}
	s.refused(object.CodeConflict, `the name "n1" is that of node 02`, change(7, func(m *Member) { m.Name = "n1" }))
	s.refused(object.CodeConflict, "it was copied or moved", change(7, func(m *Member) { m.Disks = testMember(0, "").Disks }))
	s.refused(object.CodeRefused, "is a member already", change(1, func(*Member) {}))
	s.refused(object.CodeRefused, "has none of the disks", change(1, func(m *Member) { m.Disks = []DiskID{{77}} }))
	s.refused(object.CodeBadRequest, "with a past", change(7, func(m *Member) { m.State = Valid }))
	s.refused(object.CodeBadRequest, "weight is 0", change(7, func(m *Member) { m.Weight = 0 }))
	s.refused(object.CodeBadRequest, "0 disks", change(7, func(m *Member) { m.Disks = nil }))
	s.refused(object.CodeBadRequest, "want host:port", change(7, func(m *Member) { m.Address = "" }))

	back := Member{ID: id, Address: "10.9.9.9:1", Disks: []DiskID{{4, 1}, {4, 2}}}
	s.must(Command{Kind: Introduce, Member: back})
	if r := s.must(Command{Kind: Introduce, Member: back}); r.Changed {
		t.Error("introduced again, and changed")
	}
	back.Disks = []DiskID{{4, 2}}
	s.must(Command{Kind: Introduce, Member: back})
	if m := s.expect(3, Joining); !m.Lacks(DiskID{4, 1}) || m.Address != "10.9.9.9:1" || m.Name != "n3" {
		t.Errorf("%+v", m)
	}
	back.Disks = []DiskID{{4, 1}, {4, 2}}
	s.refused(object.CodeRefused, "was taken out of service", Command{Kind: Introduce, Member: back})
	back.Disks = []DiskID{{4, 3}}
	s.refused(object.CodeRefused, "let it make a new id and join", Command{Kind: Introduce, Member: back})
	s.refused(object.CodeRefused, "is no member of cluster", Command{Kind: Introduce, Member: testMember(9, "a")})
	s.stage(StageLeave, 3) // it had no places: it is forgotten
	s.expect(3, 0)
	if len(s.d.Staged) != 0 {
		t.Errorf("still staged: %v", s.d.Staged)
	}
}

func TestWhatCannotBeStaged(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	stage := func(x Staged) Command { return Command{Kind: Stage, Stage: x} }
	s.refused(object.CodeBadRequest, "is no member", stage(Staged{Kind: StageLeave, Node: nodeID(9)}))
	s.refused(object.CodeConflict, "is valid: it cannot be asked to join", stage(Staged{Kind: StageJoin, Node: nodeID(0)}))
	s.refused(object.CodeConflict, "has places of its own", stage(Staged{Kind: StageReplace, Node: nodeID(0), New: nodeID(1)}))
	s.refused(object.CodeBadRequest, "let it join first", stage(Staged{Kind: StageReplace, Node: nodeID(0), New: nodeID(9)}))
	s.refused(object.CodeConflict, "cannot be asked to replace", stage(Staged{Kind: StageReplace, Node: nodeID(3), New: nodeID(3)}))
	s.refused(object.CodeBadRequest, "weight is 0", stage(Staged{Kind: StageWeight, Node: nodeID(0)}))
	s.refused(object.CodeBadRequest, "fields that do not belong", stage(Staged{Kind: StageLeave, Node: nodeID(0), Weight: 1}))
	s.refused(object.CodeUnsupported, "files of plain buckets are by partition", stage(Staged{Kind: StagePartitions, Bits: 7}))
	s.refused(object.CodeBadRequest, "it is about no node", stage(Staged{Kind: StageFill, Node: nodeID(0)}))
	s.must(Command{Kind: Clear})
	s.refused(object.CodeBadRequest, "nothing is staged", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
	for i := range 3 {
		s.stage(StageLeave, i)
	}
	s.refused(object.CodeBadRequest, "nobody would be left", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash()}})
	s.must(Command{Kind: Clear})
	s.must(Command{Kind: Stage, Stage: Staged{Kind: StageWeight, Node: nodeID(0), Weight: 2}})
	s.must(Command{Kind: Stage, Stage: Staged{Kind: StageZone, Node: nodeID(0), Zone: "d"}})
	s.refused(object.CodeBadRequest, "is too far ahead", Command{Kind: CommitStaged, Commit: Commit{Staged: s.d.StagedHash(), From: 600_000}})
	s.commit()
	s.allPromise()
	if m := s.expect(0, Valid); m.Weight != 2 || m.Zone != "d" {
		t.Errorf("%+v", m)
	}
	if node, _ := s.d.History.Newest().Node(nodeID(0)); node.Weight != 2 || node.Zone != "d" {
		t.Errorf("in the ring: %+v", node)
	}
}

func TestBuckets(t *testing.T) {
	s := newStory(t, 3)
	events := s.d.Buckets.Lookup(bucket.DefaultType, bucket.Events)
	set := func(change func(*bucket.Properties), empty bool) Command {
		p := bucket.Plain(bucket.DefaultType, "x")
		change(&p)
		return Command{Kind: SetBucket, Bucket: p, Empty: empty}
	}
	s.refused(object.CodeBadRequest, "timed cannot become true: the bucket holds data", set(func(p *bucket.Properties) { p.Timed = true }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 3 }, true))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, "x"); s.d.N() != 5 || !got.Timed || got.SmallestW != 3 {
		t.Errorf("n is %d, %+v", s.d.N(), got)
	}
	s.refused(object.CodeBadRequest, "n cannot become 3", set(func(p *bucket.Properties) { p.Timed = true }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 1 }, false))
	s.must(set(func(p *bucket.Properties) { p.Timed, p.N, p.R, p.W = true, 5, 3, 4 }, false))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, "x"); got.SmallestW != 1 || got.W != 4 || s.d.mostStale() != 0 {
		t.Errorf("the smallest w is forgotten: %+v", got)
	}
	s.refused(object.CodeBadRequest, "index and rows are the store's own", set(func(p *bucket.Properties) { p.Index = true }, true))
	s.refused(object.CodeBadRequest, "want 1 to n", set(func(p *bucket.Properties) { p.W = 4 }, true))
	s.refused(object.CodeBadRequest, "name is empty", set(func(p *bucket.Properties) { p.Name = "" }, true))

	ttl := func(seconds int64) Command {
		return Command{Kind: SetTTL, Bucket: bucket.Properties{Type: events.Type, Name: events.Name, TTLSeconds: seconds}}
	}
	s.must(ttl(7200))
	if got := s.d.Buckets.Lookup(bucket.DefaultType, bucket.Epochs); got.TTLSeconds != 7200 {
		t.Errorf("the index lives for %d seconds", got.TTLSeconds)
	}
	if r := s.must(ttl(7200)); r.Changed {
		t.Error("set again, and changed")
	}
	bad := ttl(1)
	bad.Bucket.N = 3
	s.refused(object.CodeBadRequest, "and nothing else", bad)
	s.refused(object.CodeBadRequest, "ttl_seconds is -1", ttl(-1))
	s.refused(object.CodeConflict, "keeps its data for ever", Command{Kind: Trim, Oldest: 499_000})
	s.must(Command{Kind: SetTTL, Bucket: bucket.Properties{Type: bucket.DefaultType, Name: "x", TTLSeconds: 3600}})
	s.refused(object.CodeConflict, "has not expired, the first that may hold something is 499997", Command{Kind: Trim, Oldest: 499_998})
	s.join(3)
	s.commit()
	s.refused(object.CodeConflict, "another number of owners", func() Command {
		c := set(func(p *bucket.Properties) { p.N = 6 }, true)
		c.Bucket.Name = "y"
		return c
	}())
}

func TestSettings(t *testing.T) {
	s := newStory(t, 3)
	next := s.d.Settings
	next.AheadSeconds = 20
	s.must(Command{Kind: SetSettings, Settings: next})
	if r := s.must(Command{Kind: SetSettings, Settings: next}); r.Changed || s.d.Timing().AheadSeconds != 20 {
		t.Error("set again, and changed")
	}
	next.LeadSeconds = 0
	s.refused(object.CodeBadRequest, "lead_seconds is 0, want 1 to 86400", Command{Kind: SetSettings, Settings: next})
	next.LeadSeconds, next.SlotSeconds = 1, 10
	s.refused(object.CodeBadRequest, "slots are 3600 seconds since the cluster was founded", Command{Kind: SetSettings, Settings: next})
	next.SlotSeconds = 3600
	s.join(3)
	s.commit()
	s.refused(object.CodeConflict, "is being prepared by the present settings", Command{Kind: SetSettings, Settings: next})
}

func TestWhatCannotBeCompleted(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	old := s.d.History.Version()
	s.allPromise()
	done := func(v ring.Version, all ...ring.Completion) Command {
		return Command{Kind: Completed, Completions: all, History: v}
	}
	now := s.d.History.Version()
	s.refused(object.CodeWrongOwner, "compare again under the newest one", done(old, ring.Completion{Node: nodeID(3), Plain: true}))
	s.refused(object.CodeBadRequest, "which is not agreed", done(ring.Version{Era: 2}, ring.Completion{Node: nodeID(3), Plain: true}))
	s.refused(object.CodeBadRequest, "0 completions", done(now))
	s.refused(object.CodeRefused, "is no member", done(now, ring.Completion{Node: nodeID(9), Plain: true}))
	s.refused(object.CodeBadRequest, "no slots", done(now, ring.Completion{Node: nodeID(3)}))
	s.refused(object.CodeBadRequest, "is no partition", done(now, ring.Completion{Node: nodeID(3), Plain: true, Partition: ring.Partition{Bits: 1, Prefix: 2}}))
	s.must(done(now, ring.Completion{Node: nodeID(3), Plain: true}))
	if r := s.must(done(now, ring.Completion{Node: nodeID(3), Plain: true})); r.Changed {
		t.Error("completed twice is another document")
	}
}

// Recovered by hand, the document is of another era, no change is under way, and
// no promise of the era before holds.
func TestRecovered(t *testing.T) {
	s := newStory(t, 3)
	s.join(3)
	s.commit()
	g := NewGate(3600, ring.Promise{}, ring.NoEpoch)
	if _, err := g.Agreed(s.d.Change, func(ring.Promise) error { return nil }); err != nil || g.Vouches(500_001*3600) {
		t.Fatal(err)
	}
	d := s.d.Recovered()
	if err := d.check(); err != nil || d.Version != (ring.Version{Era: 2, Index: 1}) || d.History.Version() != d.Version || d.Pending != nil || len(d.Staged) != 1 {
		t.Errorf("%v: %+v", err, d)
	}
	if _, err := g.Agreed(d.Change, func(ring.Promise) error { return nil }); err != nil || !g.Vouches(500_001*3600) {
		t.Errorf("%v: the promise is still in force", err)
	}
	// The lost majority had gone on: its rounds are over as well.
	later := s.d.Change
	later.Round += 5
	g = NewGate(3600, ring.Promise{}, ring.NoEpoch)
	if _, err := g.Agreed(later, func(ring.Promise) error { return nil }); err != nil || g.Vouches(500_001*3600) {
		t.Fatal(err)
	}
	if _, err := g.Agreed(d.Change, func(ring.Promise) error { return nil }); err != nil || !g.Vouches(500_001*3600) {
		t.Errorf("%v: a later promise is still in force", err)
	}
	s.d = d
	s.commit()
	s.allPromise()
}

func TestWhoMayFound(t *testing.T) {
	for want, change := range map[string]func(*Founding){
		"needs an id":                    func(f *Founding) { f.Cluster = ClusterID{} },
		"the cluster's name is \"\"":     func(f *Founding) { f.Name = "" },
		"slot_seconds is 0":              func(f *Founding) { f.Settings.SlotSeconds = 0 },
		"needs a member":                 func(f *Founding) { f.Members = nil },
		"it has a past in one":           func(f *Founding) { f.Members[0].Down = true },
		"is there twice, as \"n0\"":      func(f *Founding) { f.Members[1].ID = f.Members[0].ID },
		"2^17 partitions":                func(f *Founding) { f.Bits = 17 },
		"the name \"n0\" is that of":     func(f *Founding) { f.Members[1].Name = "n0" },
		"is one of node \"n0\"":          func(f *Founding) { f.Members[1].Disks = f.Members[0].Disks },
		"\"n0\" has the address \"\", w": func(f *Founding) { f.Members[0].Address = "" },
	} {
		f := testFounding(2)
		change(&f)
		if d, err := Found(f); d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	s := newStory(t, 1)
	s.refused(object.CodeUnsupported, "run the same version on all nodes", Command{Kind: 99})
	s.now = -1
	s.refused(object.CodeBadRequest, "set it right", Command{Kind: Tick})
}
