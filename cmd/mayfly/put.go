package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

const putLong = `put stores one object: what standard input, or FILE, holds.

In the bucket events the input is read as JSON lines, an event a line, and
stored as one blob under KEY, epoch:dc:type:subtype:chunk. "now" is taken for
the present second. A key takes one value, ever: putting the same again is
acknowledged, other bytes are a conflict. With --raw, and in every other bucket,
the bytes are stored as they are.

When put returns 0, the object is kept as durably as its bucket promises and, in
events, is in the index of its second. Otherwise the message says what is known:
not done, or maybe done; putting the same again is always safe.`

func (a *app) putCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "put KEY [FILE]",
		GroupID: groupData,
		Short:   "store an object",
		Long:    putLong,
		Example: `  echo '{"path":"/pay","ms":12}' | mayfly put now:ams:WEB:checkout:0
  mayfly put --bucket notes greeting hello.txt
  mayfly put --raw 1763712000:ams:WEB:checkout:0 blob.bin
  mayfly put --json now:ams:WEB:checkout:1 events.ndjson | jq -r .key`,
		Args: takes(1, 2, "a key and perhaps a file"),
	}
	s := a.settingsOf(cmd).clientFlags()
	where := placeFlags(cmd)
	raw := cmd.Flags().Bool("raw", false, "store the bytes as they are, also in events")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object about what was stored")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		key := expandNow(args[0], time.Now())
		if err := where.check(key); err != nil {
			return err
		}
		o, err := a.readObject(where, key, args[1:], *raw)
		if err != nil {
			return err
		}
		c, err := connect(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // nothing is under way
		return a.put(cmd.Context(), c, o, *asJSON)
	}
	return cmd
}

// put stores o and says so.
func (a *app) put(ctx context.Context, c *client.Client, o client.Object, asJSON bool) error {
	rec, err := c.Encode(o)
	if err != nil {
		return err
	}
	defer rec.Release()
	if err := c.PutRecord(ctx, rec); err != nil {
		return withOutcome("put", o.Key, err)
	}
	if asJSON {
		return printJSON(a.stdout, describeHeader(&rec.Header))
	}
	what := plural(int64(rec.ValueBytes), "byte")
	if rec.EventCount > 0 {
		what = plural(int64(rec.EventCount), "event") + ", " + what
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s stored\n", o.Key, what)
	return err
}

// withOutcome says what may be assumed after a failed change.
func withOutcome(what, key string, err error) error {
	e, ok := errors.AsType[*object.Error](err)
	if !ok {
		return fmt.Errorf("%s %q: %w", what, key, err)
	}
	hint := ""
	if e.Code.Retryable() {
		hint = ": try again, it is safe"
	}
	return fmt.Errorf("%s %q: %v%s: %w", what, key, e.Outcome, hint, err)
}

// readObject reads what is to be stored.
func (a *app) readObject(where *place, key string, files []string, raw bool) (client.Object, error) {
	o := client.Object{Type: where.typ, Bucket: where.bucket, Key: key}
	in := a.stdin
	if len(files) > 0 && files[0] != "-" {
		f, err := os.Open(files[0])
		if err != nil {
			return o, usagef("put: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	if where.isEvents() && !raw {
		value, info, err := blobOf(in)
		if err != nil {
			return o, fmt.Errorf("put %q: %w", key, err)
		}
		o.Value, o.EventCount = value, uint32(info.Count)
		return o, nil
	}
	value, err := readValue(in)
	if err != nil {
		return o, fmt.Errorf("put %q: %w", key, err)
	}
	if where.isEvents() && isBlob(value) {
		blob, err := event.ParseBlob(value)
		if err != nil {
			return o, fmt.Errorf("put %q: the input begins like a blob and is none: %w", key, err)
		}
		o.EventCount = uint32(blob.Count)
	}
	o.Value = value
	return o, nil
}

// readValue reads all of in, up to the bound of a value.
func readValue(in io.Reader) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(in, object.MaxValueBytes+1))
	if err == nil && len(value) > object.MaxValueBytes {
		return nil, fmt.Errorf("the input exceeds %s, the most an object may hold: split it over several keys", bytesText(object.MaxValueBytes))
	}
	return value, err
}

// maxLineBytes bounds a line of events.
const maxLineBytes = 16 << 20

// blobOf makes a blob of JSON lines.
func blobOf(in io.Reader) ([]byte, event.BlobInfo, error) {
	var b event.Builder
	var doc []byte
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLineBytes)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if n == 1 && isBlob(line) {
			return nil, event.BlobInfo{}, errors.New("the input is a blob already: add --raw")
		}
		if line[0] != '{' {
			return nil, event.BlobInfo{}, fmt.Errorf("line %d is not a JSON object, {…}, as an event is; add --raw to store bytes as they are", n)
		}
		var err error
		if doc, err = event.AppendMsgpack(doc[:0], line); err == nil {
			err = b.Append(doc)
		}
		if err != nil {
			return nil, event.BlobInfo{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, event.BlobInfo{}, fmt.Errorf("a line exceeds %s", bytesText(maxLineBytes))
	} else if err != nil {
		return nil, event.BlobInfo{}, err
	}
	if b.Len() == 0 {
		return nil, event.BlobInfo{}, errors.New("the input holds no events: write one JSON object a line")
	}
	value, info := b.Seal(nil)
	if len(value) > event.MaxBlobBytes {
		return nil, info, fmt.Errorf("the blob has %s, at most %s are stored: split it over several chunks", bytesText(int64(len(value))), bytesText(event.MaxBlobBytes))
	}
	return value, info, nil
}
