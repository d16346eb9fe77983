package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// A Growth is what became of a cluster to which as many nodes again were added,
// and of those who used it.
type Growth struct {
	Nodes          int     `json:"from_nodes"`      // before
	Joined         int     `json:"joined"`          // new ones; 0 if the sending ended before
	StartedSeconds float64 `json:"started_seconds"` // of sending, until the new nodes were started
	JoinMS         float64 `json:"join_ms"`         // from then until all were members that wait for their places
	FixMS          float64 `json:"fix_ms"`          // from the commit until all had promised
	BoundarySlot   int64   `json:"boundary_slot"`   // the first of the new ring
	CountsSeconds  float64 `json:"counts_seconds"`  // from the commit until that slot began
	BlobsBefore    int64   `json:"blobs_before"`    // acknowledged, of slots before
	BlobsAfter     int64   `json:"blobs_after"`     // and since
	NewCopies      int64   `json:"new_copies"`      // of those since, on the new nodes' disks
	MovedCopies    int64   `json:"moved_copies"`    // of those before, on the new nodes' disks: timed data that moved

	RunReads       int64  `json:"run_reads"` // as in Kill
	RunReadsFailed int64  `json:"run_reads_failed"`
	FalseAbsent    int64  `json:"false_absent"`
	Retries        uint64 `json:"retries"`
	FailedCalls    uint64 `json:"failed_calls"`
	TailResumes    uint64 `json:"tail_resumes"`
}

const (
	growAhead = 2 * time.Second  // how far ahead seconds may be in a cluster that grows: its new ring counts soon
	growLeast = 30 * time.Second // of sending that is left when it begins: until the new ring counts, and a slot more
)

// A grower adds nodes while readers read what is acknowledged through each. It is
// made when sending begins.
type grower struct {
	*readers
	growth Growth
	wg     sync.WaitGroup // run
	err    error          // of run; read after wg
}

func (d *Demo) startGrower(ctx, whole context.Context) *grower {
	g := &grower{readers: d.startReaders(whole), growth: Growth{Nodes: len(d.places)}}
	g.wg.Go(func() { g.err = g.run(ctx, whole) })
	return g
}

// end waits for what is under way and returns what went wrong with it.
func (g *grower) end() error {
	g.wg.Wait()
	g.readers.end()
	s := g.d.client.Stats()
	g.growth.RunReads, g.growth.RunReadsFailed, g.growth.FalseAbsent = g.reads.Load(), g.failed.Load(), g.absent.Load()
	g.growth.Retries, g.growth.FailedCalls, g.growth.TailResumes = s.Retries, s.Failures, s.TailResumes
	return g.err
}

// run adds the nodes at their time, and commits that they get places.
func (g *grower) run(ctx, whole context.Context) error {
	begun := time.Now()
	if !pause(ctx, g.d.o.Grow) {
		return nil
	}
	started := time.Now()
	g.growth.StartedSeconds = seconds(started.Sub(begun))
	fresh := g.d.fresh
	for _, c := range fresh {
		if err := c.start(); err != nil {
			return err
		}
		g.d.add(c)
	}
	g.d.say(fmt.Sprintf("%d nodes join; ", len(fresh)))
	doc, err := g.await(whole, func(d *agreed.Document) bool { return len(d.Staged) == len(fresh) })
	if err != nil {
		return fmt.Errorf("the new nodes do not join: %w", err)
	}
	g.growth.JoinMS = milliseconds(time.Since(started))
	committed := time.Now()
	if err := g.propose(whole, agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{Staged: doc.StagedHash()}}); err != nil {
		return err
	}
	doc, err = g.await(whole, func(d *agreed.Document) bool { return d.Change.Phase == ring.Fixed })
	if err != nil {
		return fmt.Errorf("the change is not fixed: %w", err)
	}
	g.growth.FixMS, g.growth.Joined, g.growth.BoundarySlot = milliseconds(time.Since(committed)), len(fresh), doc.Change.Boundary
	for _, c := range fresh {
		if err := await(whole, c.place, c.ended); err != nil {
			return err
		}
		g.start(c.place)
	}
	boundary := time.Unix(doc.Change.Boundary*slotSeconds, 0)
	g.growth.CountsSeconds = seconds(boundary.Sub(committed))
	g.d.say(fmt.Sprintf("the ring of %d counts in %v; ", g.growth.Nodes+len(fresh), time.Until(boundary).Round(time.Second)))
	if pause(ctx, time.Until(boundary)) {
		g.d.say(fmt.Sprintf("the ring of %d counts; ", g.growth.Nodes+len(fresh)))
	}
	return nil
}

