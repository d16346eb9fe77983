// Package generate makes events and sends them as producers do: a deterministic
// generator of web, cron and load-balancer events (Generator), a replayer of
// NDJSON files (Replay), and a sender that paces them out as UDP datagrams
// (Sender). It is the producing end of tests, of the demonstration and of
// "mayfly send".
package generate

import "io"

// An Event is one event and the names of the blob it belongs to.
type Event struct {
	Type    string // as event.ValidName has it
	Subtype string // as event.ValidName has it
	Body    []byte // a msgpack map that event.ValidateMap accepts
}

// A Source gives one event after another. It belongs to one goroutine at a time.
type Source interface {
	// Next returns the next event. Its Body is valid until the next call. The
	// error is [io.EOF] after the last one; after any error the Source gives no
	// more.
	Next() (Event, error)
}

// first gives the first n events of a Source.
type first struct {
	source Source
	left   int64
}

// First returns a Source of the first n events of source.
func First(source Source, n int64) Source { return &first{source, n} }

func (f *first) Next() (Event, error) {
	if f.left <= 0 {
		return Event{}, io.EOF
	}
	f.left--
	return f.source.Next()
}
