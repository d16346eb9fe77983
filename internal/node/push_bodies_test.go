package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// deltaOf is what the index says of blobs.
func deltaOf(t testing.TB, recs ...object.Record) (key event.IndexKey, delta index.Row) {
	t.Helper()
	rows := make([]index.Row, len(recs))
	for i := range recs {
		var err error
		if key, rows[i], err = index.DeltaOf(&recs[i].Header); err != nil {
			t.Fatal(err)
		}
	}
	return key, index.Merge(rows...)
}

// TestBodyMemory: blobs are given out once, to the delta that names them, and no
// more is held, nor longer, than was said.
func TestBodyMemory(t *testing.T) {
	buffers, _ := object.Live()
	const size = 512 // of the smallest buffer
	now := time.Unix(1_700_000_000, 0)
	var recs []object.Record
	for i := range 5 {
		recs = append(recs, blob(t, now.Unix(), uint64(i), fmt.Sprint("value ", i)))
	}
	all := func(m *bodyMemory) (got []int) {
		key, delta := deltaOf(t, recs...)
		for _, rec := range m.take(key, delta) {
			for i := range recs {
				if string(recs[i].Key) == string(rec.Key) {
					got = append(got, i)
				}
			}
			rec.Release()
		}
		slices.Sort(got)
		return got
	}
	for _, c := range []struct {
		claim    string
		maxBytes int64
		do       func(*bodyMemory)
		want     []int
	}{
		{"nothing while not enabled", 99 * size, func(m *bodyMemory) { m.enable(false); m.keep(now, recs[0]) }, nil},
		{"what is kept", 99 * size, func(m *bodyMemory) { m.keep(now, recs[0]); m.keep(now, recs[3]) }, []int{0, 3}},
		{"once", 99 * size, func(m *bodyMemory) { m.keep(now, recs[0]); all(m); m.keep(now, recs[1]) }, []int{1}},
		{"again after it was taken", 99 * size, func(m *bodyMemory) { m.keep(now, recs[0]); all(m); m.keep(now, recs[0]) }, []int{0}},
		{"the same twice", 99 * size, func(m *bodyMemory) { m.keep(now, recs[0]); m.keep(now, recs[0]) }, []int{0}},
		{"the newest that fit", 2 * size, func(m *bodyMemory) { m.keep(now, recs[0]); m.keep(now, recs[1]); m.keep(now, recs[2]) }, []int{1, 2}},
		{"what was taken makes room", 2 * size, func(m *bodyMemory) { m.keep(now, recs[0]); all(m); m.keep(now, recs[1]); m.keep(now, recs[2]) }, []int{1, 2}},
		{"nothing that is larger than all", size - 1, func(m *bodyMemory) { m.keep(now, recs[0]) }, nil},
		{"what is not too old", 99 * size, func(m *bodyMemory) {
			m.keep(now, recs[0])
			m.keep(now.Add(time.Second), recs[1])
			m.expire(now.Add(10 * time.Second))
		}, []int{1}},
		{"nothing after the end", 99 * size, func(m *bodyMemory) { m.keep(now, recs[0]); m.enable(false) }, nil},
		{"nothing of another value", 99 * size, func(m *bodyMemory) { m.keep(now, blob(t, now.Unix(), 0, "another")) }, nil},
		{"the newer of two values", 99 * size, func(m *bodyMemory) { m.keep(now, blob(t, now.Unix(), 0, "another")); m.keep(now, recs[0]) }, []int{0}},
	} {
		m := newBodyMemory(c.maxBytes, 10*time.Second)
		m.enable(true)
		c.do(m)
		if s := m.stats(); s.bytes > c.maxBytes || s.bytes != int64(s.items)*size {
			t.Errorf("%s: %+v", c.claim, s)
		}
		if got := all(m); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.claim, got, c.want)
		}
		m.enable(false)
		if s := m.stats(); s.items != 0 || s.bytes != 0 || s.kept != s.taken+s.unused || len(m.order) != 0 {
			t.Errorf("%s: at the end %+v", c.claim, s)
		}
	}
	if left, _ := object.Live(); left-buffers != int64(len(recs)+2) { // released at the test's end
		t.Errorf("%d buffers are in use, %d of them blobs", left-buffers, len(recs)+2)
	}
}
