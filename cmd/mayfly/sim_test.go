package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSim(t *testing.T) {
	r := mayfly(t, "sim", "--seeds", "2", "--ops", "60", "--json")
	var report simReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if report.Seeds != 2 || report.FewestOps < 60 || report.Ops.Total() < 120 || report.Faults.Total() == 0 || len(report.Breaches) != 0 {
		t.Errorf("%+v", report)
	}
	one := mayfly(t, "sim", "--seed", "9", "--ops", "60", "--trace")
	two := mayfly(t, "sim", "--seed", "9", "--ops", "60", "--trace")
	if one.status != 0 || one.stdout != two.stdout || !strings.Contains(one.stdout, "HEALED") || !strings.Contains(one.stdout, "\ntrace ") {
		t.Errorf("status %d, the same twice: %v", one.status, one.stdout == two.stdout)
	}
	if r := mayfly(t, "sim", "--seed", "9", "--ops", "60"); r.status != 0 || !strings.Contains(r.stdout, "every promise was kept") || !strings.Contains(r.stdout, "OPERATION") {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
}

func TestSimRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"sim --trace", "name it with --seed"},
		{"sim --seed 1 --trace --json", "choose one"},
		{"sim --seeds 0", "at least 1"},
		{"sim --ops 0", "at least 1"},
		{"sim --parallel 0", "at least 1"},
		{"sim 7", "takes no arguments"},
	} {
		if r := mayfly(t, strings.Fields(c.args)...); r.status != exitUsage || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: status %d, %s", c.args, r.status, r.stderr)
		}
	}
}
