package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// A table collects rows of text and writes them in columns.
type table struct {
	w    *tabwriter.Writer
	rows int
}

// newTable begins a table with a header row.
func newTable(w io.Writer, header ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(strings.Fields(strings.ToUpper(strings.Join(header, " ")))...)
	t.rows = 0
	return t
}

func (t *table) row(cells ...string) {
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
	t.rows++
}

// flush writes the table. A table without rows is its header.
func (t *table) flush() error { return t.w.Flush() }

// printLine writes a line of a description: what it is about, then what is so.
func printLine(w io.Writer, about, format string, args ...any) {
	fmt.Fprintf(w, "%-14s%s\n", about+":", fmt.Sprintf(format, args...))
}

// bytesText writes a number of bytes for people: "12.3 MiB".
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// countText writes a number with a space between each three digits.
func countText(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// plural returns "1 record" or "7 records".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return countText(uint64(n)) + " " + one + "s"
}
