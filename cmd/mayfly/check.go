package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

const checkLong = `check reads a data directory and holds it against every promise of the format:
each byte of each segment under its checksum, each hint against its segment,
each manifest against the files, each record in its slot and partition. It
changes nothing. The node must be stopped: files in use change under the reader.

A finding is damage (bytes are not what was written, or are missing) or a note
(what a crash leaves behind and the next start clears away). A node starts on a
damaged directory and serves the rest.

Exit status 0: no damage. 1: damage, or the directory could not be checked.`

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check DIRECTORY...",
		GroupID: groupLook,
		Short:   "verify the data directory of a stopped node",
		Long:    checkLong,
		Example: `  mayfly check ./mayfly-data
  mayfly check /d1 /d2                       # a node with two disks
  mayfly check --quick /var/lib/mayfly       # without reading the values
  mayfly check --json ./mayfly-data | jq -c 'select(.severity == "damage")'`,
		Args: takes(1, 1<<10, "one or more data directories"),
	}
	quick := cmd.Flags().Bool("quick", false, "do not read values: frames, headers and indexes only")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a finding, then one with totals")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		damaged := false
		var faults []error
		for _, dir := range args {
			totals, err := a.check(dir, *quick, *asJSON)
			faults = append(faults, err) // one that cannot be read keeps no other from being checked
			damaged = damaged || totals.Damage > 0
		}
		if err := errors.Join(faults...); err != nil {
			return err
		}
		if damaged {
			return errSilent // the findings were printed
		}
		return nil
	}
	return cmd
}

// A findingJSON is one finding as check prints it.
type findingJSON struct {
	Directory string `json:"directory"`
	Severity  string `json:"severity"`
	File      string `json:"file"`
	Offset    int64  `json:"offset"`
	Bytes     int64  `json:"bytes"`
	What      string `json:"what"`
}

// A totalsJSON ends the output of check for a directory.
type totalsJSON struct {
	Directory string `json:"directory"`
	Totals    struct {
		Partitions int64 `json:"partitions"`
		Segments   int64 `json:"segments"`
		Sealed     int64 `json:"sealed"`
		Records    int64 `json:"records"`
		Bytes      int64 `json:"bytes"`
		Damage     int64 `json:"damage"`
		Notes      int64 `json:"notes"`
	} `json:"totals"`
}

func (a *app) check(dir string, quick, asJSON bool) (bitcask.Totals, error) {
	fsys, err := openData(dir)
	if err != nil {
		return bitcask.Totals{}, err
	}
	defer fsys.Close() //nolint:errcheck // it was only read
	bar := newProgress(a.stderr, "checking", 0)
	var written error
	totals, err := bitcask.Check(fsys, bitcask.CheckOptions{
		Hash: ring.Hash[[]byte, []byte], BootID: vfs.BootID(), SkipValues: quick,
		Progress: func(done, total int64) { bar.setTotal(total); bar.set(done) },
	}, func(f bitcask.Finding) bool {
		written = a.printFinding(dir, f, asJSON)
		return written == nil
	})
	bar.done()
	if err := errors.Join(err, written); err != nil {
		return totals, fmt.Errorf("check %s: %w", dir, err)
	}
	return totals, a.printTotals(dir, totals, asJSON)
}

func (a *app) printFinding(dir string, f bitcask.Finding, asJSON bool) error {
	if asJSON {
		return printJSON(a.stdout, findingJSON{dir, f.Severity.String(), f.File, f.Offset, f.Bytes, f.What})
	}
	where := ""
	if f.Offset != 0 || f.Bytes != 0 { // not the file as such
		where = fmt.Sprintf(" offset %d, %s:", f.Offset, plural(f.Bytes, "byte"))
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s:%s %s\n", f.Severity, f.File, where, f.What)
	return err
}

func (a *app) printTotals(dir string, t bitcask.Totals, asJSON bool) error {
	if asJSON {
		j := totalsJSON{Directory: dir}
		j.Totals.Partitions, j.Totals.Segments, j.Totals.Sealed = t.Partitions, t.Segments, t.Sealed
		j.Totals.Records, j.Totals.Bytes, j.Totals.Damage, j.Totals.Notes = t.Records, t.Bytes, t.Damage, t.Notes
		return printJSON(a.stdout, j)
	}
	verdict := "no damage"
	if t.Damage > 0 {
		verdict = "DAMAGED in " + plural(t.Damage, "place")
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s; %s (%s sealed), %s, %s in %s; %s\n", dir, verdict,
		plural(t.Segments, "segment"), countText(uint64(t.Sealed)), plural(t.Records, "record"), bytesText(t.Bytes), plural(t.Partitions, "partition"), plural(t.Notes, "note"))
	return err
}

// openData opens a directory that is to be read as a data directory.
func openData(dir string) (*vfs.Dir, error) {
	fsys, err := vfs.OpenDir(dir)
	if vfs.IsNotExist(err) {
		return nil, fmt.Errorf("there is no directory %s: give the one that \"mayfly serve --data\" was given", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return fsys, nil
}
