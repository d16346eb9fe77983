package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/config"
)

func (a *app) clusterBucketCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bucket",
		GroupID: groupBuckets,
		Short:   "list, show and set what buckets promise",
		Long: `bucket lists the declared buckets, shows one, or sets properties of one. What is set
counts on all nodes at once, and needs no plan. A bucket that nobody declared is a
plain one that keeps everything.

The settings [[bucket]] of a node count only when a cluster is founded: from then
on the buckets are agreed, and are changed here.`,
		Example: `  mayfly cluster bucket list
  mayfly cluster bucket set sessions --timed --ttl 2d --empty
  mayfly cluster bucket show sessions`,
		Args: a.noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(&cobra.Group{ID: groupBuckets, Title: "Buckets:"})
	cmd.AddCommand(a.bucketListCommand(), a.bucketShowCommand(), a.bucketSetCommand())
	return cmd
}

func (a *app) bucketListCommand() *cobra.Command {
	return a.clusterSub(&cobra.Command{
		Use:     "list",
		GroupID: groupBuckets,
		Short:   "list the declared buckets",
		Long:    `list prints the declared buckets with what they promise, one a line.`,
		Example: `  mayfly cluster bucket list
  mayfly cluster bucket list --json | jq -r '.buckets[].name'`,
		Args: noArguments(),
	}, func(ctx context.Context, r *clusterRun, _ []string) error {
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		all := []bucket.Properties{}
		for p := range d.Buckets.All() {
			all = append(all, p)
		}
		if r.asJSON {
			return printJSON(r.stdout, struct {
				Version string              `json:"version"`
				Buckets []bucket.Properties `json:"buckets"`
			}{d.Version.String(), all})
		}
		t := newTable(r.stdout, "bucket", "time", "write-once", "ttl", "n", "r", "w", "sync", "max-value")
		for _, p := range all {
			kind := "plain"
			if p.Timed {
				kind = "timed"
			}
			t.row(bucketText(p), kind, yesNo(p.WriteOnce), ttlText(p.TTLSeconds), fmt.Sprint(p.N), fmt.Sprint(p.R), fmt.Sprint(p.W), string(p.Sync), bytesText(p.MaxValueBytes))
		}
		return t.flush()
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// bucketText names a bucket, with its type where that is not the default one.
func bucketText(p bucket.Properties) string {
	if p.Type == bucket.DefaultType {
		return p.Name
	}
	return p.Type + "/" + p.Name
}

func ttlText(seconds int64) string {
	if seconds == 0 {
		return "for ever"
	}
	return config.Duration(time.Duration(seconds) * time.Second).String()
}

// typeFlag declares the flag for the type of a bucket that is an argument.
func typeFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("type", bucket.DefaultType, "the bucket's type")
}

func (a *app) bucketShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show BUCKET",
		GroupID: groupBuckets,
		Short:   "show what a bucket promises",
		Long: `show prints all properties of one bucket, declared or not, in the form that "bucket
set" takes.`,
		Example: `  mayfly cluster bucket show events
  mayfly cluster bucket show --type web sessions --json`,
		Args: takes(1, 1, "the name of a bucket"),
	}
	typ := typeFlag(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		if err := bucket.CheckNames(*typ, args[0]); err != nil {
			return usageError{err}
		}
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		return r.showBucket(d, d.Buckets.Lookup(*typ, args[0]))
	})
}

func (r *clusterRun) showBucket(d *agreed.Document, p bucket.Properties) error {
	if r.asJSON {
		return printJSON(r.stdout, p)
	}
	declared := ""
	if !d.Buckets.Declared(p.Type, p.Name) {
		declared = " (not declared: this is what every such bucket promises)"
	}
	_, err := fmt.Fprintf(r.stdout, "%s%s: --timed=%t --write-once=%t --ttl %s --n %d --r %d --w %d --sync %s --max-value %v\n",
		bucketText(p), declared, p.Timed, p.WriteOnce, config.Duration(time.Duration(p.TTLSeconds)*time.Second), p.N, p.R, p.W, p.Sync, config.Size(p.MaxValueBytes))
	return err
}

