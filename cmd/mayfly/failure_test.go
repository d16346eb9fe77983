package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// TestFailuresAsJSON: with --json a command of the cluster prints one object, whatever
// came of it, and the sentence on standard error.
func TestFailuresAsJSON(t *testing.T) {
	f := newFakeAdmin(t, 3)
	for _, i := range []int{1, 2} {
		f.change(i, func(r *memberReport) {
			r.Gaps = []proto.Gap{{Partition: ring.Partition{Bits: 3, Prefix: 1}, From: 498864, Until: 498866}}
		})
	}
	check := func(args, code, outcome string, status int, sentence string) failureJSON {
		t.Helper()
		r := f.run(strings.Fields(args)...)
		var got failed
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%s: %v: %q, %s", args, err, r.stdout, r.stderr)
		}
		e := got.Error
		if r.status != status || e.Status != status || e.Code != code || e.Outcome != outcome || !strings.Contains(e.Message, sentence) || r.stderr != "mayfly: "+e.Message+"\n" {
			t.Errorf("%s: status %d, %+v\n%s", args, r.status, e, r.stderr)
		}
		return e
	}
	check("plan --json", "failed", "not done", 1, "nothing is staged")
	check("join n1 --json", "conflict", "not done", 1, "cannot be asked to join")
	check("weight n9 5 --json", "usage", "not done", 2, `there is no member "n9"`)
	check("weight --json", "usage", "not done", 2, "weight takes the name")
	check("status --nod a:1 --json", "usage", "not done", 2, "there is no flag --nod")
	f.must("remove", "n3", "--lost")
	e := check("plan --json", "conflict", "not done", 1, "would lose the last copy")
	if e.Loss == nil || e.Loss.TimedBytes != 2<<20 || e.Loss.TimedPartitions != 1 || e.Loss.Slots != 2 {
		t.Errorf("the loss is %+v", e.Loss)
	}
	if r := f.run("plan"); r.stdout != "" || r.status != 1 {
		t.Errorf("without --json: %q", r.stdout)
	}
	f.err = object.Errorf(object.CodeUnavailable, object.MaybeDone, "2 of 3 voters do not answer")
	check("clear --json", "unavailable", "maybe done", 1, "2 of 3 voters do not answer")
}

func TestDescribeFailure(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want failureJSON
	}{
		{"any", errors.New("no"), failureJSON{Message: "no", Status: 1, Code: "failed", Outcome: "not done"}},
		{"usage", usagef("no"), failureJSON{Message: "no", Status: 2, Code: "usage", Outcome: "not done"}},
		{"interrupted", context.Canceled, failureJSON{Message: "context canceled", Status: 1, Code: "interrupted", Outcome: "maybe done"}},
		{"a node's", object.Errorf(object.CodeConflict, object.Done, "no"), failureJSON{Message: "no", Status: 1, Code: "conflict", Outcome: "done"}},
	} {
		if got := describeFailure(c.err); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
