// Command codec measures how a blob of events should be encoded: which format,
// under which compression, at what cost in bytes and CPU. docs/codec.md in the
// repository holds its table and the decision drawn from it.
//
//	go run . --events DIR
//
// DIR holds *.ndjson files of real events, one {"type","subtype","event"} a line;
// without it only generated events are measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "codec:", err)
		os.Exit(1)
	}
}

// A config says what to measure.
type config struct {
	events   string // directory of *.ndjson files, or empty
	perBlob  []int  // events a blob
	only     string // part of the names of the candidates to measure, or empty for all
	window   int    // of zstd, bytes
	encoders int    // that one zstd.Encoder uses in turn
	rounds   int    // the best of each figure counts
	json     bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	groups, err := loadGroups(cfg.events)
	if err != nil {
		return err
	}
	var cells []cell
	for _, g := range groups {
		for _, n := range cfg.perBlob {
			got, err := measureGroup(ctx, g, n, cfg)
			if err != nil {
				return fmt.Errorf("%s, %d events a blob: %w", g.name, n, err)
			}
			cells = append(cells, got...)
		}
	}
	if cfg.json {
		return writeJSON(stdout, cfg, cells)
	}
	return writeTable(stdout, cells)
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	var perBlob string
	fs := flag.NewFlagSet("codec", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&cfg.events, "events", "", "`directory` of *.ndjson files of real events")
	fs.StringVar(&perBlob, "per-blob", "50,500", "events a blob, a `list` of numbers")
	fs.StringVar(&cfg.only, "only", "", "measure candidates whose name has this `part`")
	fs.IntVar(&cfg.window, "window", 1<<20, "window of zstd in `bytes`, a power of two")
	fs.IntVar(&cfg.encoders, "encoders", 1, "`number` of encoders that zstd uses in turn, as one shared by goroutines does")
	fs.IntVar(&cfg.rounds, "rounds", 15, "`number` of rounds, of which the best counts")
	fs.BoolVar(&cfg.json, "json", false, "print one JSON object instead of the table")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for part := range strings.SplitSeq(perBlob, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return cfg, fmt.Errorf("--per-blob %q: want numbers from 1, with commas between", perBlob)
		}
		cfg.perBlob = append(cfg.perBlob, n)
	}
	if cfg.rounds < 1 || cfg.encoders < 1 {
		return cfg, fmt.Errorf("--rounds %d, --encoders %d: want at least 1", cfg.rounds, cfg.encoders)
	}
	return cfg, nil
}
