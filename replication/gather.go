package replication

import (
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// A Gatherer turns many puts' index entries into few deltas: group commit. What
// is brought for an idle row is written at once; what is brought while a delta of
// the row is being written waits, and goes together in the next one. W is what a
// driver keeps for those who wait for a group.
//
// It knows no clock and no goroutine: its driver calls it under a lock, or from
// one goroutine.
type Gatherer[W any] struct {
	// rows holds the rows being written, with what waits for the write to end; nil
	// if nothing does.
	rows map[event.IndexKey]*Gathering[W]
}

// A Gathering is the deltas of one row that go together.
type Gathering[W any] struct {
	Waiting W // the driver's
	rows    []index.Row
}

// Row is what the gathering adds to its row, once it is closed to newcomers.
func (g *Gathering[W]) Row() index.Row { return index.Merge(g.rows...) }

// Busy returns how many rows are being written.
func (g *Gatherer[W]) Busy() int { return len(g.rows) }

// Add brings a delta. If nil is returned the row was idle: the caller writes the
// delta now and then calls Written. Otherwise the delta is part of a gathering
// that is written later.
func (g *Gatherer[W]) Add(key event.IndexKey, row index.Row) *Gathering[W] {
	next, writing := g.rows[key]
	if !writing {
		if g.rows == nil {
			g.rows = make(map[event.IndexKey]*Gathering[W])
		}
		g.rows[key] = nil
		return nil
	}
	if next == nil {
		next = new(Gathering[W])
		g.rows[key] = next
	}
	next.rows = append(next.rows, row)
	return next
}

// Written ends the writing of a row. It returns what is to be written to it next,
// closed to newcomers, after which Written is called again; nil if the row is idle.
func (g *Gatherer[W]) Written(key event.IndexKey) *Gathering[W] {
	next := g.rows[key]
	if next == nil {
		delete(g.rows, key)
		return nil
	}
	g.rows[key] = nil
	return next
}