func (a *app) bucketSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set BUCKET",
		GroupID: groupBuckets,
		Short:   "declare a bucket, or change what it promises",
		Long: `set changes the properties of one bucket that are given, and leaves the others; of a
bucket that is not declared it declares it. Where --n is given and --r or --w is
not, these become the majority of it.

--timed, --write-once and --n are fixed by the first put, also in a bucket that was
never declared: they are taken only with --empty, with which you say that you know
that the bucket holds nothing. Declare a bucket before anything is put into it.

The index epochs has the TTL of events: set that of events.`,
		Example: `  mayfly cluster bucket set sessions --timed --ttl 2d --empty
  mayfly cluster bucket set events --sync always
  mayfly cluster bucket set --type web carts --n 5 --max-value 1MiB --empty`,
		Args: takes(1, 1, "the name of a bucket"),
	}
	f := cmd.Flags()
	typ := typeFlag(cmd)
	timed := f.Bool("timed", false, "keys begin with <epoch>: and objects live and expire by that second")
	writeOnce := f.Bool("write-once", false, "a key takes one value, ever")
	ttl := durationVar(f, "ttl", 0, "how long an object lives; 0s is for ever")
	n := f.Int("n", 0, "copies of each object")
	read := f.Int("r", 0, "copies asked before a read is answered")
	write := f.Int("w", 0, "copies stored before a write is acknowledged")
	sync := f.String("sync", "", "when records are synced to disk: none, interval or always")
	maxValue := f.String("max-value", "", "the largest value taken, as in 1MiB")
	empty := f.Bool("empty", false, "the bucket holds nothing: what the first put fixes may be set")
	complete(cmd, "sync", string(bucket.SyncNone), string(bucket.SyncInterval), string(bucket.SyncAlways))
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		d := bucket.Declaration{Type: *typ, Name: args[0]}
		for name, take := range map[string]func(){
			"timed": func() { d.Timed = timed }, "write-once": func() { d.WriteOnce = writeOnce },
			"ttl": func() { d.TTLSeconds = new(int64(*ttl / time.Second)) },
			"n":   func() { d.N = n }, "r": func() { d.R = read }, "w": func() { d.W = write },
			"sync": func() { d.Sync = new(bucket.Sync(*sync)) },
		} {
			if f.Changed(name) {
				take()
			}
		}
		if f.Changed("max-value") {
			size, err := config.ParseSize(*maxValue)
			if err != nil {
				return usagef("--max-value: %w", err)
			}
			d.MaxValueBytes = new(int64(size))
		}
		if *ttl%time.Second != 0 {
			return usagef("--ttl: %v is not whole seconds", config.Duration(*ttl))
		}
		return r.setBucket(ctx, d, *empty)
	})
}

// setBucket declares a bucket, and shows what it promises then.
func (r *clusterRun) setBucket(ctx context.Context, declaration bucket.Declaration, empty bool) error {
	before, err := r.document(ctx)
	if err != nil {
		return err
	}
	set, err := before.Buckets.Declare(declaration)
	if err != nil {
		return usageError{err}
	}
	p := set.Lookup(declaration.Type, declaration.Name)
	doc, result, err := r.propose(ctx, agreed.Command{Kind: agreed.SetBucket, Bucket: p, Empty: empty})
	if old := before.Buckets.Lookup(p.Type, p.Name); err != nil && !empty && old.CheckChange(p) != nil {
		return fmt.Errorf("%w; if you know that it holds nothing, add --empty", err)
	}
	if err != nil {
		return err
	}
	for _, n := range result.Notes {
		fmt.Fprintf(r.stderr, "note: %s\n", n)
	}
	return r.showBucket(doc, doc.Buckets.Lookup(p.Type, p.Name))
}

func (a *app) clusterTTLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ttl [BUCKET [TTL]]",
		GroupID: groupBuckets,
		Short:   "show or set how long a bucket keeps its objects",
		Long: `ttl shows how long buckets keep their objects, and sets it for one of them, at once
and for all objects, old and new: a shorter TTL hides what is past it with the next
read and gives its disk space back slot by slot; a longer one keeps what has not
been unlinked yet. What is gone stays gone.

It is the first thing to turn when disks fill up.`,
		Example: `  mayfly cluster ttl
  mayfly cluster ttl events
  mayfly cluster ttl events 8d
  mayfly cluster ttl sessions 0s               # for ever`,
		Args: takes(0, 2, "perhaps a bucket and its TTL"),
	}
	typ := typeFlag(cmd)
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		var ttl config.Duration
		if len(args) == 2 {
			var err error
			if ttl, err = config.ParseDuration(args[1]); err != nil || ttl < 0 || time.Duration(ttl)%time.Second != 0 {
				return usagef("the TTL %q is not a number of whole seconds; write one like 10d, 36h or 90s; 0s is for ever", args[1])
			}
		}
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		if len(args) == 2 {
			p := bucket.Properties{Type: *typ, Name: args[0], TTLSeconds: int64(time.Duration(ttl) / time.Second)}
			if d, _, err = r.propose(ctx, agreed.Command{Kind: agreed.SetTTL, Bucket: p}); err != nil {
				return err
			}
		}
		return r.showTTLs(d, *typ, strings.Join(args[:min(1, len(args))], ""))
	})
}

// showTTLs prints the TTL of one bucket, or of all that are declared.
func (r *clusterRun) showTTLs(d *agreed.Document, typ, name string) error {
	type ttlJSON struct {
		Type       string `json:"type"`
		Name       string `json:"name"`
		TTLSeconds int64  `json:"ttl_seconds"` // 0: for ever
	}
	all := []ttlJSON{}
	t := newTable(r.stdout, "bucket", "ttl")
	add := func(p bucket.Properties) {
		all = append(all, ttlJSON{p.Type, p.Name, p.TTLSeconds})
		t.row(bucketText(p), ttlText(p.TTLSeconds))
	}
	if name != "" {
		add(d.Buckets.Lookup(typ, name))
	} else {
		for p := range d.Buckets.All() {
			add(p)
		}
	}
	if r.asJSON {
		return printJSON(r.stdout, struct {
			Version string    `json:"version"`
			Buckets []ttlJSON `json:"buckets"`
		}{d.Version.String(), all})
	}
	return t.flush()
}
