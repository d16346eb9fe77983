package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/cluster"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
)

// quick is a cluster that notices soon, and whose rings count soon.
func quick(c *cluster.Config) {
	lively(c)
	c.Settings.LeadSeconds, c.Settings.SkewSeconds, c.Settings.AheadSeconds = 1, 1, 1
}

// lively is a cluster that notices soon.
func lively(c *cluster.Config) {
	c.DownAfter, c.ReplaceVoterAfter = 2*time.Second, 2*time.Second
	c.Timing = cluster.Timing{
		Election: 300 * time.Millisecond, Commit: 10 * time.Millisecond, Probe: 100 * time.Millisecond, ProbeTimeout: 80 * time.Millisecond,
		SuspicionMult: 2, Gossip: 20 * time.Millisecond, PushPull: time.Second, Upkeep: 50 * time.Millisecond, Rejoin: 500 * time.Millisecond, Ask: 2 * time.Second,
	}
}

// joining is the configuration of a node that joins by seeds.
func joining(t testing.TB, name string, expect int, seeds ...string) Config {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name: name, Cluster: "real", Listener: ln, Data: []string{t.TempDir()}, SlotSeconds: 2, AheadSeconds: 1, Partitions: 4, Log: slog.New(slog.DiscardHandler),
		Join: Join{Seeds: seeds, Expect: expect, Zone: "z" + name, tune: quick}, mergeGrace: time.Millisecond,
	}
}

// startTogether starts nodes at once: those that found a cluster wait for each other.
func startTogether(t testing.TB, cfgs ...Config) []*Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	nodes, errs := make([]*Node, len(cfgs)), make([]error, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		wg.Go(func() { nodes[i], errs[i] = Start(ctx, cfg) })
	}
	wg.Wait()
	for i, n := range nodes {
		if errs[i] != nil {
			t.Errorf("node %d: %v", i, errs[i])
			continue
		}
		t.Cleanup(func() { stop(t, n) })
	}
	if t.Failed() {
		t.FailNow()
	}
	return nodes
}

// another is a node's configuration for another start, at the same address.
func another(cfg Config, n *Node) Config {
	cfg.Listener, cfg.Listen = nil, n.Addr().String()
	return cfg
}

// operator proposes what an operator would, until it is heard.
func operator(t testing.TB, n *Node, cmd agreed.Command) agreed.Result {
	t.Helper()
	var result agreed.Result
	until(t, fmt.Sprint("agreed: ", cmd.Kind), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		cmd.Now = time.Now().Unix()
		var err error
		result, err = n.agreement.Propose(ctx, cmd)
		return err == nil
	})
	if result.Err != nil {
		t.Fatalf("%v: %v", cmd.Kind, result.Err)
	}
	return result
}

// TestRealCluster: three nodes found a cluster, a fourth joins it and gets places,
// one of the first is started again, and the data is there all the time.
func TestRealCluster(t *testing.T) {
	t.Parallel()
	var cfgs []Config
	var seeds []string
	for i := range 3 {
		cfgs = append(cfgs, joining(t, fmt.Sprint("n", i+1), 3))
		seeds = append(seeds, cfgs[i].Listener.Addr().String())
	}
	for i := range cfgs {
		cfgs[i].Join.Seeds = seeds
	}
	nodes := startTogether(t, cfgs...)
	var recs []object.Record
	put := func() {
		t.Helper()
		rec := blob(t, time.Now().Unix(), uint64(len(recs)), fmt.Sprint("value ", len(recs)))
		recs = append(recs, rec)
		until(t, "it is put", func() bool { return putOnce(t, nodes[len(recs)%len(nodes)], rec) == nil })
	}
	check := func(claim string) {
		t.Helper()
		for i, n := range nodes {
			for j, rec := range recs {
				until(t, fmt.Sprintf("%s: node %d has blob %d", claim, i, j), func() bool {
					got, err := get(n, rec)
					if errors.Is(err, object.CodeAbsent) {
						t.Fatalf("%s: node %d says that blob %d, which was acknowledged, is absent", claim, i, j)
					}
					return err == nil && got == fmt.Sprint("value ", j)
				})
			}
		}
	}
	for range 10 {
		put()
	}
	check("three")

	joiner := joining(t, "n4", 0, seeds[0])
	nodes = append(nodes, startTogether(t, joiner)...)
	until(t, "n4 is staged", func() bool { return len(nodes[0].agreement.Document().Staged) == 1 })
	doc := nodes[0].agreement.Document()
	operator(t, nodes[1], agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: doc.StagedHash(), Oldest: doc.History.SlotOf(time.Now().Unix()) - 100}})
	for i, n := range nodes {
		until(t, fmt.Sprint("the new ring is known: node ", i), func() bool { return n.ring().Len() == 2 && n.document().Change.Phase == ring.Fixed })
	}
	boundary := nodes[0].document().Change.Boundary
	until(t, "the boundary is past", func() bool { return time.Now().Unix() > boundary*2 })
	for range 20 {
		put()
	}
	check("four")

	id := nodes[0].id
	stop(t, nodes[0])
	for range 5 {
		rec := blob(t, time.Now().Unix(), uint64(len(recs)), fmt.Sprint("value ", len(recs)))
		recs = append(recs, rec)
		until(t, "it is put while n1 is away", func() bool { return putOnce(t, nodes[1+len(recs)%3], rec) == nil })
	}
	nodes[0] = startTogether(t, another(cfgs[0], nodes[0]))[0]
	check("n1 is back")
	if nodes[0].id != id || nodes[0].fresh.stale.Load() {
		t.Errorf("n1 was %v and is %v, stale %v", id, nodes[0].id, nodes[0].fresh.stale.Load())
	}
}

