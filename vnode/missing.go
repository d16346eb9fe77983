package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// An Index reads index rows, wherever their replicas are, and adds to them. With
// one node the Set's own rows are it, see [Set.Index]; with more, a coordinator.
type Index interface {
	// Row returns a row, and whether it is certain to have everything that was
	// ever acknowledged for it. An expired row is an error of CodeExpired.
	Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error)

	// Add adds to a row: as it is while the second is open, afterwards as late.
	Add(ctx context.Context, key event.IndexKey, delta index.Row) error
}

// errUncertain: whether a row lacks entries could not be told.
var errUncertain = errors.New("the row could not be read with certainty")

// missingBatch bounds how many entries are derived before they are compared with
// their rows: the memory a pass over a slot takes, at some 300 bytes each.
const missingBatch = 4096

// maxFailedRows bounds the rows of a pass that cannot be read or added to: the
// others will hardly be better off, and each may have cost a time-out.
const maxFailedRows = 16

// addMissing derives the index entries of a slot's blobs and adds those that
// their rows lack: the ones whose put was cut off between blob and index. It
// adds to certain rows only; where a row cannot be read so, it goes on with the
// others, for a while, and returns an error, and the pass is to be made again.
// It returns how many entries were added.
func (v *Vnode) addMissing(ctx context.Context, now time.Time, slot expiry.Slot, idx Index) (added int, err error) {
	r := v.set.rulebook.indexed()
	b := batch{ctx: ctx, idx: idx}
	for head, err := range v.store.Walk(r.engine, slot, now.Unix()) {
		switch {
		case ctx.Err() != nil:
			return b.added, context.Cause(ctx)
		case errors.Is(err, object.CodeCorrupt):
			continue // its entry, if it was acknowledged, is in the index
		case err != nil:
			return b.added, err
		}
		if b.derive(&head.Header); b.failed >= maxFailedRows {
			break
		}
	}
	b.flush()
	if b.failed > 0 {
		return b.added, fmt.Errorf("%d rows not compared with their blobs; first: %w", b.failed, b.fault)
	}
	return b.added, nil
}

// A batch is a part of a pass: the entries derived from blobs, by row.
type batch struct {
	ctx    context.Context
	idx    Index
	rows   map[event.IndexKey][]index.Row
	len    int
	added  int
	failed int   // rows
	fault  error // the first one's
}

func (b *batch) derive(h *object.Header) {
	key, entry, err := index.DeltaOf(h)
	if err != nil {
		return // no blob's key: nothing of the kind is admitted any more
	}
	if b.rows == nil {
		b.rows = make(map[event.IndexKey][]index.Row)
	}
	b.rows[key] = append(b.rows[key], entry)
	if b.len++; b.len >= missingBatch {
		b.flush()
	}
}

// flush compares what was derived with the rows, oldest second first.
func (b *batch) flush() {
	keys := slices.SortedFunc(maps.Keys(b.rows), func(x, y event.IndexKey) int {
		return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.DC, y.DC))
	})
	for _, key := range keys {
		if b.failed >= maxFailedRows {
			break
		}
		err := b.compare(key, index.Merge(b.rows[key]...))
		if err == nil || errors.Is(err, object.CodeExpired) {
			continue
		}
		if b.failed++; b.fault == nil {
			b.fault = fmt.Errorf("row %v: %w", key, err)
		}
	}
	b.rows, b.len = nil, 0
}

func (b *batch) compare(key event.IndexKey, derived index.Row) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	row, certain, err := b.idx.Row(b.ctx, key)
	if err != nil {
		return err
	}
	missing := lacking(row, derived)
	if missing.Empty() {
		return nil // whatever else the row may have
	}
	if !certain {
		return errUncertain
	}
	if err := b.idx.Add(b.ctx, key, missing); err != nil {
		return err
	}
	b.added += missing.Len()
	return nil
}

// lacking returns the part of derived, entries that were made from blobs, that
// row does not have: blobs it does not list for their writer, and erased ones it
// does not call so. Other differences are of no account: a blob's entry may have
// been written with the stamp of a retry.
func lacking(row, derived index.Row) (missing index.Row) {
	for i := range derived.Sections {
		want := &derived.Sections[i]
		have := row.Section(want.Writer)
		var entries []index.Entry
		for j := range want.Entries {
			if !lists(have, &want.Entries[j]) {
				entries = append(entries, want.Entries[j])
			}
		}
		if len(entries) > 0 {
			missing.Sections = append(missing.Sections, index.Section{Writer: want.Writer, Entries: entries})
		}
	}
	return missing
}

func lists(s *index.Section, e *index.Entry) bool {
	if s == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(s.Entries, e.Suffix, func(have index.Entry, suffix string) int {
		return cmp.Compare(have.Suffix, suffix)
	})
	return found && s.Entries[i].Flags&index.Erased >= e.Flags&index.Erased
}
