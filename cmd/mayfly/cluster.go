package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const clusterLong = `cluster shows and changes what the nodes of a cluster have agreed on: who its
members are, what they own from when on, and what its buckets promise.

A change of members has three steps. It is staged: a node that starts with
--join stages its own joining, the other commands stage the rest. It is
planned, as often as you like: who gets what from when on, which bytes move now,
which never move, when everything is balanced. It is committed: all members
promise the boundary, and from that slot on the new ring counts. Older seconds
stay where they are until they expire, so that growing copies nothing of them.

  mayfly cluster status             # who is there, what is under way
  mayfly cluster plan               # what is staged, and what it would do
  mayfly cluster commit             # do it; asks first

What would lose the last copy of anything is refused, with what and how much.
With --json each command prints one object, also where it fails: "error" says why.
Any node will do for --node. Without a majority of voters reads and writes go on,
and changes are refused; docs/operations.md tells what to do then.`

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		GroupID: groupCluster,
		Short:   "show and change the cluster: members, rings, buckets",
		Long:    clusterLong,
		Example: `  mayfly cluster status
  mayfly cluster plan && mayfly cluster commit
  mayfly cluster leave n3 && mayfly cluster commit --yes && mayfly cluster status --wait
  mayfly cluster ttl events 12d`,
		Args: a.noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupStage, Title: "Stage a change of members:"},
		&cobra.Group{ID: groupCommit, Title: "Decide about what is staged:"},
		&cobra.Group{ID: groupBuckets, Title: "Buckets and settings, at once:"},
	)
	cmd.AddCommand(
		a.clusterStatusCommand(), a.clusterMembersCommand(),
		a.clusterPlanCommand(), a.clusterCommitCommand(), a.clusterClearCommand(), a.clusterCancelCommand(), a.clusterRecoverCommand(),
		a.clusterJoinCommand(), a.clusterLeaveCommand(), a.clusterReplaceCommand(), a.clusterRemoveCommand(),
		a.clusterWeightCommand(), a.clusterZoneCommand(), a.clusterFillCommand(),
		a.clusterBucketCommand(), a.clusterTTLCommand(), a.clusterSettingsCommand(),
	)
	return cmd
}

const (
	groupCluster = "cluster"
	groupStage   = "stage"
	groupCommit  = "commit"
	groupBuckets = "buckets"
)

// A clusterAdmin is a cluster as its commands see it. Errors are *object.Error.
type clusterAdmin interface {
	// Document returns what is agreed.
	Document(ctx context.Context) (*agreed.Document, error)

	// Propose brings a command to agreement. That it was refused is no error.
	Propose(ctx context.Context, c agreed.Command) (agreed.Result, error)

	// Reports asks all members of the document that may answer how they are.
	Reports(ctx context.Context, d *agreed.Document) map[ring.NodeID]memberReport

	Close() error
}

// A memberReport is what a member says of itself, or why it says nothing.
type memberReport struct {
	proto.Report
	err error
}

// A clusterRun is one run of a command on the cluster.
type clusterRun struct {
	*app
	clusterAdmin
	what   string // the command, for messages
	asJSON bool
	seen   *ring.Version // the newest that the command has seen, or made
}

// clusterSub completes a command on the cluster: its flags for where the cluster
// is, --json, and the connection that do works with.
func (a *app) clusterSub(cmd *cobra.Command, do func(ctx context.Context, r *clusterRun, args []string) error) *cobra.Command {
	s := a.settingsOf(cmd).clientFlags()
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		what := strings.TrimPrefix(cmd.CommandPath(), "mayfly ")
		dial := dialAdmin
		if a.dialAdmin != nil {
			dial = a.dialAdmin
		}
		c, err := dial(cmd.Context(), e)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		defer c.Close() //nolint:errcheck // nothing is under way
		if err := do(cmd.Context(), &clusterRun{a, c, what, *asJSON, new(ring.Version)}, args); err != nil {
			if _, usage := errors.AsType[usageError](err); usage || errors.Is(err, errSilent) {
				return err
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	return cmd
}

// propose brings a command to agreement and returns the document after it. A
// refusal is an error.
func (r *clusterRun) propose(ctx context.Context, c agreed.Command) (*agreed.Document, agreed.Result, error) {
	result, err := r.Propose(ctx, c)
	switch {
	case err != nil:
		return nil, result, withDoubt(err)
	case result.Err != nil:
		return nil, result, result.Err
	}
	*r.seen = result.Version
	d, err := r.document(ctx)
	return d, result, err
}

// withDoubt says what may be assumed after a proposal that failed.
func withDoubt(err error) error {
	if e := object.AsError(err); e.Outcome == object.MaybeDone {
		return fmt.Errorf("%w (it may have been done all the same: \"mayfly cluster status\" tells)", err)
	}
	return err
}

// document returns the newest document, which is not older than any that the
// command has seen: another node than the last may be asked, and hear of a change a
// moment later.
func (r *clusterRun) document(ctx context.Context) (*agreed.Document, error) {
	for range documentTries {
		d, err := r.Document(ctx)
		if err != nil {
			return nil, err
		}
		if !d.Version.Before(*r.seen) {
			*r.seen = d.Version
			return d, nil
		}
		if err := pause(ctx, documentPause/5); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("version %v of what is agreed is not known to the nodes that were asked; try again", *r.seen)
}

// documentTries bounds how often nodes that are behind are asked again: for some
// seconds.
const documentTries = 100

// members returns what is agreed, and the members of it that are named.
func (r *clusterRun) members(ctx context.Context, names ...string) (*agreed.Document, []agreed.Member, error) {
	d, err := r.document(ctx)
	if err != nil {
		return nil, nil, err
	}
	ms := make([]agreed.Member, len(names))
	for i, name := range names {
		if ms[i], err = resolve(d, name); err != nil {
			return nil, nil, err
		}
	}
	return d, ms, nil
}

// resolve finds a member by name or id. Members that have left or are lost are
// found by their ids only.
func resolve(d *agreed.Document, text string) (agreed.Member, error) {
	if m, found := d.MemberNamed(text); found {
		return m, nil
	}
	if id, err := ring.ParseNodeID(text); err == nil {
		if m, found := d.Member(id); found {
			return m, nil
		}
	}
	var names []string
	for _, m := range d.Members {
		switch {
		case m.State.Live():
			names = append(names, m.Name)
		case m.Name == text && m.State == agreed.Left:
			return agreed.Member{}, fmt.Errorf("%s (%v) has left the cluster: nothing can be asked of it any more", m.Name, m.ID)
		case m.Name == text:
			return agreed.Member{}, fmt.Errorf("%s (%v) was declared lost: nothing can be asked of it any more", m.Name, m.ID)
		}
	}
	if len(names) > mostNamed {
		return agreed.Member{}, usagef("there is no member %q; did you mean %q? \"mayfly cluster members\" lists them all", text, config.Nearest(text, names))
	}
	slices.Sort(names)
	return agreed.Member{}, usagef("there is no member %q; the members are %s", text, strings.Join(names, ", "))
}

// mostNamed bounds how many members are listed in a sentence.
const mostNamed = 12

// nameOf returns how a member is called in messages.
func nameOf(d *agreed.Document, id ring.NodeID) string {
	if m, found := d.Member(id); found {
		return m.Name
	}
	return id.String()
}

func namesOf(d *agreed.Document, ids []ring.NodeID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = nameOf(d, id)
	}
	return strings.Join(names, ", ")
}

// waitingFor names, in order, the members whose promises are missing.
func waitingFor(d *agreed.Document) string { return strings.Join(describeChange(d).Waiting, ", ") }
