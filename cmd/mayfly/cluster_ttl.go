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

func (a *app) clusterTTLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ttl [BUCKET [TTL]]",
		GroupID: groupBuckets,
		Short:   "show or set how long a bucket keeps its objects",
		Long: `ttl shows how long buckets keep their objects, and sets it for one of them, at once
and for all objects, old and new: a shorter TTL hides what is past it with the next
read and gives its disk space back slot by slot; a longer one keeps what has not
been unlinked yet. What is gone stays gone.

It is the first thing to turn when disks fill up. If a shorter TTL hides something
that is stored, it says how much, and asks; where nobody can be asked, in a script,
--yes is required.`,
		Example: `  mayfly cluster ttl
  mayfly cluster ttl events
  mayfly cluster ttl events 8d
  mayfly cluster ttl events 8d --yes           # in a script
  mayfly cluster ttl sessions 0s               # for ever`,
		Args: takes(0, 2, "at most the name of a bucket and its TTL"),
	}
	typ := typeFlag(cmd)
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask when the TTL gets shorter")
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, args []string) error {
		if len(args) == 2 {
			return r.setTTL(ctx, *typ, args[0], args[1], *yes)
		}
		d, err := r.document(ctx)
		if err != nil {
			return err
		}
		return r.showTTLs(d, *typ, strings.Join(args, ""))
	})
}

// setTTL sets the TTL of a bucket that is declared: what is misspelt is nobody's, and
// frees no disk.
func (r *clusterRun) setTTL(ctx context.Context, typ, name, text string, yes bool) error {
	ttl, err := config.ParseDuration(text)
	if seconds := time.Duration(ttl) / time.Second; err != nil || ttl < 0 || time.Duration(ttl)%time.Second != 0 || seconds > bucket.MaxTTLSeconds {
		return usagef("the TTL %q is not a number of whole seconds up to %v; write one like 10d, 36h or 90s; 0s is for ever", text, config.Duration(bucket.MaxTTLSeconds*time.Second))
	}
	if err := bucket.CheckNames(typ, name); err != nil {
		return bucketFault(err)
	}
	d, err := r.document(ctx)
	if err != nil {
		return err
	}
	old := d.Buckets.Lookup(typ, name)
	if !d.Buckets.Declared(typ, name) {
		return usagef("there is no bucket %q; did you mean %q? \"mayfly cluster bucket set --type %s %s --ttl %s\" declares it", bucketText(old), nearestBucket(d, old), typ, name, text)
	}
	p, err := declared(d, bucket.Declaration{Type: typ, Name: name, TTLSeconds: new(int64(time.Duration(ttl) / time.Second))})
	if err != nil {
		return err
	}
	if err := r.confirmTTL(ctx, d, p, yes); err != nil {
		return err
	}
	d, _, err = r.propose(ctx, agreed.Command{Kind: agreed.SetTTL, Bucket: bucket.Properties{Type: typ, Name: name, TTLSeconds: p.TTLSeconds}})
	if err != nil {
		return err
	}
	return r.showTTLs(d, typ, name)
}

func nearestBucket(d *agreed.Document, p bucket.Properties) string {
	var names []string
	for b := range d.Buckets.All() {
		names = append(names, bucketText(b))
	}
	return config.Nearest(bucketText(p), names)
}

// confirmTTL refuses a TTL by which seconds would expire before they are complete,
// and asks before one that hides what is shown now.
func (r *clusterRun) confirmTTL(ctx context.Context, d *agreed.Document, next bucket.Properties, yes bool) error {
	old, ttl := d.Buckets.Lookup(next.Type, next.Name), next.TTLSeconds
	if ttl == 0 || ttl == old.TTLSeconds {
		return nil
	}
	s := d.Settings
	if least := s.AheadSeconds + s.SkewSeconds + s.LatenessSeconds; next.Timed && ttl < least {
		return usagef("a TTL of %s is too short for %s: a second may take %s to be complete (ahead, skew and lateness of \"mayfly cluster settings\"), and would expire before",
			ttlText(ttl), bucketText(next), ttlText(least))
	}
	if yes || old.TTLSeconds != 0 && old.TTLSeconds < ttl {
		return nil
	}
	hides, some := r.lookAt(ctx, d).hides(old, ttl)
	if !some {
		return nil
	}
	if !isTerminal(r.stdin) {
		return usagef("%s. There is nobody to ask: add --yes to do it", hides)
	}
	fmt.Fprintf(r.stderr, "%s.", hides)
	return r.confirm("\ndo it?", "nothing was changed")
}

// hides says what a shorter TTL of a bucket hides, and whether that may be anything,
// as far as the members that answer can tell: they count the data of all timed
// buckets together.
func (p *picture) hides(b bucket.Properties, ttl int64) (text string, some bool) {
	past := p.now - ttl
	what := "how much that is is not known of a plain bucket"
	some = true
	if b.Timed {
		var bytes uint64
		slots := map[int64]bool{}
		for at, n := range p.stored() {
			if at.timed && at.slot*p.doc.Settings.SlotSeconds < past {
				bytes, slots[at.slot] = bytes+n, true
			}
		}
		what = fmt.Sprintf("at most %s of timed data, in %s", bytesText(int64(bytes)), plural(int64(len(slots)), "slot"))
		unheard := p.unheard()
		if len(unheard) > 0 {
			what += ", and what " + strings.Join(unheard, ", ") + " may have besides: no answer"
		}
		some = len(slots)+len(unheard) > 0
	}
	text = fmt.Sprintf("%s would keep %s instead of %s: what is older than %s is hidden at once and unlinked, and does not come back (%s)",
		bucketText(b), ttlText(ttl), ttlText(b.TTLSeconds), clockText(past), what)
	return text, some
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
