package main

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// A cell is what was measured of one candidate on one group.
type cell struct {
	Group         string  `json:"group"`
	PerBlob       int     `json:"events_per_blob"`
	Candidate     string  `json:"candidate"`
	Blobs         int     `json:"blobs"`
	Events        int     `json:"events"`
	JSONBytes     int     `json:"json_bytes"`     // of the events as JSON text: the yardstick of all rates
	DocumentBytes int     `json:"document_bytes"` // before compression
	StoredBytes   int     `json:"stored_bytes"`
	EncodeMB      float64 `json:"encode_mb_per_cpu_s"` // MB (10^6) of JSON text per CPU second
	SplitMB       float64 `json:"split_mb_per_cpu_s"`  // to single events; 0 if the format needs decoding for it
	DecodeMB      float64 `json:"decode_mb_per_cpu_s"` // to Go values
	EncodeAllocs  float64 `json:"encode_allocs_per_blob"`
	SplitAllocs   float64 `json:"split_allocs_per_blob"`
	DecodeAllocs  float64 `json:"decode_allocs_per_blob"`
}

// measureGroup measures every candidate on blobs of n events. Rounds go through
// all candidates, so that a noisy minute does not fall on one of them, and the
// fastest round counts.
func measureGroup(ctx context.Context, g group, n int, cfg config) ([]cell, error) {
	all, err := candidates(cfg)
	if err != nil {
		return nil, err
	}
	blobs := g.blobs(n)
	if len(blobs) == 0 {
		return nil, fmt.Errorf("no corpus has %d events", n)
	}
	trials := make([]*trial, len(all))
	for i, c := range all {
		trials[i] = &trial{candidate: c, blobs: blobs, cell: cell{Group: g.name, PerBlob: n, Candidate: c.name, Blobs: len(blobs)}}
		if err := trials[i].prepare(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for range cfg.rounds {
		for _, t := range trials {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := t.round(); err != nil {
				return nil, fmt.Errorf("%s: %w", t.candidate.name, err)
			}
		}
	}
	cells := make([]cell, len(trials))
	for i, t := range trials {
		cells[i] = t.cell
	}
	return cells, nil
}

// A trial is one candidate on one set of blobs, with the buffers it reuses.
type trial struct {
	candidate
	cell
	blobs         []blob
	stored        [][]byte // of each blob
	doc, dst, buf []byte
}

// prepare takes the sizes and keeps the stored blobs.
func (t *trial) prepare() (err error) {
	for _, b := range t.blobs {
		if t.doc, t.dst, err = t.encode(t.doc, t.dst, b); err != nil {
			return err
		}
		t.stored = append(t.stored, append([]byte(nil), t.dst...))
		t.Events += len(b.json)
		for _, e := range b.json {
			t.JSONBytes += len(e)
		}
		t.DocumentBytes += len(t.doc)
		t.StoredBytes += len(t.dst)
	}
	return nil
}

// round encodes, splits and decodes all blobs once.
func (t *trial) round() error {
	err := t.pass(&t.EncodeMB, &t.EncodeAllocs, func(i int) (err error) {
		t.doc, t.dst, err = t.encode(t.doc, t.dst, t.blobs[i])
		return err
	})
	if err == nil && t.split != nil {
		err = t.pass(&t.SplitMB, &t.SplitAllocs, t.reader(t.split))
	}
	if err == nil {
		err = t.pass(&t.DecodeMB, &t.DecodeAllocs, t.reader(t.decode))
	}
	return err
}

// reader reads a blob and checks that it has all its events.
func (t *trial) reader(read func(buf, stored []byte) ([]byte, int, error)) func(i int) error {
	return func(i int) error {
		out, n, err := read(t.buf, t.stored[i])
		if err == nil && n != len(t.blobs[i].json) {
			err = fmt.Errorf("%d events of %d came out of a blob", n, len(t.blobs[i].json))
		}
		t.buf = out
		return err
	}
}

// pass handles each blob once and keeps its figures if they are better.
func (t *trial) pass(mb, allocs *float64, one func(i int) error) error {
	runtime.GC() // what earlier passes left is not to be paid here
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, err := cpuTime()
	if err != nil {
		return err
	}
	for i := range t.blobs {
		if err := one(i); err != nil {
			return err
		}
	}
	end, err := cpuTime()
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	n := float64(after.Mallocs-before.Mallocs) / float64(t.Blobs)
	if *mb == 0 || n < *allocs {
		*allocs = n
	}
	*mb = max(*mb, float64(t.JSONBytes)/1e6/max(end-start, time.Microsecond).Seconds())
	return nil
}

// cpuTime is the CPU time this process has used, collector and all.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
