package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// joined starts a node that joins the cluster of others.
func joined(t *testing.T, name string, others []*testNode) *testNode {
	t.Helper()
	n := newTestNode(t, name)
	for _, o := range others {
		n.cfg.Seeds = append(n.cfg.Seeds, o.address)
	}
	return n.mustStart()
}

// Three nodes become six: five vote, one follows, and all agree. Two of the voters
// are stopped, and the rest goes on.
func TestGrow(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	for _, name := range []string{"d", "e", "f"} {
		nodes = append(nodes, joined(t, name, nodes[:3]))
	}
	for _, n := range nodes {
		servers(t, n, 5, 1)
		eventually(t, n.cfg.Name+" knows of all", func() error {
			if got := len(n.Document().Members); got != 6 {
				return fmt.Errorf("%d members", got)
			}
			return nil
		})
	}
	if m, known := nodes[0].Document().MemberNamed("f"); !known || m.State != agreed.Joining || m.Address != nodes[5].address || len(m.Disks) != 1 {
		t.Errorf("the last one joined as %+v", m)
	}
	nodes[5].touch(50)
	sees(t, 50, nodes...)
	nodes[0].stop()
	nodes[1].stop()
	nodes[2].touch(51)
	sees(t, 51, nodes[2:]...)
}

// Without a majority nothing changes, and the sentence says who is missing; the
// document is there, and a node that has an older one gets it from any that has it.
// Then agreement is recovered on one node; the voters that come back follow.
func TestLostMajority(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	d, lines := newTestNode(t, "d"), &lineCounter{}
	d.cfg.Seeds, d.cfg.Log = []string{nodes[0].address}, slog.New(lines)
	d.mustStart()
	servers(t, d, 3, 1)
	all := append(nodes[:3:3], d)
	all[0].touch(30)
	sees(t, 30, all...)
	c := nodes[2]
	c.stop()
	d.touch(31)
	sees(t, 31, nodes[0], nodes[1], d)
	nodes[0].stop()
	nodes[1].stop()

	eventually(t, "d sees that a and b are away", func() error {
		if d.Alive(nodes[0].cfg.Node) || d.Alive(nodes[1].cfg.Node) {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := d.Propose(ctx, touch(d.Document(), 32))
	says(t, err, "refused", "no majority of the 3 voters", "a at "+nodes[0].address, "b at ", "c at ", "mayfly cluster recover")
	if e := object.AsError(err); e.Outcome != object.NotDone || e.Code != object.CodeUnavailable {
		t.Errorf("%v, %v", e.Code, e.Outcome)
	}
	if d.Document().Settings.LatenessSeconds != 31 {
		t.Errorf("the document says %d", d.Document().Settings.LatenessSeconds)
	}

	logged := func(level slog.Level, words string) {
		t.Helper()
		eventually(t, "d logs "+words, func() error {
			if lines.count(level, words) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	logged(slog.LevelWarn, "changes of cluster \"test\" are refused: no majority of the 3 voters")

	// c comes back: there is no majority still, and it learns from d what it missed.
	c.mustStart()
	if err := c.CatchUp(ctx, d.Document().Version, d.cfg.Node); err != nil {
		t.Fatal(err)
	}
	sees(t, 31, c)
	says(t, c.CatchUp(ctx, later(d.Document()), d.cfg.Node), "catch up with node", "before")
	if err := c.Refresh(ctx); err != nil {
		t.Errorf("refresh: %v", err)
	}
	before := c.Document().Version

	_, err = Recover(c.cfg)
	says(t, err, "in use", "stop the node first")
	c.stop()
	doc, err := Recover(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Version.Era != before.Era+1 || doc.Settings.LatenessSeconds != 31 {
		t.Fatalf("recovered as %v", doc.Version)
	}
	c.mustStart()
	c.touch(33)
	sees(t, 33, c, d)
	logged(slog.LevelInfo, "there is a leader again")
	if d.Document().Version.Era != 2 {
		t.Errorf("d has version %v", d.Document().Version)
	}

	// The old voters were two of three, and would agree among themselves: they follow.
	nodes[0].mustStart()
	nodes[1].mustStart()
	sees(t, 33, all...)
	for _, n := range all {
		servers(t, n, 3, 1)
	}
	nodes[0].touch(34)
	sees(t, 34, all...)
	for _, n := range nodes[:2] {
		if _, err := os.Stat(filepath.Join(n.cfg.Disks[0].Path, "node", "raft-1.old-1", logName)); err != nil {
			t.Errorf("%s: its old log is not kept: %v", n.cfg.Name, err)
		}
	}
}

// later returns a version that nobody has.
func later(doc *agreed.Document) (v ring.Version) {
	v = doc.Version
	v.Index += 1000
	return v
}

// Two nodes that recovered the same era refuse each other, until one is recovered
// once more: then both follow that one.
func TestRecoveredTwice(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	nodes[0].touch(40)
	sees(t, 40, nodes...)
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes[:2] {
		if _, err := Recover(n.cfg); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].mustStart()
	nodes[0].touch(41)
	nodes[1].mustStart()
	nodes[1].touch(42)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v := nodes[0].Document().Version
	v.Index += 10
	err := nodes[1].CatchUp(ctx, v, nodes[0].cfg.Node)
	if err == nil {
		t.Error("a document of another origin was taken")
	}
	if got := nodes[1].Document().Settings.LatenessSeconds; got != 42 {
		t.Errorf("it says %d now", got)
	}
	nodes[0].stop()
	if _, err := Recover(nodes[0].cfg); err != nil {
		t.Fatal(err)
	}
	nodes[0].mustStart()
	nodes[2].mustStart()
	sees(t, 41, nodes...)
	for _, n := range nodes {
		servers(t, n, 3, 0)
	}
	nodes[1].touch(43)
	sees(t, 43, nodes...)
}

// Two clusters of one name share seeds and ports that were the other's, and never
// mix; a fresh node that finds both joins none.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	a := newTestNode(t, "a").mustStart()
	b := newTestNode(t, "b").mustStart()
	if a.Document().Cluster == b.Document().Cluster {
		t.Fatal("two that know nothing of each other founded one cluster")
	}
	fresh := newTestNode(t, "fresh")
	fresh.cfg.Seeds = []string{a.address, b.address}
	says(t, fresh.start(), "two clusters named \"test\"", a.address, b.address, "name seeds of the one")

	b.stop()
	b.cfg.Seeds = []string{a.address}
	b.mustStart()
	joining := newTestNode(t, "joining")
	joining.cfg.Seeds = []string{a.address}
	joining.mustStart()
	joining.touch(60)
	sees(t, 60, a)
	eventually(t, "b is refused by a", func() error {
		if s := a.Stats(); s.Refused["other cluster"] == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if got := b.Document(); len(got.Members) != 1 || got.Settings.LatenessSeconds == 60 {
		t.Errorf("b's document is that of another cluster: %+v", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(b.Status().Seen) != 0 || len(a.Status().Seen) != 1 {
		t.Errorf("b has seen %v, a %v", b.Status().Seen, a.Status().Seen)
	}
	if _, err := b.Propose(ctx, touch(b.Document(), 61)); err != nil {
		t.Errorf("b cannot change its own: %v", err)
	}
}

// A second node of a name that is taken is refused; so is a node that has lost all
// its disks and comes back under its name.
func TestStolenName(t *testing.T) {
	t.Parallel()
	a := newTestNode(t, "a").mustStart()
	b := joined(t, "b", []*testNode{a})
	thief := newTestNode(t, "b")
	thief.cfg.Seeds = []string{a.address}
	says(t, thief.start(), "cannot join", "the name \"b\" is that of node", b.address, "another name", "\"mayfly cluster replace b NEW --lost\"")

	b.stop()
	b.cfg.Disks, b.cfg.Node, b.cfg.Bound = []Disk{{Path: t.TempDir()}}, [16]byte{}, [16]byte{}
	b.cfg.Seeds = []string{a.address}
	says(t, b.start(), "cannot join", "the name \"b\" is that of node")
	b.Cluster = nil
}

// A voter whose log is lost is not the voter it was: it gets no votes for that one,
// and becomes a voter anew.
func TestLostLog(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	servers(t, nodes[0], 3, 0)
	lost := nodes[1].era().log
	nodes[1].stop()
	if err := os.RemoveAll(filepath.Join(nodes[1].cfg.Disks[0].Path, "node", "raft-1")); err != nil {
		t.Fatal(err)
	}
	nodes[1].mustStart()
	if nodes[1].era().log == lost {
		t.Fatal("it has the id of the lost log")
	}
	eventually(t, "the new log takes the place of the lost one", func() error {
		all, err := nodes[0].era().servers()
		if err != nil || len(all) != 3 {
			return fmt.Errorf("%v, %v", all, err)
		}
		for _, s := range all {
			if s.Log == lost || !s.Voter {
				return fmt.Errorf("%v", all)
			}
		}
		return nil
	})
	nodes[1].touch(70)
	sees(t, 70, nodes...)
}

// A node that comes back at another address, with another disk, tells so.
func TestMove(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	was := nodes[2].address
	nodes[2].stop()
	nodes[2].address = ""
	nodes[2].cfg.Disks = append(nodes[2].cfg.Disks, Disk{Path: t.TempDir(), ID: id("a new disk")})
	nodes[2].mustStart()
	if nodes[2].address == was {
		t.Skip("the system gave the same port")
	}
	for _, n := range nodes {
		eventually(t, n.cfg.Name+" knows the new address", func() error {
			m, _ := n.Document().MemberNamed("c")
			if m.Address != nodes[2].address || len(m.Disks) != 2 || n.Address(m.ID) != nodes[2].address || !n.Alive(m.ID) {
				return fmt.Errorf("%+v, at %s", m, n.Address(m.ID))
			}
			return nil
		})
		servers(t, n, 3, 0)
	}
	nodes[2].touch(80)
	sees(t, 80, nodes...)
}

// All three come back at other addresses: nobody has the right one of anybody, but
// the seeds.
func TestMoveAll(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	for _, n := range nodes {
		n.stop()
		n.address = ""
	}
	for _, n := range nodes {
		n.listen()
	}
	for _, n := range nodes {
		n.cfg.Seeds = []string{nodes[0].address}
		n.mustStart()
	}
	nodes[1].touch(81)
	sees(t, 81, nodes...)
}

// A member that is silent is marked, and unmarked when it is back.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	var nodes []*testNode
	for _, name := range []string{"a", "b", "c"} {
		n := newTestNode(t, name).listen()
		n.cfg.DownAfter = 300 * time.Millisecond
		nodes = append(nodes, n)
	}
	startTogether(t, nodes)
	isDown := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("c is down: %v", want), func() error {
			if m, _ := nodes[0].Document().MemberNamed("c"); m.Down != want {
				return fmt.Errorf("%+v", m)
			}
			return nil
		})
	}
	nodes[2].stop()
	isDown(true)
	nodes[2].mustStart()
	eventually(t, "c is returning, or back", func() error {
		if m, _ := nodes[0].Document().MemberNamed("c"); m.Down && !m.Back {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
}

// A node that was introduced to a cluster, and one that founded it, go on where they
// were when they are stopped before they start.
func TestIntroducedAgain(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").listen()
	ctx := context.Background()
	first, err := Introduce(ctx, n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Introduce(ctx, n.cfg)
	if err != nil || second.Cluster != first.Cluster || second.Node != first.Node || second.Disks[0] != first.Disks[0] {
		t.Fatalf("%+v, then %+v, %v", first, second, err)
	}
	n.mustStart()
	n.touch(90)
	if n.Document().Cluster != first.Cluster {
		t.Error("another cluster")
	}
	n.stop()
	if _, err := os.Stat(filepath.Join(n.cfg.Disks[0].Path, "node", "founding")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the vow is still there: %v", err)
	}
	cfg := n.listen().cfg
	cfg.Cluster = "another"
	_, err = Introduce(ctx, cfg)
	says(t, err, "belongs to cluster \"test\"", "set it back")
	cfg = n.cfg
	cfg.Bound = id("another")
	_, err = Introduce(ctx, cfg)
	says(t, err, "name the directories of one node")
}

// A node with data never founds a cluster, and never makes itself a voter again:
// its document gone, it waits for its cluster; its log gone, it waits for a leader.
func TestDataNeverFounds(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	n.touch(95)
	sees(t, 95, n)
	n.stop()
	file := filepath.Join(n.cfg.Disks[0].Path, "node", "agreed")
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	n.listen()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = Introduce(ctx, n.cfg)
	says(t, err, "the data directories belong to cluster", "name nodes of that cluster")

	if err := os.WriteFile(file, document, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(n.cfg.Disks[0].Path, "node", "raft-1")); err != nil {
		t.Fatal(err)
	}
	n.mustStart()
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = n.Propose(ctx, touch(n.Document(), 96))
	says(t, err, "refused", "the log of what is agreed is lost", "mayfly cluster recover")
}

// Seeds that nobody answers at are told, and so is a founding that waits.
func TestIntroduceWaits(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").listen()
	other := newTestNode(t, "b").listen()
	other.stop()
	n.cfg.Seeds, n.cfg.Timing.Ask = []string{other.address}, time.Second
	wait := func(words ...string) {
		t.Helper()
		words = append(words, "node \"a\" has found no cluster \"test\"", other.address)
		for d := 150 * time.Millisecond; ; d *= 2 { // one round may take long on a busy machine
			ctx, cancel := context.WithTimeout(context.Background(), d)
			_, err := Introduce(ctx, n.cfg)
			cancel()
			if err != nil && (d > patience/4 || !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) })) {
				says(t, err, words...)
				return
			}
		}
	}
	wait("none of the seeds", "start the first node without seeds")
	n.cfg.Expect = 3
	wait("1 of the 3 nodes", "start the others")
	stranger := newTestNode(t, "s")
	stranger.cfg.Cluster = "elsewhere"
	stranger.mustStart()
	n.cfg.Seeds = append(n.cfg.Seeds, stranger.address)
	wait("1 of the 3 nodes", stranger.address+" belongs to a cluster named \"elsewhere\"")
	n.cfg.Expect = 0
	wait("none of the seeds", "check the cluster's name and the seeds; "+stranger.address+" belongs to a cluster named \"elsewhere\"")
}

// Documents and proposals of who says it belongs to another cluster, or to none, are
// not taken, whatever the address.
func TestJudge(t *testing.T) {
	doc := goldenDocument(t).doc
	me := identity{Cluster: id("mine"), Era: 2, Origin: nodeID("o"), Node: nodeID("me"), Log: logID(id("log"))}
	member := identity{Cluster: id("mine"), Era: 2, Origin: nodeID("o"), Node: goldenMember.Member.ID, Log: logID(id("its log"))}
	with := func(change func(*preface)) preface {
		p := preface{Kind: kindRaft, From: member, WantNode: me.Node, WantLog: me.Log}
		change(&p)
		return p
	}
	for _, tc := range []struct {
		name string
		p    preface
		want Verdict
	}{
		{"a member's server", with(func(*preface) {}), Welcome},
		{"another cluster", with(func(p *preface) { p.From.Cluster = id("other") }), OtherCluster},
		{"no cluster", with(func(p *preface) { p.From.Cluster = [16]byte{} }), OtherCluster},
		{"no cluster may ask", with(func(p *preface) { p.From.Cluster, p.Kind = [16]byte{}, kindRequest }), Welcome},
		{"another cluster may not", with(func(p *preface) { p.From.Cluster, p.Kind = id("other"), kindRequest }), OtherCluster},
		{"gossip of another cluster", with(func(p *preface) { p.From.Cluster, p.Kind = id("other"), kindGossip }), OtherCluster},
		{"gossip of another era goes on: so it hears of this one", with(func(p *preface) { p.From.Era, p.Kind = 1, kindGossip }), Welcome},
		{"an old voter", with(func(p *preface) { p.From.Era = 1 }), OtherEra},
		{"a newer one", with(func(p *preface) { p.From.Era = 3 }), OtherEra},
		{"the same era begun elsewhere", with(func(p *preface) { p.From.Origin = nodeID("x") }), OtherOrigin},
		{"a log that is lost", with(func(p *preface) { p.WantLog = logID(id("lost")) }), OtherLog},
		{"no log", with(func(p *preface) { p.WantLog = logID{} }), OtherLog},
		{"no member", with(func(p *preface) { p.From.Node = nodeID("stranger") }), Stranger},
		{"another node's address", with(func(p *preface) { p.WantNode = nodeID("x") }), OtherNode},
		{"itself", with(func(p *preface) { p.From.Node, p.Kind = me.Node, kindRequest }), Itself},
		{"an unknown kind", with(func(p *preface) { p.Kind = 9 }), UnknownKind},
	} {
		got, why := judgeAll(me, tc.p)
		if got == Welcome && tc.p.Kind == kindRaft {
			got, why = judgeRaft(me, tc.p, doc)
		}
		if got != tc.want || (got == Welcome) != (why == "") || strings.Contains(why, "%!") {
			t.Errorf("%s: %v (%s), want %v", tc.name, got, why, tc.want)
		}
	}
	for v := OtherCluster; v < verdicts; v++ {
		if v.String() == "" {
			t.Errorf("verdict %d has no name", v)
		}
	}
}

// A disk that is away stays the node's; one that the node does not name any more is
// given up. The document is found on whatever disk has it.
func TestDisksAway(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a")
	n.cfg.Disks = append(n.cfg.Disks, Disk{Path: t.TempDir()}, Disk{Path: t.TempDir()})
	n.mustStart()
	disks := func(inUse, removed int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d disks in use, %d removed", inUse, removed), func() error {
			if m, _ := n.Document().MemberNamed("a"); len(m.Disks) != inUse || len(m.Removed) != removed {
				return fmt.Errorf("%+v", m)
			}
			return nil
		})
	}
	disks(3, 0)
	n.touch(7)
	all := n.cfg.Disks
	n.stop()
	if err := os.Remove(filepath.Join(all[0].Path, "node", "agreed")); err != nil {
		t.Fatal(err)
	}
	n.cfg.Disks, n.cfg.Missing = all[:2], []agreed.DiskID{all[2].ID, all[2].ID, all[0].ID}
	n.mustStart()
	n.touch(8)
	disks(3, 0)
	sees(t, 8, n)
	if got := n.cfg.me(n.advertise).Disks; len(got) != 3 {
		t.Errorf("it says that it has %d disks, some of them twice", len(got))
	}
	n.stop()
	n.cfg.Missing = nil
	n.mustStart()
	disks(2, 1)
	n.stop()

	// A directory that cannot be made is left out, and its disk is not given up.
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.cfg.Disks = []Disk{all[0], {Path: filepath.Join(blocked, "d"), ID: all[1].ID}}
	n.mustStart()
	n.touch(9)
	disks(2, 1)
}
