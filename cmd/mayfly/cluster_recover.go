package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/cluster"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

func (a *app) clusterRecoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "recover",
		GroupID: groupCommit,
		Short:   "begin a new era with one node, when the majority of voters is lost",
		Long: `recover is for a cluster that can agree on nothing any more, because the majority of
its voters is lost for good. It works on the data directories of one member that
is stopped, and makes it the only voter of a new era, with what it knows: changes
that only the lost voters had agreed on are gone, data is not touched.

Take the member whose version is the newest ("mayfly cluster members" shows those of
all that answer), on one machine only: two that were recovered are two clusters, and
refuse each other. Start it again; the others join the new era by themselves,
voters that come back later as well. Then declare lost who will not.

It shows what the member knows and asks; --yes does not ask. While voters may
come back, wait: reads and writes go on without agreement.`,
		Example: `  mayfly cluster recover --data /var/lib/mayfly
  mayfly cluster recover --data /d1,/d2 --yes`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd).flagAs("data", "node.data", "data directories of the stopped node, all of them, separated by commas")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(*cobra.Command, []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		if err := a.recover(e.Node.Data, *yes, *asJSON); err != nil {
			if _, usage := errors.AsType[usageError](err); usage {
				return err
			}
			return fmt.Errorf("cluster recover: %w", err)
		}
		return nil
	}
	return cmd
}

// recover shows what a node knows, asks, and recovers agreement with it.
func (a *app) recover(paths []string, yes, asJSON bool) error {
	cfg, doc, err := stoppedNode(paths)
	if err != nil {
		return err
	}
	if !yes {
		if !isTerminal(a.stdin) {
			return usagef("cluster recover asks before it does this, and there is nobody to ask: add --yes")
		}
		describeKnown(a.stderr, cfg, doc)
		if err := a.confirm(fmt.Sprintf("\nmake %s the only voter of era %d?", cfg.Name, doc.Version.Era+1), "nothing was changed"); err != nil {
			return err
		}
	}
	next, err := cluster.Recover(cfg)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.stdout, struct {
			Member  string   `json:"member"`
			Before  string   `json:"before"` // versions
			Version string   `json:"version"`
			Staged  []string `json:"staged"`
		}{cfg.Name, doc.Version.String(), next.Version.String(), stagedTexts(next)})
	}
	_, err = fmt.Fprintf(a.stdout, "%s is the only voter of era %d, with what it knew as version %v: start it, the others follow; then \"mayfly cluster status\"\n",
		cfg.Name, next.Version.Era, doc.Version)
	return err
}

// stoppedNode reads who the node of some data directories is, and what it knows.
func stoppedNode(paths []string) (cfg cluster.Config, doc *agreed.Document, err error) {
	var dirs []*vfs.Dir
	defer func() {
		for _, d := range dirs {
			d.Close() //nolint:errcheck // it was only read
		}
	}()
	for _, path := range paths {
		dir, err := openData(path)
		if err != nil {
			return cfg, nil, err
		}
		dirs = append(dirs, dir)
		id, err := bitcask.ReadIdentity(dir)
		if err != nil {
			return cfg, nil, err
		}
		if node := ring.NodeID(id.Node); !cfg.Node.IsZero() && cfg.Node != node {
			return cfg, nil, fmt.Errorf("the data directories are of two nodes, %v and %v: name those of one", cfg.Node, node)
		}
		cfg.Node, cfg.Bound = ring.NodeID(id.Node), id.Cluster
		cfg.Disks = append(cfg.Disks, cluster.Disk{Path: path, ID: agreed.DiskID(id.Disk)})
	}
	if doc, err = cluster.Known(dirs...); err != nil {
		return cfg, nil, err
	}
	cfg.Name, cfg.Cluster = nameOf(doc, cfg.Node), doc.Name
	return cfg, doc, nil
}

func describeKnown(w io.Writer, cfg cluster.Config, d *agreed.Document) {
	var members []string
	for _, m := range d.Members {
		if m.State.Live() {
			members = append(members, fmt.Sprintf("%s at %s (%v)", m.Name, m.Address, m.State))
		}
	}
	slices.Sort(members)
	printLine(w, "node", "%s (%v)", cfg.Name, cfg.Node)
	printLine(w, "cluster", "%s, version %v", d.Name, d.Version)
	printLine(w, "members", "%s", strings.Join(members, ", "))
	if d.Pending != nil {
		printLine(w, "given up", "the change that is being prepared for slot %d; what it was made of is staged again", d.Change.Boundary)
	}
}

// confirm asks a question whose answer must be yes; otherwise it says what was not done.
func (a *app) confirm(question, otherwise string) error {
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	lines := bufio.NewScanner(a.stdin)
	if lines.Scan() {
		if answer := strings.ToLower(strings.TrimSpace(lines.Text())); answer == "y" || answer == "yes" {
			return nil
		}
	}
	return errors.New(otherwise)
}
