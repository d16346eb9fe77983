package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
)

// TestTTLs: what a shorter TTL hides is told with numbers and asked for; one by which
// nothing could be read, of a bucket that nobody declared, or that is none, is
// refused.
func TestTTLs(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.refuses([]badInput{
		{"ttl events 1h", 2, `events would keep 1h instead of 10d: what is older than 2026-11-29 00:00:00 UTC is hidden at once and unlinked, and does not come back (at most 8.0 MiB of timed data, in 1 slot). There is nobody to ask: add --yes to do it`},
		{"bucket set events --ttl 1h", 2, `events would keep 1h instead of 10d: what is older than 2026-11-29 00:00:00 UTC is hidden at once and unlinked, and does not come back (at most 8.0 MiB of timed data, in 1 slot). There is nobody to ask: add --yes to do it`},
		{"bucket set notes --ttl 1h", 2, `notes would keep 1h instead of for ever: what is older than 2026-11-29 00:00:00 UTC is hidden at once and unlinked, and does not come back (how much that is is not known of a plain bucket). There is nobody to ask: add --yes to do it`},
		{"ttl events 19s --yes", 2, `a TTL of 19s is too short for events: a second may take 20s to be complete (ahead, skew and lateness of "mayfly cluster settings"), and would expire before`},
		{"bucket set x --timed --empty --ttl 1s", 2, `a TTL of 1s is too short for x: a second may take 20s to be complete (ahead, skew and lateness of "mayfly cluster settings"), and would expire before`},
		{"ttl evnets 8d", 2, `there is no bucket "evnets"; did you mean "events"? "mayfly cluster bucket set --type default evnets --ttl 8d" declares it`},
		{"ttl epochs 1d", 2, `bucket "epochs": ttl_seconds is always that of "events"; set it there`},
		{"ttl events soon", 2, `the TTL "soon" is not a number of whole seconds up to 36600d; write one like 10d, 36h or 90s; 0s is for ever`},
		{"ttl events 36601d", 2, `the TTL "36601d" is not a number of whole seconds up to 36600d; write one like 10d, 36h or 90s; 0s is for ever`},
		{"ttl events -8d", 2, `there is no flag -8, and nothing here can be negative; "mayfly cluster ttl --help" explains`},
		{"ttl a b c", 2, `ttl takes at most the name of a bucket and its TTL; "c" is too much; "mayfly cluster ttl --help" explains`},
	})
	f.reports[fakeID(2)], f.reports[fakeID(3)] = memberReport{err: errors.New("gone")}, memberReport{err: errors.New("gone")}
	f.refuses([]badInput{{"ttl events 9d", 2, `events would keep 9d instead of 10d: what is older than 2026-11-20 01:00:00 UTC is hidden at once and unlinked, and does not come back (at most 0 B of timed data, in 0 slots, and what n2, n3 may have besides: no answer). There is nobody to ask: add --yes to do it`}})
	if len(f.proposed) != 0 {
		t.Errorf("proposed: %+v", f.proposed)
	}
	f = newFakeAdmin(t, 3)
	for _, c := range []struct{ args, want string }{
		{"ttl events 9d", "BUCKET  TTL\nevents  9d"}, // nothing that is stored is as old
		{"ttl events 1h --yes", "BUCKET  TTL\nevents  1h"},
		{"ttl events 1h", "BUCKET  TTL\nevents  1h"},
		{"ttl events 20d", "BUCKET  TTL\nevents  20d"},
		{"ttl events 0s", "BUCKET  TTL\nevents  for ever"},
		{"bucket set timed --timed --ttl 1h --empty", "timed: --timed=true --write-once=false --ttl 1h --n 3 --r 2 --w 2 --sync interval --max-value 50MiB"},
	} {
		same(t, f.must(strings.Fields(c.args)...), c.want)
	}
}

// Reads may miss what is acknowledged: that is said, once.
func TestNarrowQuorums(t *testing.T) {
	f := newFakeAdmin(t, 3)
	const note = "note: r and w together are not more than n: a read may miss what has just been acknowledged\n"
	for _, want := range []string{note, ""} {
		if r := f.run("bucket", "set", "events", "--r", "1"); r.status != 0 || r.stderr != want {
			t.Errorf("status %d, %q, want %q", r.status, r.stderr, want)
		}
	}
	if p := f.doc.Buckets.Lookup(bucket.DefaultType, bucket.Events); p.R != 1 {
		t.Errorf("%+v", p)
	}
	f.apply(agreed.Command{Kind: agreed.Clear})
}
