package main

import (
	"testing"
)

// TestMutantsApply: every mutant still finds its text, and changes it.
func TestMutantsApply(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range mutants {
		if m.old == m.new || names[m.name] {
			t.Errorf("%q changes nothing, or is there twice", m.name)
		}
		names[m.name] = true
		if _, err := m.overlay(root, t.TempDir()); err != nil {
			t.Errorf("%q: %v", m.name, err)
		}
	}
	if len(mutants) < 10 {
		t.Errorf("%d mutants: at least ten", len(mutants))
	}
}
