package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/config"
)

func (a *app) clusterSettingsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "settings",
		GroupID: groupBuckets,
		Short:   "show or set what all nodes must have the same of",
		Long: `settings prints what all nodes must agree on about time; with flags it sets it, on
all nodes: ahead, skew and lead count at once, lateness when a node is next
started. What a node's own configuration says of these counts only when it founds
a cluster. The length of slots never changes.

  ahead     how far ahead of a node's clock the second of an event may be
  skew      by how much a node's clock may be ahead of the agreed time
  lead      how long members have at least for their promises: a change of members
            counts from a slot that is later than now by ahead, skew and lead
  lateness  how long writers are waited for before a second is incomplete`,
		Example: `  mayfly cluster settings
  mayfly cluster settings --lead 2m          # members have longer to promise
  mayfly cluster settings --json | jq .slot_seconds`,
		Args: noArguments(),
	}
	f := cmd.Flags()
	fields := map[string]func(*agreed.Settings) *int64{
		"ahead":    func(s *agreed.Settings) *int64 { return &s.AheadSeconds },
		"skew":     func(s *agreed.Settings) *int64 { return &s.SkewSeconds },
		"lead":     func(s *agreed.Settings) *int64 { return &s.LeadSeconds },
		"lateness": func(s *agreed.Settings) *int64 { return &s.LatenessSeconds },
	}
	given := map[string]*time.Duration{
		"ahead":    durationVar(f, "ahead", 0, "how far ahead the second of an event may be"),
		"skew":     durationVar(f, "skew", 0, "by how much a clock may be ahead"),
		"lead":     durationVar(f, "lead", 0, "how long members have for their promises"),
		"lateness": durationVar(f, "lateness", 0, "how long writers are waited for"),
	}
	for name := range given {
		f.Lookup(name).DefValue = "" // as it is
	}
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, _ []string) error {
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		next := d.Settings
		for name, field := range fields {
			if !f.Changed(name) {
				continue
			}
			if *given[name]%time.Second != 0 {
				return usagef("--%s: %v is not whole seconds", name, config.Duration(*given[name]))
			}
			*field(&next) = int64(*given[name] / time.Second)
		}
		if next != d.Settings {
			if d, _, err = r.propose(ctx, agreed.Command{Kind: agreed.SetSettings, Settings: next}); err != nil {
				return err
			}
		}
		return r.showSettings(d)
	})
}

func (r *clusterRun) showSettings(d *agreed.Document) error {
	s := d.Settings
	if r.asJSON {
		return printJSON(r.stdout, struct {
			Version  string `json:"version"`
			Slot     int64  `json:"slot_seconds"`
			Ahead    int64  `json:"ahead_seconds"`
			Skew     int64  `json:"skew_seconds"`
			Lead     int64  `json:"lead_seconds"`
			Lateness int64  `json:"lateness_seconds"`
		}{d.Version.String(), s.SlotSeconds, s.AheadSeconds, s.SkewSeconds, s.LeadSeconds, s.LatenessSeconds})
	}
	t := newTable(r.stdout, "slot", "ahead", "skew", "lead", "lateness")
	var cells []string
	for _, seconds := range []int64{s.SlotSeconds, s.AheadSeconds, s.SkewSeconds, s.LeadSeconds, s.LatenessSeconds} {
		cells = append(cells, fmt.Sprint(config.Duration(time.Duration(seconds)*time.Second)))
	}
	t.row(cells...)
	return t.flush()
}
