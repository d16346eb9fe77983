package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

func (a *app) clusterPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "plan",
		GroupID: groupCommit,
		Short:   "show what is staged, and what committing it would do",
		Long: `plan works out, here and changing nothing, what a commit of what is staged would
do, from what is agreed and from what the members say they store:

  partitions  of each node before and after, against its fair share by weight
  moves now   what has to be copied: plain data, and timed data of nodes that
              leave or are lost; growing copies no timed data
  never moves timed data that stays where it is until it expires
  balanced    from when on all timed data lies as the new ring says

A plan that would lose the last copy of something is refused, with what and how
much. Nothing is taken for a copy that a member does not vouch for, and nothing on
a member that does not answer. --json has the partitions only with --partitions.`,
		Example: `  mayfly cluster plan
  mayfly cluster plan --json | jq .plan.timed_bytes_moved
  mayfly cluster plan --partitions            # owners of each partition, before and after
  mayfly cluster plan --partitions --json | jq -c '.plan.changes[]'`,
		Args: noArguments(),
	}
	partitions := cmd.Flags().Bool("partitions", false, "list the owners of each partition that changes")
	from := fromFlag(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, _ []string) error {
		p, err := r.look(ctx)
		if err != nil {
			return err
		}
		if err := checkFrom(*from); err != nil {
			return err
		}
		c, err := p.plan(*from, false)
		if err != nil {
			return r.refusal(err, p)
		}
		if r.asJSON {
			if !*partitions {
				c.Plan.Changes = nil
			}
			return printJSON(r.stdout, c)
		}
		if err := c.print(r.stdout, p); err != nil {
			return err
		}
		if *partitions {
			if err := c.printPartitions(r.stdout, p); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(r.stdout, "\n\"mayfly cluster commit\" does this, \"mayfly cluster clear\" takes it back.")
		return err
	})
}

// fromFlag declares the flag for the slot to begin with.
func fromFlag(cmd *cobra.Command) *int64 {
	return cmd.Flags().Int64("from", 0, "the slot that the new ring is to count from, or a later one; 0 is as early as can be")
}

func checkFrom(slot int64) error {
	if slot < 0 {
		return usagef("--from: %d is no slot: they are counted from 1970 on; 0 is as early as can be", slot)
	}
	return nil
}

// A planned is a plan with what it is made of.
type planned struct {
	Version      string     `json:"version"` // of the document it was made for
	Staged       []string   `json:"staged"`
	FromTime     int64      `json:"from_time"`     // when the new ring begins to count, if its boundary is fixed as planned
	BalancedTime int64      `json:"balanced_time"` // 0: never, for a bucket keeps timed data for ever
	Unheard      []string   `json:"unheard"`       // members whose data is not known as they do not answer
	WaitsFor     []string   `json:"waits_for"`     // of these, those whose promise the change would wait for
	Plan         *ring.Plan `json:"plan"`

	data ring.Data
}

// plan plans what is staged.
func (p *picture) plan(from int64, acceptLoss bool) (*planned, error) {
	if len(p.doc.Staged) == 0 {
		if preparing(p.doc) {
			return nil, fmt.Errorf("nothing is staged; what was committed is being prepared and waits for %s: \"mayfly cluster status\" shows it, \"mayfly cluster cancel\" gives it up", waitingFor(p.doc))
		}
		return nil, errors.New("nothing is staged: a node that starts with --join stages its joining, \"mayfly cluster --help\" lists what else can be")
	}
	c := &planned{Version: p.doc.Version.String(), Staged: stagedTexts(p.doc), Unheard: append([]string{}, p.unheard()...), WaitsFor: []string{}, data: p.data()}
	for _, id := range p.doc.Promising() {
		if !p.answers(id) {
			c.WaitsFor = append(c.WaitsFor, nameOf(p.doc, id))
		}
	}
	slices.Sort(c.WaitsFor)
	var err error
	if c.Plan, err = p.doc.Plan(p.now, c.data, from, acceptLoss); err != nil {
		return nil, err
	}
	slotSeconds := p.doc.Settings.SlotSeconds
	c.FromTime = c.Plan.From * slotSeconds
	if _, forever := p.longest(); !forever {
		c.BalancedTime = c.Plan.BalancedFrom * slotSeconds
	}
	return c, nil
}

