package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/config"
)

const tailLong = `tail follows the newest seconds: it prints events as soon as their blobs are
stored, a line each, in the form that "mayfly send" reads. It begins with the
present second, with --from an earlier one, or where a cursor file ends, and
goes on until SIGINT or SIGTERM. While no node can be reached it waits, and
resumes where it was: nothing is left out and nothing comes twice.

With --cursor FILE it notes in the file, at most a second behind what it
printed, where it is; the next tail with the file goes on from there. What was
printed after the last note is printed again: that is known by its key.

A watermark says whether a second is complete, or which writers are missing:
--watermarks prints them among the events.

Patterns: names, with * for any letters, several separated by commas.`

func (a *app) tailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tail",
		GroupID: groupRun,
		Short:   "follow the newest seconds: print events as they are stored",
		Long:    tailLong,
		Example: `  mayfly tail
  mayfly tail --type WEB --subtype 'checkout,cart*' | jq .event.ms
  mayfly tail --from now-1h --for 1m            # the last hour, and on for a minute
  mayfly tail --cursor web.cursor --type WEB    # resumes when it is started again
  mayfly tail --blobs --watermarks              # keys and sizes, and which seconds are complete
  mayfly tail --shard 0/4                       # the first of four that share the work`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd).clientFlags().
		flagAs("metrics", "metrics.tail", "address of the HTTP listener for metrics and health; \"\" is off")
	s.logFlags()
	f := cmd.Flags()
	o := tailFlags{
		from:       f.String("from", "now", "the second to begin with: Unix time, now, now-10m, 2025-11-21T08:00:00Z"),
		cursor:     f.String("cursor", "", "resume from this `FILE` if it is there, and keep it up to date"),
		dc:         f.String("dc", "", "pattern of data centres; \"\" is all"),
		typ:        f.String("type", "", "pattern of types; \"\" is all"),
		subtype:    f.String("subtype", "", "pattern of subtypes; \"\" is all"),
		shard:      f.String("shard", "", "take one part of the blobs, as `I/N`: 0/4 to 3/4"),
		blobs:      f.Bool("blobs", false, "print a line a blob, what is known about it, and do not read its events"),
		watermarks: f.Bool("watermarks", false, "print watermarks too"),
		length:     durationVar(f, "for", 0, "stop after this long; 0s is no bound"),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		opts, err := o.options(time.Now(), f.Changed("from"))
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if *o.length > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, *o.length)
			defer cancel()
		}
		return a.tail(ctx, e, opts, o)
	}
	return cmd
}

type tailFlags struct {
	from, cursor, dc, typ, subtype, shard *string
	blobs, watermarks                     *bool
	length                                *time.Duration
}

// options returns what the flags ask for.
func (f *tailFlags) options(now time.Time, fromGiven bool) (client.TailOptions, error) {
	o := client.TailOptions{DC: *f.dc, Type: *f.typ, Subtype: *f.subtype, WithoutBodies: *f.blobs}
	var err error
	if o.Shard, o.Shards, err = parseShard(*f.shard); err != nil {
		return o, usageError{err}
	}
	kept, err := readCursor(*f.cursor)
	switch {
	case err != nil:
		return o, err
	case kept != "" && fromGiven:
		return o, usagef("--from and a cursor cannot be given together: the file %s has one already; remove it to begin with --from", *f.cursor)
	case kept != "":
		o.Cursor = kept
	case *f.from != "now": // which is the node's business: its clock counts
		if o.From, err = parseEpoch(*f.from, now); err != nil {
			return o, usagef("--from: %w", err)
		}
	}
	if err := o.Validate(); err != nil && kept != "" {
		return o, usagef("--cursor %s: %w", *f.cursor, err)
	} else if err != nil {
		return o, usageError{err}
	}
	return o, nil
}

// parseShard reads "I/N".
func parseShard(text string) (shard, shards int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	i, n, _ := strings.Cut(text, "/")
	shard, err1 := strconv.Atoi(i)
	shards, err2 := strconv.Atoi(n)
	if err1 != nil || err2 != nil || shard < 0 || shards < 1 || shard >= shards {
		return 0, 0, fmt.Errorf("--shard %q: write I/N with I from 0 to N-1, as in 0/4", text)
	}
	return shard, shards, nil
}

// readCursor returns what a cursor file holds, "" if there is none.
func readCursor(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("--cursor: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// tail follows until ctx ends.
func (a *app) tail(ctx context.Context, e *config.Effective, o client.TailOptions, f tailFlags) error {
	log := newLogger(a.stderr, e.Log)
	admin, err := listenAdmin(e.Metrics.Tail, "metrics.tail")
	if err != nil {
		return fmt.Errorf("tail: %w", err)
	}
	defer admin.close()
	c, err := connectLogging(ctx, e, log)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the tail has ended
	p := newTailPrinter(a.stdout, o, *f.watermarks, *f.cursor, log)
	registry := newRegistry()
	registerClient(registry, c)
	registerTail(registry, &p.counters)
	admin.serve(registry, func() error { return nil }, log)
	t, err := c.Tail(o)
	if err != nil {
		return err
	}
	defer t.Close() //nolint:errcheck // nothing is kept in it
	return p.run(ctx, t)
}