// TestRefusedJoins: a node that does not belong is refused with a sentence.
func TestRefusedJoins(t *testing.T) {
	t.Parallel()
	first := joining(t, "n1", 0)
	n1 := startTogether(t, first)[0]
	seed := n1.Addr().String()
	older := joining(t, "n2", 0)
	stop(t, startTogether(t, older)[0])
	if err := os.WriteFile(filepath.Join(older.Data[0], oldRingName), []byte("MAYFLYRG"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim, want string
		change      func(*Config)
	}{
		{"the name of another node", "name", func(c *Config) { c.Name = "n1" }},
		{"a directory of a node that agreed with nobody", "older version", func(c *Config) { c.Data = older.Data }},
	} {
		cfg := joining(t, "n9", 0, seed)
		c.change(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		n, err := Start(ctx, cfg)
		cancel()
		if err == nil {
			stop(t, n)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", c.claim, err, c.want)
		}
	}
	// A directory of one cluster is none of another.
	stop(t, n1)
	cfg := another(first, n1)
	cfg.Cluster = "other"
	if n, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "belongs to cluster") {
		t.Errorf("a directory of another cluster: %v", err)
		if err == nil {
			stop(t, n)
		}
	}
}

// TestDiskAwayAndBack: a disk that is not there at one start stays the member's, whose
// report lacks what is on it, and serves again at the next; once it is given up, it
// is refused.
func TestDiskAwayAndBack(t *testing.T) {
	t.Parallel()
	cfg := joining(t, "n1", 0)
	cfg.Data = append(cfg.Data, t.TempDir())
	n := startTogether(t, cfg)[0]
	var recs []object.Record
	for i := range 30 {
		rec := record(t, "notes", fmt.Sprint("k", i), fmt.Sprint("v", i))
		recs = append(recs, rec)
		until(t, "it is put", func() bool { return putOnce(t, n, rec) == nil })
	}
	stop(t, n)
	whole := another(cfg, n)
	half := whole
	half.Data = cfg.Data[:1]
	n = startTogether(t, half)[0]
	if m, _ := n.document().Member(n.id); len(m.Disks) != 2 || len(m.Removed) != 0 {
		t.Errorf("a disk is away: %d disks, %d removed", len(m.Disks), len(m.Removed))
	}
	found := 0
	for _, rec := range recs {
		switch got, err := get(n, rec); {
		case err == nil && got == string(rec.Value()):
			found++
		case errors.Is(err, object.CodeAbsent):
			t.Errorf("%s is on a disk that is away, and called absent", rec.Key)
		}
	}
	if found == 0 || found == len(recs) {
		t.Errorf("%d of %d found with one disk of two", found, len(recs))
	}
	plain, timed := map[ring.Partition]bool{}, map[ring.Partition]bool{}
	for _, g := range n.gaps(n.ring()) {
		plain[g.Partition] = plain[g.Partition] || g.Plain
		timed[g.Partition] = timed[g.Partition] || !g.Plain && g.Until == ring.Forever
	}
	for _, p := range n.ring().HeldBy(n.id) {
		_, err := n.vnodes.Vnode(p)
		open := err == nil
		if open == plain[p] || open == timed[p] {
			t.Errorf("partition %v is open: %v; said to lack plain data: %v, timed data: %v", p, open, plain[p], timed[p])
		}
	}
	stop(t, n)
	n = startTogether(t, whole)[0]
	for _, rec := range recs {
		if got, err := get(n, rec); err != nil || got != string(rec.Value()) {
			t.Errorf("%s: %q, %v", rec.Key, got, err)
		}
	}
	if gaps := n.gaps(n.ring()); len(gaps) > 0 {
		t.Errorf("with both disks: %+v", gaps)
	}
	stop(t, n)
	if err := os.Remove(filepath.Join(half.Data[0], disksName)); err != nil {
		t.Fatal(err)
	}
	n = startTogether(t, half)[0]
	until(t, "the disk is given up", func() bool { m, _ := n.document().Member(n.id); return len(m.Removed) == 1 })
	stop(t, n)
	if n, err := Start(t.Context(), whole); err == nil || !strings.Contains(err.Error(), "was taken out of service") {
		t.Errorf("with the disk that was given up: %v", err)
		if err == nil {
			stop(t, n)
		}
	}
}

// A stranded agreement has others, and cannot ask them yet.
type stranded struct {
	*seat
	answers atomic.Bool
	asked   atomic.Int64
}

func (s *stranded) Refresh(context.Context) error {
	s.asked.Add(1)
	if !s.answers.Load() {
		return errors.New("nobody answers")
	}
	return nil
}

func (s *stranded) Contact() time.Time { return time.Now() }

// TestStaleUntilAsked: a node that starts takes nothing in, and calls nothing absent,
// until it has asked what was agreed while it was away.
func TestStaleUntilAsked(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	cfg := c.config("n1")
	a := &stranded{seat: cfg.agreement.(*seat)}
	cfg.agreement = a
	n := start(t, cfg)
	nodes := c.startAll("n2", "n3")
	ask := replication.Ask{History: n.ring().Version()}
	rec := c.blobAt(c.clock.Load(), 1) // of three nodes, all own it
	ask.Hash = ring.Hash(rec.Type, rec.Bucket, rec.Key)
	local := func() (put, get *object.Error, complete bool) {
		n.local.Put(ask, rec, func(_ uint64, e *object.Error) { put = e })
		n.local.Get(ask, rec.Type, rec.Bucket, []byte("1000000000:ams:WEB:app:9"), false, func(_ uint64, r object.Record, ok bool, e *object.Error) { get, complete = e, ok })
		return put, get, complete
	}
	if put, _, complete := local(); put == nil || !put.Code.Retryable() || put.Outcome != object.NotDone || complete {
		t.Errorf("before it has asked: a put gives %v, complete %v", put, complete)
	}
	until(t, "the others are enough", func() bool { return putOnce(t, nodes[0], rec) == nil })
	until(t, "it asks", func() bool { return a.asked.Load() > 1 })
	a.answers.Store(true)
	until(t, "it is up to date", func() bool { return !n.fresh.stale.Load() })
	if put, _, _ := local(); put != nil {
		t.Errorf("when it has asked: %v", put)
	}
	until(t, "it is ready", n.Ready)
}

// A clock that is set back does not make a silence shorter, nor does a machine that
// stood still.
func TestElapsed(t *testing.T) {
	then := time.Now()
	now := then.Add(time.Minute)
	for name, c := range map[string]struct {
		since, now time.Time
		want       time.Duration
	}{
		"both clocks agree":           {then, now, time.Minute},
		"it never was":                {time.Time{}, now, math.MaxInt64},
		"by the wall's clock alone":   {then.Round(0), now, time.Minute},
		"the wall's clock has jumped": {then.Round(0), now.Add(time.Hour).Round(0), time.Hour + time.Minute},
	} {
		if got := elapsed(c.since, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
