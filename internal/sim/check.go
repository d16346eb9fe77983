package sim

import (
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A view is what was certain of a key when a read of it began.
type view struct {
	newest *put
	acked  int
}

func (k *key) view() view { return view{k.newest, len(k.acked)} }

// got holds a client's read, which began at that view, against the model. strict: its
// bucket's reads see what was acknowledged before.
func (m *model) got(k *key, v view, rec *object.Record, err *object.Error, strict bool) {
	switch {
	case err == nil:
		m.found(k, v, rec, strict)
	case err.Code == object.CodeAbsent:
		m.absent(k, v, strict)
	case err.Code == object.CodeExpired:
		m.s.breach("I5", k.id(), "a read says that it has expired, and nothing here expires")
	default:
		m.s.notes.add("reads without an answer", 1)
	}
}

func (m *model) found(k *key, v view, rec *object.Record, strict bool) {
	p := k.find(rec.Version())
	switch {
	case p == nil:
		m.s.breach("I6", k.id(), "a read found version %v, which nobody has put", rec.Version())
	case p.checksum != rec.Checksum:
		m.s.breach("I6", k.id(), "a read found other bytes than were put: checksum %016x, not %016x", rec.Checksum, p.checksum)
	case p.fate == notDone:
		m.s.breach("outcome", k.id(), "a read found version %v, of which its writer was told that it was not done", p.version)
	case k.bucket != bucket.Events && strict && v.newest != nil && p.version.Compare(v.newest.version) < 0:
		m.s.breach("I6", k.id(), "a read found version %v, older than %v, which was acknowledged before it began", p.version, v.newest.version)
	}
}

func (m *model) absent(k *key, v view, strict bool) {
	if v.newest == nil {
		return
	}
	for _, p := range k.puts { // a delete may be why
		if p.version.Tombstone && p.fate != notDone && (!strict || k.bucket == bucket.Events || p.version.Compare(v.newest.version) >= 0) {
			return
		}
	}
	m.s.breach("I6", k.id(), "a read says that it is absent; version %v was acknowledged before it began", v.newest.version)
}

// gotRow holds a certain row against the model: acked are the entries that were
// acknowledged before the read began, at begun.
func (m *model) gotRow(key event.IndexKey, acked []string, begun time.Duration, row index.Row) {
	r := m.rows[key]
	if r == nil {
		return
	}
	have := map[string]index.Entry{}
	for _, e := range row.Blobs() {
		have[e.Suffix] = e
	}
	for _, suffix := range acked {
		e, ok := have[suffix]
		if !ok {
			m.s.breach("I2", fmt.Sprintf("%s/%d:%s:%s", bucket.Events, key.Epoch, key.DC, suffix),
				"a certain row of %v does not list it, and it was acknowledged before the read began", key)
			return
		}
		if p := r.entries[suffix]; p.version.Tombstone && e.Flags&index.Erased == 0 && p.at < begun {
			m.s.breach("I3", "epochs/"+key.String(), "the row does not say that %s was erased", suffix)
		}
	}
}

// ackedIn returns the entries acknowledged for a second so far.
func (m *model) ackedIn(key event.IndexKey) []string {
	if r := m.rows[key]; r != nil {
		return r.order[:len(r.order):len(r.order)]
	}
	return nil
}