// print writes the plan for people.
func (c *planned) print(w io.Writer, p *picture) error {
	printLine(w, "cluster", "%s, version %s", p.doc.Name, c.Version)
	printLine(w, "staged", "%s", strings.Join(c.Staged, "; "))
	before, after := c.Plan.PartitionsOf, c.Plan.OwnersOf
	shape := fmt.Sprintf("%s of %s", plural(int64(before[1]), "partition"), plural(int64(after[1]), "owner"))
	if before[0] != before[1] || after[0] != after[1] {
		shape += fmt.Sprintf(" (before: %d of %d)", before[0], after[0])
	}
	printLine(w, "new ring", "%s, from %s, or a later one", shape, slotText(c.Plan.From, p.doc.Settings.SlotSeconds, p.now))
	fmt.Fprintln(w)
	t := newTable(w, "node", "zone", "weight", "fate", "before", "after", "fair", "to-get")
	byName := slices.SortedStableFunc(slices.Values(c.Plan.Nodes), func(a, b ring.NodePlan) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range byName {
		if m, known := p.doc.Member(n.ID); known && !m.State.Live() {
			continue // lost before: it is not about it
		}
		t.row(n.Name, dash(n.Zone), fmt.Sprint(n.Weight), string(n.Fate), fmt.Sprint(n.Before), fmt.Sprint(n.After), fmt.Sprintf("%.1f", n.Fair),
			bytesText(int64(n.PlainGets+n.TimedGets)))
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	printLine(w, "moves now", "%s of timed data, %s of plain data", bytesText(int64(c.Plan.TimedMoves)), bytesText(int64(c.Plan.PlainMoves)))
	printLine(w, "never moves", "%s of timed data: it expires where it is", bytesText(int64(c.Plan.TimedStays)))
	printLine(w, "balanced", "%s", c.balanced(p))
	for _, past := range c.Plan.Past {
		printLine(w, "taken over", "%s", pastText(p, past))
	}
	for _, s := range c.Plan.Short {
		printLine(w, "falls short", "%s", s)
	}
	if len(c.Unheard) > 0 {
		printLine(w, "not counted", "what %s may have: no answer", strings.Join(c.Unheard, ", "))
	}
	if len(c.WaitsFor) > 0 {
		printLine(w, "waits for", "%s: without an answer there is no promise; for whom will not come back, \"mayfly cluster clear\" and stage it with --lost", strings.Join(c.WaitsFor, ", "))
	}
	if c.Plan.Loss != nil {
		printLine(w, "LOST", "%s", lossText(c.Plan.Loss, p))
	}
	return nil
}

func (c *planned) balanced(p *picture) string {
	switch {
	case c.BalancedTime == 0:
		return "never: a timed bucket keeps its data for ever, \"mayfly cluster ttl\" lists them"
	case c.Plan.BalancedFrom <= c.Plan.From:
		return "as soon as the new ring counts"
	}
	return whenText(c.BalancedTime, p.now) + ", when all older data has expired"
}

func pastText(p *picture, c ring.PastChange) string {
	who := "rings made with fewer nodes"
	if !c.Out.IsZero() {
		who = fmt.Sprintf("what %s has (%v)", nameOf(p.doc, c.Out), c.Reason)
	}
	s := p.doc.Settings.SlotSeconds
	return fmt.Sprintf("%s, in %s of %s, from %s to %s, by %s", who, plural(int64(c.Partitions), "partition"), plural(c.Until-c.From, "slot"),
		clockText(c.From*s), clockText(c.Until*s), plural(int64(c.Successors), "node"))
}

func (c *planned) printPartitions(w io.Writer, p *picture) error {
	fmt.Fprintln(w)
	t := newTable(w, "partition", "before", "after")
	for _, change := range c.Plan.Changes {
		t.row(change.Partition.String(), namesOf(p.doc, change.Before), namesOf(p.doc, change.After))
	}
	return t.flush()
}

// refusal says why a plan was refused. What would be lost it writes the way
// people see it, and prints on standard error.
func (r *clusterRun) refusal(err error, p *picture) error {
	loss, found := errors.AsType[*ring.LastCopyError](err)
	if !found {
		return err
	}
	return worded{err, fmt.Sprintf("refused, it would lose the last copy of data: %s", lossText(loss, p)+`
Bring back who has it, or wait until others have all ("mayfly cluster status --wait").
To give it up for good: mayfly cluster commit --accept-loss
To take back what is staged: mayfly cluster clear`)}
}

// lossText says what would be lost.
func lossText(e *ring.LastCopyError, p *picture) string {
	var lines []string
	if e.Slots > 0 {
		s := p.doc.Settings.SlotSeconds
		lines = append(lines, fmt.Sprintf("\n  timed data  %s in %s of %s, from %s to %s", knownText(e.TimedBytes), plural(int64(e.TimedPartitions), "partition"),
			plural(e.Slots, "slot"), clockText(e.FirstSlot*s), clockText((e.LastSlot+1)*s)))
	}
	if e.PlainPartitions > 0 {
		lines = append(lines, fmt.Sprintf("\n  plain data  %s in %s", knownText(e.PlainBytes), plural(int64(e.PlainPartitions), "partition")))
	}
	names := slices.Clone(e.Nodes)
	for i, name := range names {
		if id, err := ring.ParseNodeID(name); err == nil { // of a member that no ring has any more
			names[i] = strconv.Quote(nameOf(p.doc, id))
		}
	}
	return fmt.Sprintf("without %s nobody has all of%s", strings.Join(names, ", "), strings.Join(lines, ""))
}

// knownText says how much there is, as far as anybody who answers can tell: of what
// nobody has, nobody knows how much it is.
func knownText(bytes uint64) string {
	if bytes == 0 {
		return "an unknown amount"
	}
	return bytesText(int64(bytes))
}

// stagedTexts says what is staged, thing by thing.
func stagedTexts(d *agreed.Document) []string {
	texts := []string{}
	for _, s := range d.Staged {
		texts = append(texts, stagedText(d, s))
	}
	return texts
}

func stagedText(d *agreed.Document, s agreed.Staged) string {
	name := nameOf(d, s.Node)
	switch s.Kind {
	case agreed.StageJoin:
		return name + " joins"
	case agreed.StageLeave:
		return name + " leaves"
	case agreed.StageReplace:
		return fmt.Sprintf("%s takes the place of %s", nameOf(d, s.New), name)
	case agreed.StageLose:
		if !s.New.IsZero() {
			return fmt.Sprintf("%s is lost, %s takes its place", name, nameOf(d, s.New))
		}
		return name + " is lost"
	case agreed.StageWeight:
		return fmt.Sprintf("%s gets weight %d", name, s.Weight)
	case agreed.StageZone:
		return fmt.Sprintf("%s moves to zone %q", name, s.Zone)
	case agreed.StageFill:
		return "rings made with fewer nodes are filled up"
	}
	return s.Kind.String()
}
