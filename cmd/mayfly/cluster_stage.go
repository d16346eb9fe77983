package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/ring"
)

// A changed is what a command changed.
type changed struct {
	Version string   `json:"version"`
	Changed bool     `json:"changed"`
	Staged  []string `json:"staged"`
	Notes   []string `json:"notes"`
}

// said is what a command says, for people, of a change; "" is what most say.
type said struct {
	done      string // of what has changed
	unchanged string // if nothing has
}

// change proposes a command and says what came of it.
func (r *clusterRun) change(ctx context.Context, c agreed.Command, say said) (*agreed.Document, error) {
	d, result, err := r.propose(ctx, c)
	if err != nil {
		return nil, err
	}
	return d, r.tell(d, result, say)
}

// tell says what came of a change.
func (r *clusterRun) tell(d *agreed.Document, result agreed.Result, say said) error {
	if r.asJSON {
		return printJSON(r.stdout, changed{d.Version.String(), result.Changed, stagedTexts(d), append([]string{}, result.Notes...)})
	}
	for _, n := range result.Notes {
		fmt.Fprintf(r.stdout, "note: %s\n", n)
	}
	text := cmp.Or(say.done, fmt.Sprintf("staged: %s\n\"mayfly cluster plan\" shows what it means, \"mayfly cluster commit\" does it", joined(stagedTexts(d))))
	if !result.Changed {
		text = cmp.Or(say.unchanged, "nothing changed: it was so before")
	}
	_, err := fmt.Fprintln(r.stdout, text)
	return err
}

func joined(texts []string) string {
	if len(texts) == 0 {
		return "nothing"
	}
	return strings.Join(texts, "; ")
}

// stage stages one thing about a member.
func (r *clusterRun) stage(ctx context.Context, s agreed.Staged) error {
	_, err := r.change(ctx, agreed.Command{Kind: agreed.Stage, Stage: s}, said{})
	return err
}

// stageCommand is a command that stages something about one member, named by its
// first argument.
func (a *app) stageCommand(cmd *cobra.Command, what func(d *agreed.Document, m agreed.Member, args []string) (agreed.Staged, error)) *cobra.Command {
	cmd.GroupID = groupStage
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		d, ms, err := r.members(ctx, args[0])
		if err != nil {
			return err
		}
		m := ms[0]
		s, err := what(d, m, args[1:])
		if err != nil {
			return err
		}
		if isSo(d, m, s) {
			return r.tell(d, agreed.Result{}, said{unchanged: fmt.Sprintf("nothing changed: %s", sameText(m, s))})
		}
		say := said{}
		if m.State == agreed.Joining && s.Kind != agreed.StageJoin {
			say.done = fmt.Sprintf("%s joins with %s", m.Name, traitText(s))
		}
		_, err = r.change(ctx, agreed.Command{Kind: agreed.Stage, Stage: s}, say)
		return err
	})
}

// isSo tells whether a member has a weight or a zone, and shall get no other.
func isSo(d *agreed.Document, m agreed.Member, s agreed.Staged) bool {
	same := s.Kind == agreed.StageWeight && m.Weight == s.Weight || s.Kind == agreed.StageZone && m.Zone == s.Zone
	return same && !slices.ContainsFunc(d.Staged, func(x agreed.Staged) bool { return x.Kind == s.Kind && x.Node == s.Node })
}

func sameText(m agreed.Member, s agreed.Staged) string {
	return fmt.Sprintf("%s has %s already", m.Name, traitText(s))
}

func traitText(s agreed.Staged) string {
	if s.Kind == agreed.StageWeight {
		return fmt.Sprintf("weight %d", s.Weight)
	}
	return fmt.Sprintf("zone %q", s.Zone)
}

func (a *app) clusterJoinCommand() *cobra.Command {
	return a.stageCommand(&cobra.Command{
		Use:   "join NODE",
		Short: "stage the joining of a node again",
		Long: `join stages that a member that is joining gets places in the ring. A node that
starts with --join does that by itself; join is for one whose joining was
cleared.`,
		Example: `  mayfly serve --join 10.0.0.1:7070 --listen 0.0.0.0:7070 --advertise 10.0.0.4:7070   # on the new machine
  mayfly cluster join n4                                                               # after "mayfly cluster clear n4"`,
		Args: takes(1, 1, "the name of a member"),
	}, func(_ *agreed.Document, m agreed.Member, _ []string) (agreed.Staged, error) {
		return agreed.Staged{Kind: agreed.StageJoin, Node: m.ID}, nil
	})
}

