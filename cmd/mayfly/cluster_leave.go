package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
)

// waitFlags are the flags of commands that stage something, and may commit it
// and wait until it is done.
func waitFlags(cmd *cobra.Command) (wait *bool, f commitFlags) {
	wait = cmd.Flags().Bool("wait", false, "commit it, with all that is staged, and wait until it is done")
	f = commitFlags{
		yes:        cmd.Flags().BoolP("yes", "y", false, "with --wait: do not ask"),
		acceptLoss: cmd.Flags().Bool("accept-loss", false, "with --wait: do it even if the last copy of something is lost"),
		noWait:     new(bool),
		from:       new(int64),
	}
	return wait, f
}

// stageAndWait stages something; with wait it commits, and waits until gone, a
// member, is of no more use to the others and all they took over is whole.
func (r *clusterRun) stageAndWait(ctx context.Context, s agreed.Staged, gone agreed.Member, wait bool, f commitFlags) error {
	if !wait {
		if *f.yes || *f.acceptLoss {
			return usagef("--yes and --accept-loss belong to what is committed: add --wait, or give them to \"mayfly cluster commit\"")
		}
		return r.stage(ctx, s)
	}
	if err := r.canAsk(f); err != nil {
		return err
	}
	if _, _, err := r.propose(ctx, agreed.Command{Kind: agreed.Stage, Stage: s}); err != nil {
		return err
	}
	quiet := *r // what is committed is not asked for on standard output
	quiet.asJSON = false
	quiet.app = &app{stdin: r.stdin, stdout: r.stderr, stderr: r.stderr, environ: r.environ}
	if _, err := quiet.commit(ctx, f); err != nil {
		return err
	}
	if err := r.awaitQuiet(ctx, func(*picture) bool { return false }); err != nil {
		return err
	}
	p, err := r.look(ctx)
	if err != nil {
		return err
	}
	m, _ := p.doc.Member(gone.ID)
	if r.asJSON {
		st := describeStatus(p)
		return printJSON(r.stdout, st)
	}
	last := ""
	if m.State == agreed.Left {
		last = ": it may be switched off, its data removed"
	}
	_, err = fmt.Fprintf(r.stdout, "%s has %s%s\n", m.Name, stateWord(m.State), last)
	return err
}

func stateWord(s agreed.MemberState) string {
	switch s {
	case agreed.Left:
		return "left; all it had is whole on others, by their digests"
	case agreed.Lost:
		return "been taken out; all that could be had is whole on others, by their digests"
	}
	return "become " + s.String()
}

func (a *app) clusterLeaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "leave NODE",
		GroupID: groupStage,
		Short:   "stage that a member hands over all it has, and goes",
		Long: `leave stages that a member gets no places in new rings and that others take over
what it holds. It stays up and serves until they have everything, whole and
compared by digests; then it has left and may be switched off. It may be stopped
and started on the way: what is copied resumes.

Timed data that has little time left can also just expire: stage the weight of the
member as 1 instead, and let it leave when most of it is gone.

A node that is joining and has no places yet is forgotten at once; if it is started
again, it asks to join again.`,
		Example: `  mayfly cluster leave n3 && mayfly cluster plan
  mayfly cluster leave n3 --wait            # plan, ask, commit, and wait until it has left
  mayfly cluster leave n3 --wait --yes`,
		Args: takes(1, 1, "the name of a member"),
	}
	wait, f := waitFlags(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		_, ms, err := r.members(ctx, args[0])
		if err != nil {
			return err
		}
		m := ms[0]
		if m.State == agreed.Joining {
			_, err := r.change(ctx, agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageLeave, Node: m.ID}}, said{
				done: fmt.Sprintf("%s had no places and is forgotten: stop it, for it asks to join again when it is started", m.Name)})
			return err
		}
		return r.stageAndWait(ctx, agreed.Staged{Kind: agreed.StageLeave, Node: m.ID}, m, *wait, f)
	})
}

func (a *app) clusterReplaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "replace OLD NEW",
		GroupID: groupStage,
		Short:   "stage that a new node takes all places of a member",
		Long: `replace stages that NEW, a node that is joining, takes all places of OLD, in new
rings and in those of the past: what OLD holds is copied to NEW, and nothing else
moves. OLD, if it answers, hands over and then leaves.

If OLD is dead and will not come back, add --lost: all others who have copies give
them to NEW, the newest first, nobody waits for OLD, and it is refused if it comes
back. What only OLD had whole is lost then: the plan refuses and says how much.`,
		Example: `  mayfly serve --join 10.0.0.1:7070 --name n7 …        # on the new machine
  mayfly cluster replace n3 n7 && mayfly cluster plan
  mayfly cluster replace n3 n7 --wait --yes
  mayfly cluster replace n3 n7 --lost --wait           # n3 is dead`,
		Args: takes(2, 2, "the names of a member and of the node in its place"),
	}
	lost := cmd.Flags().Bool("lost", false, "OLD will not come back: nobody waits for it, nothing is had of it")
	wait, f := waitFlags(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		_, ms, err := r.members(ctx, args...)
		if err != nil {
			return err
		}
		old, next := ms[0], ms[1]
		kind := agreed.StageReplace
		if *lost {
			kind = agreed.StageLose
		}
		return r.stageAndWait(ctx, agreed.Staged{Kind: kind, Node: old.ID, New: next.ID}, old, *wait, f)
	})
}

func (a *app) clusterRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove NODE --lost",
		GroupID: groupStage,
		Short:   "stage that a member is lost and will not come back",
		Long: `remove --lost stages that a member and all it had are gone for good: its places go to
the others, which copy what they lack from each other, newest first, and nobody
waits for its promise or for its data. If it comes back it is refused.

Is the member only away? Then do nothing: after a minute others keep its new data,
and it takes that back when it returns. Does it answer? Then let it leave: a lost
member hands over nothing.

What only the lost member had whole is lost: the plan refuses and says how much;
"cluster commit --accept-loss" gives it up.`,
		Example: `  mayfly cluster remove n3 --lost && mayfly cluster plan
  mayfly cluster remove n3 --lost --wait --yes
  mayfly cluster remove n3 --lost && mayfly cluster commit --accept-loss`,
		Args: takes(1, 1, "the name of a member"),
	}
	lost := cmd.Flags().Bool("lost", false, "the member will not come back: required")
	wait, f := waitFlags(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		if !*lost {
			return usagef("%s: a member that answers hands over what it has with \"mayfly cluster leave %s\"; if it is gone for good, add --lost", r.what, args[0])
		}
		_, ms, err := r.members(ctx, args[0])
		if err != nil {
			return err
		}
		m := ms[0]
		return r.stageAndWait(ctx, agreed.Staged{Kind: agreed.StageLose, Node: m.ID}, m, *wait, f)
	})
}
