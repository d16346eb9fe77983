package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/tail"
)

// tailCounters count what a tail printed.
type tailCounters struct {
	blobs, events, bytes, watermarks, gaps atomic.Int64
}

// A tailPrinter writes what a tail delivers, and keeps its cursor in a file.
type tailPrinter struct {
	out        *bufio.Writer
	bodies     bool
	watermarks bool
	cursor     string // file name; "" is none
	noted      time.Time
	log        *slog.Logger
	counters   tailCounters
	line       []byte
	document   []byte
}

func newTailPrinter(out io.Writer, o client.TailOptions, watermarks bool, cursor string, log *slog.Logger) *tailPrinter {
	return &tailPrinter{out: bufio.NewWriterSize(out, 64<<10), bodies: !o.WithoutBodies, watermarks: watermarks, cursor: cursor, log: log}
}

// run prints until ctx ends or the tail fails. What could not be delivered makes
// it an error, at the end.
func (p *tailPrinter) run(ctx context.Context, t *client.Tail) error {
	for {
		item, err := t.Next(ctx)
		if err != nil {
			err = p.ended(ctx, err)
			return errors.Join(err, p.note(t, true))
		}
		err = p.print(&item)
		item.Release()
		if err == nil {
			err = p.note(t, false)
		}
		if err != nil {
			return err
		}
	}
}

// ended says whether the end of a tail is a failure.
func (p *tailPrinter) ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("tail: %w", err)
	}
	if n := p.counters.gaps.Load(); n > 0 {
		return fmt.Errorf("tail: %s could not be delivered; the log says which", plural(n, "part"))
	}
	return nil
}

// print writes one item and hands it on: whoever reads sees it at once.
func (p *tailPrinter) print(item *client.Item) error {
	switch item.Kind {
	case tail.KindBlob:
		p.counters.blobs.Add(1)
		p.counters.bytes.Add(int64(item.Blob.Entry.Bytes))
		if err := p.blob(item); err != nil {
			return err
		}
	case tail.KindWatermark:
		p.counters.watermarks.Add(1)
		if !p.watermarks {
			return nil
		}
		if err := printJSON(p.out, describeWatermark(&item.Watermark)); err != nil {
			return err
		}
	case tail.KindGap:
		p.counters.gaps.Add(1)
		g := &item.Gap
		p.log.Error("a part of the tail cannot be delivered", "first", g.First, "last", g.Last, "key", g.Key.String(), "err", g.Err)
		return nil
	}
	return p.out.Flush()
}

// A tailedJSON is a blob in the form of --blobs.
type tailedJSON struct {
	entryJSON
	Arrival int64 `json:"arrival"` // the second it arrived in
	Late    bool  `json:"late,omitempty"`
}

func (p *tailPrinter) blob(item *client.Item) error {
	b := &item.Blob
	if !p.bodies {
		d := describeEntry(b.Key.Index(), &b.Entry)
		d.Key = b.Key.String()
		return printJSON(p.out, tailedJSON{d, item.Arrival, b.Late})
	}
	value := b.Record.Value()
	if !isBlob(value) {
		return p.foreign(b.Key, value)
	}
	blob, err := event.ParseBlob(value)
	if err != nil {
		return p.damaged(b.Key, err)
	}
	events, err := blob.Events(p.document)
	if err != nil {
		return p.damaged(b.Key, err)
	}
	p.document = events.Document()[:0]
	p.counters.events.Add(int64(events.Len()))
	for _, e := range events.All() {
		p.line = append(appendOrigin(p.line[:0], b.Key), `,"event":`...)
		if p.line, err = event.AppendJSON(p.line, e); err != nil {
			return p.damaged(b.Key, err)
		}
		if _, err := p.out.Write(append(p.line, '}', '\n')); err != nil {
			return err
		}
	}
	return nil
}

// appendOrigin begins the line of an event. The names of a key need no escapes.
func appendOrigin(dst []byte, k event.Key) []byte {
	dst = strconv.AppendInt(append(dst, `{"epoch":`...), k.Epoch, 10)
	dst = append(append(dst, `,"dc":"`...), k.DC...)
	dst = append(append(dst, `","type":"`...), k.Type...)
	dst = append(append(dst, `","subtype":"`...), k.Subtype...)
	return append(dst, '"')
}

// foreign prints a value that is no blob of ours: some other pusher's form.
func (p *tailPrinter) foreign(k event.Key, value []byte) error {
	p.line = append(appendOrigin(p.line[:0], k), `,"base64":"`...)
	p.line = base64.StdEncoding.AppendEncode(p.line, value)
	_, err := p.out.Write(append(p.line, '"', '}', '\n'))
	return err
}

// damaged reports a value that matches its checksum and is no blob all the same:
// whoever put it made it so. The tail goes on.
func (p *tailPrinter) damaged(k event.Key, err error) error {
	p.counters.gaps.Add(1)
	p.log.Error("a blob cannot be read; \"mayfly get --raw\" prints it", "key", k.String(), "err", err)
	return nil
}

// A watermarkJSON is a watermark as a line.
type watermarkJSON struct {
	Watermark struct {
		Epoch   int64    `json:"epoch"`
		DC      string   `json:"dc"`
		State   string   `json:"state"`
		Missing []string `json:"missing,omitempty"`
	} `json:"watermark"`
}

func describeWatermark(w *tail.Watermark) (j watermarkJSON) {
	j.Watermark.Epoch, j.Watermark.DC, j.Watermark.State = w.Epoch, w.DC, w.Verdict.State.String()
	for _, m := range w.Verdict.Missing {
		j.Watermark.Missing = append(j.Watermark.Missing, m.String())
	}
	return j
}

// noteEvery is how often the cursor is kept.
const noteEvery = time.Second

// note keeps the cursor in its file, now and then, or now.
func (p *tailPrinter) note(t *client.Tail, now bool) error {
	if p.cursor == "" || !now && time.Since(p.noted) < noteEvery {
		return nil
	}
	p.noted = time.Now()
	at := t.Cursor()
	if at == "" {
		return nil // it has not begun
	}
	if err := replaceFile(p.cursor, at+"\n"); err != nil {
		return fmt.Errorf("tail: the cursor cannot be kept: %w", err)
	}
	return nil
}

// replaceFile gives a file new contents: whoever reads it sees the old or the
// new ones, also after a power cut.
func replaceFile(name, text string) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