func (a *app) clusterWeightCommand() *cobra.Command {
	return a.stageCommand(&cobra.Command{
		Use:   "weight NODE WEIGHT",
		Short: "stage another weight of a member",
		Long: `weight stages how much of the data a member gets, in comparison with the others: one
of twice the weight gets twice the partitions. The unit is yours, gigabytes or
anything else, the same for all. Timed data moves nowhere: the new share is that of
new slots.`,
		Example: `  mayfly cluster weight n4 200
  mayfly cluster weight n4 200 && mayfly cluster plan`,
		Args: takes(2, 2, "the name of a member and its weight"),
	}, func(_ *agreed.Document, m agreed.Member, args []string) (agreed.Staged, error) {
		w, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil || w == 0 || w > config.MaxWeight {
			return agreed.Staged{}, usagef("the weight %q is not a whole number from 1 to %d", args[0], config.MaxWeight)
		}
		return agreed.Staged{Kind: agreed.StageWeight, Node: m.ID, Weight: uint32(w)}, nil
	})
}

func (a *app) clusterZoneCommand() *cobra.Command {
	return a.stageCommand(&cobra.Command{
		Use:   "zone NODE ZONE",
		Short: "stage another zone of a member",
		Long: `zone stages what fails together with a member: a rack, a room, a power line. Copies
of one thing are put into different zones as long as there are enough; a plan says
where there are not.`,
		Example: `  mayfly cluster zone n4 rack-2
  mayfly cluster zone n4 ""`,
		Args: takes(2, 2, "the name of a member and its zone"),
	}, func(_ *agreed.Document, m agreed.Member, args []string) (agreed.Staged, error) {
		return agreed.Staged{Kind: agreed.StageZone, Node: m.ID, Zone: args[0]}, nil
	})
}

func (a *app) clusterFillCommand() *cobra.Command {
	return a.clusterSub(&cobra.Command{
		Use:     "fill",
		GroupID: groupStage,
		Short:   "stage that rings made with fewer nodes get all copies",
		Long: `fill stages that slots that were written while the cluster had fewer nodes than
copies are wanted get the missing copies. It copies what they hold, and is of use
after a cluster of one or two nodes has grown; what is not filled up has fewer
copies until it expires.`,
		Example: `  mayfly cluster fill && mayfly cluster plan`,
		Args:    noArguments(),
	}, func(ctx context.Context, r *clusterRun, _ []string) error {
		return r.stage(ctx, agreed.Staged{Kind: agreed.StageFill})
	})
}

func (a *app) clusterClearCommand() *cobra.Command {
	return a.clusterSub(&cobra.Command{
		Use:     "clear [NODE]",
		GroupID: groupCommit,
		Short:   "take back what is staged",
		Long: `clear takes back everything that is staged and not yet committed, or what is staged
for one member. A node that wants to join stays a member without places; stage it
again with "cluster join", or forget it with "cluster leave".`,
		Example: `  mayfly cluster clear
  mayfly cluster clear n4`,
		Args: takes(0, 1, "at most the name of a member"),
	}, func(ctx context.Context, r *clusterRun, args []string) error {
		c, say := agreed.Command{Kind: agreed.Clear}, said{"nothing is staged any more", "nothing was staged"}
		if len(args) > 0 {
			_, ms, err := r.members(ctx, args[0])
			if err != nil {
				return err
			}
			m := ms[0]
			c.Node, say = m.ID, said{fmt.Sprintf("nothing is staged for %s any more", m.Name), fmt.Sprintf("nothing was staged for %s", m.Name)}
		}
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		if preparing(d) {
			say.unchanged += `; the change that is being prepared is given up with "mayfly cluster cancel"`
		}
		_, err = r.change(ctx, c, say)
		return err
	})
}

func (a *app) clusterCancelCommand() *cobra.Command {
	return a.clusterSub(&cobra.Command{
		Use:     "cancel",
		GroupID: groupCommit,
		Short:   "give up a change that is being prepared",
		Long: `cancel gives up the change that was committed and is not fixed yet: because a member
does not answer and nobody wants to wait for it. What the change was made of is
staged again. What is fixed cannot be cancelled: change it back by another change.`,
		Example: `  mayfly cluster cancel
  mayfly cluster cancel && mayfly cluster clear`,
		Args: noArguments(),
	}, func(ctx context.Context, r *clusterRun, _ []string) error {
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		if !preparing(d) {
			return fmt.Errorf("there is nothing to give up: %s", describeIdle(d))
		}
		_, err = r.change(ctx, agreed.Command{Kind: agreed.Cancel}, said{done: "what it was made of is staged again; \"mayfly cluster clear\" takes that back"})
		return err
	})
}

func describeIdle(d *agreed.Document) string {
	switch {
	case d.Pending != nil:
		return namesOf(d, d.Pending.Returning) + " returns, which nobody asked for and nobody can give up"
	case d.Change.Phase == ring.Fixed:
		return fmt.Sprintf("the last change is fixed, its ring counts from slot %d", d.Change.Boundary)
	}
	return "no change is being prepared"
}
