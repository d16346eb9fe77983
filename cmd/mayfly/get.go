package main

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

const getLong = `get prints an object. A blob of the bucket events is printed as JSON lines, an
event a line; what other buckets hold, byte by byte. --raw prints a blob's bytes
too, --head only what is known about the object, --json all of it as one JSON
object.

The value's checksum was verified when get prints it.

Exit status 1: there is no such object, it has expired, or it cannot be told now;
the message says which.`

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get KEY",
		GroupID: groupData,
		Short:   "print an object",
		Long:    getLong,
		Example: `  mayfly get 1763712000:ams:WEB:checkout:0
  mayfly get 1763712000:ams:WEB:checkout:0 | jq .ms
  mayfly get --bucket notes greeting > hello.txt
  mayfly get --head --json 1763712000:ams:WEB:checkout:0`,
		Args: takes(1, 1, "a key"),
	}
	s := a.settingsOf(cmd).clientFlags()
	where := placeFlags(cmd)
	f := cmd.Flags()
	raw := f.Bool("raw", false, "print a blob's bytes as they are stored")
	head := f.Bool("head", false, "print what is known about the object, not its value")
	asJSON := f.Bool("json", false, "print one JSON object; with --head without the value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(exclusive(cmd, "raw", "head"), exclusive(cmd, "raw", "json")); err != nil {
			return err
		}
		e, err := s.load()
		if err != nil {
			return err
		}
		key := expandNow(args[0], time.Now())
		if err := where.check(key); err != nil {
			return err
		}
		c, err := connect(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // nothing is under way
		if *head {
			h, err := c.Head(cmd.Context(), where.typ, where.bucket, key)
			if err != nil {
				return fmt.Errorf("get %q: %w", key, err)
			}
			return a.printHead(&h, *asJSON)
		}
		rec, err := c.Get(cmd.Context(), where.typ, where.bucket, key)
		if err != nil {
			return fmt.Errorf("get %q: %w", key, err)
		}
		defer rec.Release()
		return a.printObject(&rec, where, *raw, *asJSON)
	}
	return cmd
}

// printHead prints what is known about an object.
func (a *app) printHead(h *object.Header, asJSON bool) error {
	d := describeHeader(h)
	if asJSON {
		return printJSON(a.stdout, d)
	}
	t := newTable(a.stdout, "bucket", "key", "time", "writer", "events", "bytes", "checksum")
	t.row(d.Bucket, d.Key, d.Time, d.Writer, fmt.Sprint(d.Events), fmt.Sprint(d.Bytes), d.Checksum)
	return t.flush()
}

// printObject prints an object's value, or all of it.
func (a *app) printObject(rec *object.Record, where *place, raw, asJSON bool) error {
	if asJSON {
		d := describeHeader(&rec.Header)
		var err error
		if d.Value, err = describeValue(rec); err != nil {
			return fmt.Errorf("get %q: the value is not what its bucket holds: %w; --raw prints it", rec.Key, err)
		}
		return printJSON(a.stdout, d)
	}
	value := rec.Value()
	if where.isEvents() && !raw && isBlob(value) {
		return a.printEvents(rec)
	}
	if isTerminal(a.stdout) && !utf8.Valid(value) {
		return fmt.Errorf("get %q: the value is no text, and the output a terminal: send it to a file (> FILE), or add --json", rec.Key)
	}
	_, err := a.stdout.Write(value)
	return err
}

// printEvents prints a blob's events, a line each.
func (a *app) printEvents(rec *object.Record) error {
	events, err := openBlob(rec.Value())
	if err != nil {
		return fmt.Errorf("get %q: %w; --raw prints the bytes", rec.Key, err)
	}
	var line []byte
	for _, e := range events.All() {
		if line, err = event.AppendJSON(line[:0], e); err != nil {
			return fmt.Errorf("get %q: %w", rec.Key, err)
		}
		if _, err := a.stdout.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}