// add takes in a node that has been started. Nobody looks at the demo's nodes
// while one is added.
func (d *Demo) add(c *child) {
	d.processes, d.places = append(d.processes, c), append(d.places, c.place)
	d.cluster = d.processes
}

// await waits until what is agreed is as wanted.
func (g *grower) await(ctx context.Context, is func(*agreed.Document) bool) (*agreed.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last error
	for {
		doc, err := g.d.client.Document(ctx)
		if err == nil && is(doc) {
			return doc, nil
		}
		if err == nil {
			err = fmt.Errorf("after %v the change is %v and waits for %s", readyTimeout, doc.Change.Phase, doc.Change.WaitingFor(ring.NodeID.String))
		}
		if ctx.Err() == nil {
			last = err
		}
		if !pause(ctx, readyPause) {
			return nil, last
		}
	}
}

func (g *grower) propose(ctx context.Context, c agreed.Command) error {
	r, err := g.d.client.Propose(ctx, c)
	return errors.Join(err, r.Failure())
}

// hasten has changes of the ring count soon: a demo is short.
func (d *Demo) hasten(ctx context.Context) error {
	doc, err := d.client.Document(ctx)
	if err != nil {
		return err
	}
	s := doc.Settings
	s.SkewSeconds, s.LeadSeconds = 1, 3
	r, err := d.client.Propose(ctx, agreed.Command{Kind: agreed.SetSettings, Settings: s})
	return errors.Join(err, r.Failure())
}

// count looks on the new nodes' disks for what was acknowledged.
func (g *Growth) count(d *Demo) error {
	before := map[event.Key]bool{}
	for _, key := range d.ledger.acknowledgedFrom(0) {
		if before[key] = key.Epoch < g.BoundarySlot*slotSeconds; before[key] {
			g.BlobsBefore++
		} else {
			g.BlobsAfter++
		}
	}
	for _, p := range d.places[g.Nodes:] {
		copies := map[event.Key]int{}
		if err := countCopies(p.dir, copies); err != nil {
			return err
		}
		for key := range copies {
			if early, acknowledged := before[key]; early {
				g.MovedCopies++
			} else if acknowledged {
				g.NewCopies++
			}
		}
	}
	return nil
}

// faults says what a growth should not show.
func (g *Growth) faults() (all []string) {
	if g == nil {
		return nil
	}
	fault := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	fault(g.FalseAbsent != 0, "%d reads said that an acknowledged blob is absent", g.FalseAbsent)
	if g.Joined == 0 {
		return append(all, "the sending ended before the cluster had grown")
	}
	fault(g.MovedCopies != 0, "%d copies of older blobs moved to the new nodes", g.MovedCopies)
	fault(g.NewCopies == 0, "no new blob is on a new node")
	fault(g.FailedCalls != 0, "%d calls failed for good", g.FailedCalls)
	return all
}

// print writes rows about a growth, if there was to be one.
func (g *Growth) print(row func(name, format string, args ...any)) {
	switch {
	case g == nil:
		return
	case g.Joined == 0:
		row("grown", "not: the sending ended before")
	default:
		row("grown", "from %d to %d nodes after %.1f s: joined in %.0f ms, fixed %.0f ms after the commit", g.Nodes, g.Nodes+g.Joined, g.StartedSeconds, g.JoinMS, g.FixMS)
		row("new ring", "from slot %d, %.0f s after the commit: %d blobs before it, %d since", g.BoundarySlot, g.CountsSeconds, g.BlobsBefore, g.BlobsAfter)
		row("moved", "%d copies of the blobs before; %d copies of those since are on the new nodes", g.MovedCopies, g.NewCopies)
	}
	row("meanwhile", "%d blobs read through one node after another; absent: %d, no answer: %d", g.RunReads, g.FalseAbsent, g.RunReadsFailed)
	row("clients", "calls repeated: %d, failed all the same: %d; tail resumed: %d", g.Retries, g.FailedCalls, g.TailResumes)
}
