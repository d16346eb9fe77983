package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// commitFlags are the flags of commands that commit.
type commitFlags struct {
	yes, noWait, acceptLoss *bool
	from                    *int64
}

func (a *app) clusterCommitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "commit",
		GroupID: groupCommit,
		Short:   "carry out what is staged",
		Long: `commit shows the plan of what is staged and asks; with "y" it is agreed, unless
somebody has staged something else meanwhile. Where nobody can be asked, in a
script, --yes is required.

Then every member promises durably to admit nothing at or past the boundary, a
slot ahead of all clocks, under the old ring; when all have, the change is fixed.
commit waits for that and says whom it waits for. A member that stays silent holds
the change up until it is back, is declared lost ("cluster remove --lost"), or the
change is given up ("cluster cancel"). Stopping the command stops nothing.

What has to be copied is copied afterwards: "mayfly cluster status --wait".`,
		Example: `  mayfly cluster commit
  mayfly cluster commit --yes --no-wait
  mayfly cluster commit --yes --json | jq .change.boundary_time
  mayfly cluster commit --accept-loss          # gives up what the plan says is lost`,
		Args: noArguments(),
	}
	f := commitFlags{
		yes:        cmd.Flags().BoolP("yes", "y", false, "do not ask"),
		noWait:     cmd.Flags().Bool("no-wait", false, "do not wait until the change is fixed"),
		acceptLoss: cmd.Flags().Bool("accept-loss", false, "do it even if the last copy of something is lost"),
		from:       fromFlag(cmd),
	}
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, _ []string) error {
		_, err := r.commit(ctx, f)
		return err
	})
}

// committed is what commit did.
type committed struct {
	Version string      `json:"version"`
	Change  changeState `json:"change"`
	Notes   []string    `json:"notes"`
	Planned *planned    `json:"planned"`
}

// commit plans, asks, commits, and waits until the change is fixed.
func (r *clusterRun) commit(ctx context.Context, f commitFlags) (*agreed.Document, error) {
	d, notes, c, err := r.begin(ctx, f)
	if err != nil {
		return nil, err
	}
	if !r.asJSON { // before it waits: they say for whom
		for _, n := range notes {
			fmt.Fprintf(r.stdout, "note: %s\n", n)
		}
	}
	if !*f.noWait {
		if d, err = r.awaitFixed(ctx, d); err != nil {
			return nil, err
		}
	}
	now := r.lookAt(ctx, d).now
	change := describeChange(d)
	if r.asJSON {
		c.Plan.Changes = nil // "cluster plan --partitions" has them
		return d, printJSON(r.stdout, committed{d.Version.String(), change, notes, c})
	}
	_, err = fmt.Fprintf(r.stdout, "committed as version %v: %s\n", d.Version, change.sentence(d.Settings.SlotSeconds, now))
	return d, err
}

// begin plans, asks and commits.
func (r *clusterRun) begin(ctx context.Context, f commitFlags) (*agreed.Document, []string, *planned, error) {
	if err := r.canAsk(f); err != nil {
		return nil, nil, nil, err
	}
	if err := checkFrom(*f.from); err != nil {
		return nil, nil, nil, err
	}
	p, err := r.look(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := p.plan(*f.from, *f.acceptLoss)
	if err != nil {
		return nil, nil, nil, r.refusal(err, p)
	}
	if !*f.yes {
		if err := c.print(r.stderr, p); err != nil {
			return nil, nil, nil, err
		}
		if err := r.confirm("\ncommit this?", "nothing was committed: it stays staged, \"mayfly cluster clear\" takes it back"); err != nil {
			return nil, nil, nil, err
		}
	}
	d, result, err := r.propose(ctx, agreed.Command{Kind: agreed.CommitStaged, Commit: agreed.Commit{
		Staged: p.doc.StagedHash(), From: *f.from, Oldest: c.data.Oldest, Gaps: c.data.Gaps, AcceptLoss: *f.acceptLoss,
	}})
	if err != nil {
		return nil, nil, nil, r.refusal(err, p)
	}
	return d, append([]string{}, result.Notes...), c, nil
}

// canAsk refuses a command that has to ask and has nobody to ask: before it has
// done anything.
func (r *clusterRun) canAsk(f commitFlags) error {
	if !*f.yes && !isTerminal(r.stdin) {
		return usagef("%s asks before it does this, and there is nobody to ask: add --yes", r.what)
	}
	return nil
}

// silentAfter is how long a commit waits before it says for whom, where no line of
// a terminal shows it.
const silentAfter = 10 * time.Second

// awaitFixed waits until the change that is under way in d is fixed, and returns
// the document then.
func (r *clusterRun) awaitFixed(ctx context.Context, d *agreed.Document) (*agreed.Document, error) {
	var line atomic.Pointer[string]
	show := func(text string) { line.Store(&text) }
	show("waiting")
	status := startStatus(r.stderr, func() string { return *line.Load() })
	defer status.stop()
	boundary, round := d.Change.Boundary, d.Change.Round
	told, since := isTerminal(r.stderr), time.Now()
	for preparing(d) {
		again := ""
		if d.Change.Round != round {
			again = fmt.Sprintf(" (proposed again, slot %d came too near)", boundary)
		}
		show(fmt.Sprintf("preparing slot %d%s: waiting for %s", d.Change.Boundary, again, waitingFor(d)))
		if err := pause(ctx, documentPause); err != nil {
			return nil, worded{err, fmt.Sprintf("the change goes on by itself and waits for %s; \"mayfly cluster status\" shows it, \"mayfly cluster cancel\" gives it up", waitingFor(d))}
		}
		if !told && time.Since(since) >= silentAfter {
			told = true
			fmt.Fprintf(r.stderr, "waiting for the promise of %s; \"mayfly cluster cancel\" gives the change up\n", waitingFor(d))
		}
		next, err := r.document(ctx)
		if err != nil {
			show("no node answers at the moment: " + err.Error())
			continue // the change does not depend on who watches
		}
		d = next
	}
	if d.Change.Phase == ring.Idle {
		return nil, errors.New("the change was given up by somebody else; what it was made of is staged again")
	}
	return d, nil
}

// preparing tells whether an operator's change is being prepared: not the return
// of a member, which nobody commits.
func preparing(d *agreed.Document) bool {
	return d.Change.Phase == ring.Proposed && d.Pending != nil && len(d.Pending.Returning) == 0
}
