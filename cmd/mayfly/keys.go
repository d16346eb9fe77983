package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

const keysLong = `keys lists the blobs of a second from its index: of one data centre, or of all
that the node knows. A second is Unix time, "now", "now-10s", or a time like
2025-11-21T08:00:00Z; SECOND:DC is taken as well.

One key a line is printed; --long prints a table with writers, sizes and flags,
--json the whole index row, one object a data centre: who wrote what, and which
writer said hello, final and goodbye. Erased blobs appear in these two only.`

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys SECOND [DC]",
		GroupID: groupData,
		Short:   "list the blobs of a second",
		Long:    keysLong,
		Example: `  mayfly keys now-10s
  mayfly keys 1763712000 ams
  mayfly keys --long 1763712000:ams
  mayfly keys now-1m | xargs -n 1 mayfly get
  mayfly keys --json 1763712000 ams | jq '.writers[].final'`,
		Args: takes(1, 2, "a second and perhaps a data centre"),
	}
	s := a.settingsOf(cmd).clientFlags()
	f := cmd.Flags()
	o := keysOptions{
		long:   f.BoolP("long", "l", false, "print a table with sizes, writers and flags"),
		asJSON: f.Bool("json", false, "print the index rows, one JSON object a data centre"),
		late:   f.Bool("late", false, "list what arrived in that second for earlier ones"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := exclusive(cmd, "long", "json"); err != nil {
			return err
		}
		e, err := s.load()
		if err != nil {
			return err
		}
		at, err := secondAndDC(args, time.Now())
		if err != nil {
			return usagef("keys: %w", err)
		}
		at.Late = *o.late
		c, err := connect(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // nothing is under way
		return a.keys(cmd.Context(), c, at, o)
	}
	return cmd
}

type keysOptions struct{ long, asJSON, late *bool }

// secondAndDC reads the arguments of keys; a DC that is not given is "".
func secondAndDC(args []string, now time.Time) (event.IndexKey, error) {
	second, dc := args[0], ""
	if len(args) == 2 {
		dc = args[1]
	} else if i := strings.LastIndexByte(second, ':'); i >= 0 && !strings.ContainsRune(second, 'T') {
		second, dc = second[:i], second[i+1:]
	}
	epoch, err := parseEpoch(second, now)
	if err != nil {
		return event.IndexKey{}, err
	}
	if (dc != "" || len(args) == 2) && !event.ValidName(dc) {
		return event.IndexKey{}, fmt.Errorf("%q is not a data centre; its name has 1 to %d of A-Z a-z 0-9 _ . -", dc, event.MaxNameBytes)
	}
	return event.IndexKey{Epoch: epoch, DC: dc}, nil
}

// keys prints the rows of a second.
func (a *app) keys(ctx context.Context, c *client.Client, at event.IndexKey, o keysOptions) error {
	dcs := []string{at.DC}
	if at.DC == "" {
		info, err := c.Info(ctx)
		if err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		dcs = info.DCs
	}
	var t *table
	if *o.long {
		t = newTable(a.stdout, "key", "events", "bytes", "writer", "flags")
	}
	var faults []error
	for _, dc := range dcs {
		at.DC = dc
		row, certain, err := c.Row(ctx, at)
		if err != nil {
			faults = append(faults, fmt.Errorf("keys of %v: %w", at, err))
			continue
		}
		if !certain {
			faults = append(faults, fmt.Errorf("keys of %v: not enough nodes answered: there may be more", at))
		}
		if err := a.printRow(at, row, certain, t, o); err != nil {
			return err
		}
	}
	if t != nil {
		faults = append(faults, t.flush())
	}
	return errors.Join(faults...)
}

func (a *app) printRow(at event.IndexKey, row index.Row, certain bool, t *table, o keysOptions) error {
	if *o.asJSON {
		r := describeRow(at, row)
		r.Certain = &certain
		return printJSON(a.stdout, r)
	}
	if t != nil {
		for w, e := range row.All() {
			d := describeEntry(at, e)
			t.row(d.Key, fmt.Sprint(d.Events), fmt.Sprint(d.Bytes), w.String(), strings.Join(d.Flags, ","))
		}
		return nil
	}
	for _, e := range row.Blobs() {
		if e.Flags&index.Erased != 0 {
			continue
		}
		key, err := e.Key(at)
		if err != nil {
			return object.Errorf(object.CodeCorrupt, object.NotDone, "keys of %v: %w", at, err)
		}
		if _, err := fmt.Fprintln(a.stdout, key); err != nil {
			return err
		}
	}
	return nil
}
