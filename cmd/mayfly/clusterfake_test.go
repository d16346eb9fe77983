package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/ring"
)

// A fakeAdmin is a cluster without nodes: a document to which commands are
// applied, and what its members would say. One goroutine uses it.
type fakeAdmin struct {
	t        *testing.T
	doc      *agreed.Document
	now      int64 // the cluster's clock, seconds
	reports  map[ring.NodeID]memberReport
	proposed []agreed.Command // in order

	err   error  // what Document and Propose return, if set
	polls int    // how often Document was called
	poll  func() // called by each: what the nodes did meanwhile
	asked func() // called by Reports
}

// fakeNow is the fake cluster's time: 2026-11-29 01:00:00 UTC, the beginning of
// slot 498865 of an hour.
const fakeNow = 1795914000

func fakeID(i int) ring.NodeID { return ring.NodeID{byte(i)} }

func fakeMember(i int) agreed.Member {
	return agreed.Member{
		ID: fakeID(i), Name: fmt.Sprintf("n%d", i), Zone: string(rune('a' + (i-1)%3)), Weight: 100,
		Disks: []agreed.DiskID{{byte(i), 1}}, Address: fmt.Sprintf("10.0.0.%d:7070", i),
	}
}

// newFakeAdmin returns a cluster of n members with 8 partitions, of which each
// holds 1 MiB of each of three slots and 1 KiB of plain data.
func newFakeAdmin(t *testing.T, n int) *fakeAdmin {
	t.Helper()
	f := &fakeAdmin{t: t, now: fakeNow, reports: map[ring.NodeID]memberReport{}}
	founding := agreed.Founding{Cluster: agreed.ClusterID{0xc1}, Name: "test", Settings: agreed.DefaultSettings(), Bits: 3}
	for i := range n {
		founding.Members = append(founding.Members, fakeMember(i+1))
	}
	var err error
	if f.doc, err = agreed.Found(founding); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		f.answer(i + 1)
	}
	return f
}

// answer has a member say that all is well.
func (f *fakeAdmin) answer(i int) {
	m, _ := f.doc.Member(fakeID(i))
	r := proto.Report{
		Node: m.ID, Name: m.Name, Program: "v1", NowMicros: f.now * 1e6, Ready: true, Version: f.doc.Version, HighestEpoch: f.now,
		Agreement: proto.Agreement{Role: "voter", Leader: fakeID(1), Voters: []ring.NodeID{fakeID(1), fakeID(2), fakeID(3)}},
	}
	if i == 1 {
		r.Agreement.Role = "leader"
	}
	var stored uint64
	for p := range f.doc.History.Newest().OwnedBy(m.ID) {
		s := proto.Stored{Partition: p, Plain: 1 << 10}
		for slot := f.doc.History.SlotOf(f.now) - 2; len(s.Timed) < 3; slot++ {
			s.Timed = append(s.Timed, proto.SlotBytes{Slot: slot, Bytes: 1 << 20})
		}
		r.Stored, stored = append(r.Stored, s), stored+3<<20+1<<10
	}
	r.Disks = []proto.Disk{{Path: "/data", FreeBytes: 1 << 40, StoredBytes: stored}}
	f.reports[m.ID] = memberReport{Report: r}
}

// change changes what a member says.
func (f *fakeAdmin) change(i int, with func(r *memberReport)) {
	r := f.reports[fakeID(i)]
	with(&r)
	f.reports[fakeID(i)] = r
}

// apply applies a command that no operator has to do with.
func (f *fakeAdmin) apply(c agreed.Command) {
	f.t.Helper()
	c.Now = f.now
	var r agreed.Result
	if f.doc, r = f.doc.Apply(c); r.Err != nil {
		f.t.Errorf("%v: %v", c.Kind, r.Err)
	}
}

// join has new nodes join.
func (f *fakeAdmin) join(from, to int) {
	f.t.Helper()
	for i := from; i <= to; i++ {
		f.apply(agreed.Command{Kind: agreed.Join, Member: fakeMember(i)})
		f.answer(i)
	}
}

// promise has those members that have not yet promise what is proposed.
func (f *fakeAdmin) promise(ids ...ring.NodeID) {
	f.t.Helper()
	for _, id := range f.doc.Change.Waiting {
		if len(ids) == 0 || slices.Contains(ids, id) {
			f.apply(agreed.Command{Kind: agreed.Promised, Round: f.doc.Change.Round, Node: id, Highest: f.now})
		}
	}
}

// complete has all newcomers complete.
func (f *fakeAdmin) complete() {
	f.t.Helper()
	var all []ring.Completion
	whole := ring.Partition{}
	for _, m := range f.doc.Members {
		if m.State == agreed.Valid {
			all = append(all, ring.Completion{Node: m.ID, Partition: whole, Until: ring.Forever}, ring.Completion{Node: m.ID, Partition: whole, Plain: true})
		}
	}
	f.apply(agreed.Command{Kind: agreed.Completed, History: f.doc.History.Version(), Completions: all})
}

// Document implements clusterAdmin.
func (f *fakeAdmin) Document(ctx context.Context) (*agreed.Document, error) {
	f.polls++
	if f.poll != nil {
		f.poll()
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.doc, ctx.Err()
}

// Propose implements clusterAdmin.
func (f *fakeAdmin) Propose(_ context.Context, c agreed.Command) (r agreed.Result, err error) {
	if f.err != nil {
		return r, f.err
	}
	f.proposed = append(f.proposed, c)
	c.Now = f.now
	f.doc, r = f.doc.Apply(c)
	return r, nil
}

// Reports implements clusterAdmin.
func (f *fakeAdmin) Reports(context.Context, *agreed.Document) map[ring.NodeID]memberReport {
	if f.asked != nil {
		f.asked()
	}
	return f.reports
}

// Close implements clusterAdmin.
func (f *fakeAdmin) Close() error { return nil }

// run runs one command line, "mayfly cluster" left out, to its end.
func (f *fakeAdmin) run(args ...string) result { return f.runIn(f.t.Context(), args...) }

func (f *fakeAdmin) runIn(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	a.dialAdmin = func(context.Context, *config.Effective) (clusterAdmin, error) { return f, nil }
	status := report(&stderr, a.run(ctx, append([]string{"cluster"}, args...)))
	return result{stdout.String(), stderr.String(), status}
}

// must runs one command line that succeeds, and returns what it printed.
func (f *fakeAdmin) must(args ...string) string {
	f.t.Helper()
	r := f.run(args...)
	if r.status != 0 || r.stderr != "" {
		f.t.Fatalf("%q: status %d, %s", args, r.status, r.stderr)
	}
	return r.stdout
}

// refuses runs command lines that fail with exactly a sentence.
func (f *fakeAdmin) refuses(cases []badInput) {
	f.t.Helper()
	for _, c := range cases {
		r := f.run(strings.Fields(c.args)...)
		if want := "mayfly: " + c.want + "\n"; r.stderr != want || r.status != c.status || r.stdout != "" {
			f.t.Errorf("%s: status %d, want %d\n got %swant %s%s", c.args, r.status, c.status, r.stderr, want, r.stdout)
		}
	}
}

// same compares what was printed, with trailing blanks left out.
func same(t *testing.T, got, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(got) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	if got = strings.Join(lines, "\n"); got != strings.Trim(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Trim(want, "\n"))
	}
}
