package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/vfs"
)

const dumpLong = `dump prints every record of a data directory, one JSON object a line, file by
file in the order they were appended: also those that newer ones have replaced,
tombstones, and the deltas of the index. With --values it decodes what they
hold: events, index rows, text, or base64.

It changes nothing, and may run while the node does; it then sees what is in
the files. What is no record is reported with file and offset on standard error,
and the rest is printed.

Exit status 0: every byte was a record. 1: some were not.`

func (a *app) dumpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dump DIRECTORY...",
		GroupID: groupLook,
		Short:   "print the records of a data directory as JSON lines",
		Long:    dumpLong,
		Example: `  mayfly dump ./mayfly-data
  mayfly dump --bucket events --epoch 1763712000 --values ./mayfly-data
  mayfly dump --key 1763712000:ams:WEB: ./mayfly-data | jq -r .key
  mayfly dump ./mayfly-data | jq -s 'map(.bytes) | add'`,
		Args: takes(1, 1<<10, "one or more data directories"),
	}
	f := cmd.Flags()
	o := dumpOptions{
		file:   f.String("file", "", "only this file, relative to the directory, as check names it"),
		bucket: f.String("bucket", "", "only this bucket"),
		typ:    f.String("type", "", "only buckets of this type"),
		key:    f.String("key", "", "only keys that begin so"),
		epoch:  f.Int64("epoch", 0, "only records of this second"),
		values: f.Bool("values", false, "decode the values"),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		faults := 0
		for _, dir := range args {
			n, err := a.dump(dir, o)
			if err != nil {
				return err
			}
			faults += n
		}
		if faults > 0 {
			return fmt.Errorf("dump: the bytes in %s are no record; \"mayfly check\" says more", plural(int64(faults), "place"))
		}
		return nil
	}
	return cmd
}

type dumpOptions struct {
	file, bucket, typ, key *string
	epoch                  *int64
	values                 *bool
}

// wants tells whether a record is to be printed.
func (o *dumpOptions) wants(d *bitcask.Dumped) bool {
	h := &d.Record.Header
	switch {
	case *o.bucket != "" && string(h.Bucket) != *o.bucket,
		*o.typ != "" && string(h.Type) != *o.typ,
		!bytes.HasPrefix(h.Key, []byte(*o.key)):
		return false
	case *o.epoch != 0:
		epoch, err := event.TimedEpoch(h.Key)
		return err == nil && epoch == *o.epoch
	}
	return true
}

// dump prints a directory's records and returns how many stretches were none.
func (a *app) dump(dir string, o dumpOptions) (faults int, err error) {
	fsys, err := openData(dir)
	if err != nil {
		return 0, err
	}
	defer fsys.Close() //nolint:errcheck // it was only read
	if _, err := bitcask.ReadIdentity(fsys); err != nil {
		return 0, fmt.Errorf("dump %s: %w", dir, err)
	}
	if err := checkFile(fsys, *o.file); err != nil {
		return 0, err
	}
	for d, err := range bitcask.Dump(fsys, *o.file) {
		if err != nil {
			faults++
			fmt.Fprintf(a.stderr, "mayfly: dump: %v\n", err)
			continue
		}
		if !o.wants(&d) {
			continue
		}
		r := describeHeader(&d.Record.Header)
		r.File, r.Offset = d.File, &d.Offset
		if *o.values {
			if r.Value, err = describeValue(&d.Record); err != nil {
				faults++
				fmt.Fprintf(a.stderr, "mayfly: dump: %s: offset %d: the value of %q: %v\n", d.File, d.Offset, d.Record.Key, err)
			}
		}
		if err := printJSON(a.stdout, r); err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// checkFile refuses a file that is not there.
func checkFile(fsys vfs.FS, name string) error {
	if name == "" {
		return nil
	}
	f, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("dump: --file %s: %w; name it relative to the data directory, as \"mayfly check\" does", name, err)
	}
	return f.Close()
}
