package main

import (
	"cmp"
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
			return bucketFault(err)
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

A shorter --ttl asks first, as "cluster ttl" does; --yes does not ask.

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
	yes := f.BoolP("yes", "y", false, "do not ask when the TTL gets shorter")
	f.Lookup("ttl").DefValue = "" // as it is
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
			if size < 1 || size > bucket.MaxValueBytes {
				return usagef("--max-value: %v is not from 1B to %v", size, config.Size(bucket.MaxValueBytes))
			}
			d.MaxValueBytes = new(int64(size))
		}
		if *ttl%time.Second != 0 {
			return usagef("--ttl: %v is not whole seconds", config.Duration(*ttl))
		}
		if f.Changed("n") && (*n < 1 || *n > bucket.MaxN) {
			return usagef("--n: %d is not from 1 to %d", *n, bucket.MaxN)
		}
		return r.setBucket(ctx, d, *empty, *yes)
	})
}

// setBucket declares a bucket, and shows what it promises then.
func (r *clusterRun) setBucket(ctx context.Context, declaration bucket.Declaration, empty, yes bool) error {
	before, err := r.document(ctx)
	if err != nil {
		return err
	}
	p, err := declared(before, declaration)
	if err != nil {
		return err
	}
	old := before.Buckets.Lookup(p.Type, p.Name)
	if !empty && old.CheckChange(p) != nil {
		return fmt.Errorf("%s: what the first put fixes would change (%s). If you know that the bucket holds nothing, add --empty; if not, put into another one",
			bucketText(p), fixedText(old, p))
	}
	if err := r.confirmTTL(ctx, before, p, yes || empty); err != nil {
		return err
	}
	doc, result, err := r.propose(ctx, agreed.Command{Kind: agreed.SetBucket, Bucket: p, Empty: empty})
	if err != nil {
		return err
	}
	if p.R+p.W <= p.N && p != old {
		fmt.Fprintf(r.stderr, "note: r and w together are not more than n: a read may miss what has just been acknowledged\n")
	}
	for _, n := range result.Notes {
		fmt.Fprintf(r.stderr, "note: %s\n", n)
	}
	return r.showBucket(doc, doc.Buckets.Lookup(p.Type, p.Name))
}

// declared returns what a bucket promises once it is declared so. An error is one of
// usage.
func declared(d *agreed.Document, declaration bucket.Declaration) (bucket.Properties, error) {
	set, err := d.Buckets.Declare(declaration)
	if err != nil {
		return bucket.Properties{}, bucketFault(err)
	}
	return set.Lookup(cmp.Or(declaration.Type, bucket.DefaultType), declaration.Name), nil
}

// bucketFault is an error of usage without the kind that errors of a bucket end in,
// which is for programs.
func bucketFault(err error) error {
	return usagef("%s", strings.ReplaceAll(err.Error(), ": "+bucket.ErrInvalid.Error(), ""))
}

// fixedText names what differs of what the first put fixes.
func fixedText(a, b bucket.Properties) string {
	var parts []string
	if a.Timed != b.Timed {
		parts = append(parts, fmt.Sprintf("--timed=%t to %t", a.Timed, b.Timed))
	}
	if a.WriteOnce != b.WriteOnce {
		parts = append(parts, fmt.Sprintf("--write-once=%t to %t", a.WriteOnce, b.WriteOnce))
	}
	if a.N != b.N {
		parts = append(parts, fmt.Sprintf("--n %d to %d", a.N, b.N))
	}
	return strings.Join(parts, ", ")
}
