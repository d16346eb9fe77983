// Command mutants shows that the simulator sees: it plants faults in the code, one
// at a time, and simulates until each is found.
//
//	go run ./internal/sim/mutants              all of them
//	go run ./internal/sim/mutants late row     those with these words in their names
//
// The code itself is not touched: each mutant is built with an overlay. A mutant
// whose text is not found exactly once in its file is an error, for then the code
// has moved on. The exit status is 1 if a mutant was not found.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/sim"
)

var (
	inside = flag.Bool("inside", false, "simulate with the code as it is, until a breach (what a mutant is run with)")
	seeds  = flag.Uint64("seeds", 300, "give a mutant up after so many seeds")
)

func main() {
	flag.Parse()
	if *inside {
		hunt()
		return
	}
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// A catch is what a mutant came to.
type catch struct {
	Seed      uint64 // 0: not found
	Invariant string
	What      string
	seconds   float64
}

// hunt simulates seed after seed and writes the first breach, if there is one.
func hunt() {
	object.DebugBuffers()
	var c catch
	for seed := uint64(1); seed <= *seeds && c.Seed == 0; seed++ {
		if b := sim.Run(sim.Config{Seed: seed}).Breach; b != nil {
			what, _, _ := strings.Cut(b.What, "\n")
			c = catch{Seed: seed, Invariant: b.Invariant, What: what}
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(c)
}

func run(words []string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "mayfly-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "MUTANT\tFOUND BY\tSEED\tSECONDS\tHOW IT SHOWED")
	missed, tried := 0, 0
	var faults []error
	for _, m := range mutants {
		if !m.named(words) {
			continue
		}
		tried++
		c, err := m.try(root, work)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%q: %w", m.name, err))
		case c.Seed == 0:
			missed++
			fmt.Fprintf(out, "%s\tNOT FOUND\t\t%.1f\t\n", m.name, c.seconds)
		default:
			fmt.Fprintf(out, "%s\t%s\t%d\t%.1f\t%.90s\n", m.name, c.Invariant, c.Seed, c.seconds, c.What)
		}
		fmt.Fprintf(os.Stderr, "%d: %s: %s\n", tried, m.name, c.Invariant)
	}
	out.Flush()
	switch {
	case len(faults) > 0:
		return errors.Join(faults...)
	case tried == 0:
		return fmt.Errorf("no mutant has the words %q in its name", words)
	case missed > 0:
		return fmt.Errorf("%d of %d mutants were not found", missed, tried)
	}
	fmt.Printf("%d mutants, all found\n", tried)
	return nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("run it inside the repository")
	}
	return filepath.Dir(file), nil
}

func (m *mutant) named(words []string) bool {
	for _, w := range words {
		if !strings.Contains(m.name, w) {
			return false
		}
	}
	return true
}

// try builds the simulator with the mutant in it and runs it.
func (m *mutant) try(root, work string) (c catch, err error) {
	overlay, err := m.overlay(root, work)
	if err != nil {
		return c, err
	}
	program := filepath.Join(work, "mutant")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./internal/sim/mutants")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return c, fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	begun := time.Now()
	hunt := exec.Command(program, "-inside", "-seeds", fmt.Sprint(*seeds))
	var said, complained bytes.Buffer
	hunt.Stdout, hunt.Stderr = &said, &complained
	err = hunt.Run()
	c.seconds = time.Since(begun).Seconds()
	if err != nil { // it brought the program down, which is a way to be found
		line, _, _ := strings.Cut(complained.String(), "\n")
		return catch{Seed: 1, Invariant: "crash", What: line, seconds: c.seconds}, nil
	}
	if err := json.Unmarshal(said.Bytes(), &c); err != nil {
		return c, fmt.Errorf("what it said cannot be read: %w", err)
	}
	return c, nil
}

// overlay writes the changed file, and the file that tells the go command of it.
func (m *mutant) overlay(root, work string) (string, error) {
	path := filepath.Join(root, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(source, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("its text is %d times in %s, not once: the code has moved on, and the mutant must follow", n, m.file)
	}
	changed := filepath.Join(work, "changed.go")
	if err := os.WriteFile(changed, bytes.Replace(source, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}
