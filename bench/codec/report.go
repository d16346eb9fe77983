package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// writeTable prints the cells as Markdown tables, one for each group and number
// of events a blob.
func writeTable(w io.Writer, cells []cell) error {
	var b strings.Builder
	heading := ""
	for _, c := range cells {
		h := fmt.Sprintf("%s events, %d a blob: %d blobs, %d bytes of JSON an event", c.Group, c.PerBlob, c.Blobs, c.JSONBytes/c.Events)
		if h != heading {
			heading = h
			fmt.Fprintf(&b, "\n%s\n\n", h)
			fmt.Fprintln(&b, "| candidate | document B/event | stored B/event | ratio | encode MB/CPU-s | split MB/CPU-s | decode MB/CPU-s | allocs a blob: encode | split | decode |")
			fmt.Fprintln(&b, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
		}
		split, splitAllocs := "–", "–"
		if c.SplitMB > 0 {
			split, splitAllocs = fmt.Sprintf("%.0f", c.SplitMB), fmt.Sprintf("%.0f", c.SplitAllocs)
		}
		events := float64(c.Events)
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.2f | %.0f | %s | %.0f | %.0f | %s | %.0f |\n", c.Candidate,
			float64(c.DocumentBytes)/events, float64(c.StoredBytes)/events, float64(c.JSONBytes)/float64(c.StoredBytes),
			c.EncodeMB, split, c.DecodeMB, c.EncodeAllocs, splitAllocs, c.DecodeAllocs)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeJSON prints one object with all the cells.
func writeJSON(w io.Writer, cfg config, cells []cell) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(map[string]any{
		"go": runtime.Version(), "cpus": runtime.NumCPU(), "zstd_window_bytes": cfg.window, "zstd_encoders": cfg.encoders, "rounds": cfg.rounds, "cells": cells,
	})
}
