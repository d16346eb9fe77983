package tail

import (
	"slices"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

// A catchup is the state of a reader that is behind: it passes over one second of
// arrival after the other, reading its rows. A pass over a second that is not yet
// to be finished, or could not be read with certainty, is made again.
type catchup struct {
	lateness, finish int64 // seconds

	// known is who was present in the seconds before the one at hand, by row.
	known map[event.IndexKey]past

	// The pass at hand.
	second        int64
	startedMillis int64
	rows          map[event.IndexKey]answer
}

// A past is what one row of the past says to the watermarks after it.
type past struct {
	presence  index.Presence
	certainAt int64 // when the read was begun, milliseconds since the Unix epoch; 0: it was not certain
	gone      bool  // it has expired, nothing can be known of it any more
}

// certain reports whether the row tells for certain who is expected in a second:
// it was read when that was over, see [index.Expected].
func (p *past) certain(second int64) bool { return p.certainAt >= (second+1)*1000 }

// An answer is what a read of a row gave.
type answer struct {
	row     index.Row
	certain bool
}

func newCatchup(cfg *Config) *catchup {
	return &catchup{lateness: cfg.LatenessSeconds, finish: cfg.finishSeconds(), known: make(map[event.IndexKey]past)}
}

// begin starts a pass over a second and returns the rows to read for it: those of
// the second, and of those before it what is not known with certainty.
func (c *catchup) begin(nowMillis, second int64, dcs []string) (keys []event.IndexKey) {
	c.second, c.startedMillis = second, nowMillis
	c.rows = make(map[event.IndexKey]answer, 2*len(dcs))
	for key := range c.known {
		if key.Epoch < second-index.ExpectedSeconds || key.Epoch >= second {
			delete(c.known, key)
		}
	}
	for _, dc := range dcs {
		for s := max(second-index.ExpectedSeconds, 1); s < second; s++ {
			key := event.IndexKey{Epoch: s, DC: dc}
			if p := c.known[key]; !p.certain(second) && !p.gone {
				keys = append(keys, key)
			}
		}
		keys = append(keys, event.IndexKey{Epoch: second, DC: dc}, event.IndexKey{Epoch: second, DC: dc, Late: true})
	}
	return keys
}

// answered takes in what a read gave. After an error, row is empty and not
// certain.
func (c *catchup) answered(key event.IndexKey, row index.Row, certain bool) {
	if key.Epoch < c.second {
		p := past{presence: index.PresenceOf(row)}
		if certain {
			p.certainAt = c.startedMillis
		}
		c.known[key] = p
		return
	}
	c.rows[key] = answer{row, certain}
}

// expired takes in that a row before the second at hand has expired.
func (c *catchup) expired(key event.IndexKey) { c.known[key] = past{gone: true} }

// conclude ends the pass: it returns what the feed lacks of the second, and
// whether the second is finished once that is delivered.
func (c *catchup) conclude(f *feed) (backlog []waiting, finished bool) {
	finished = c.startedMillis >= (c.second+c.finish)*1000
	offered := make(map[uint64]struct{})
	for _, key := range c.inOrder() {
		a := c.rows[key]
		finished = finished && a.certain
		blobsOf(key, a.row, func(b *blob) {
			if _, ok := offered[b.id]; !ok && f.lacksBlob(b) {
				offered[b.id] = struct{}{}
				backlog = append(backlog, waiting{blob: b})
			}
		})
		if key.Late {
			continue
		}
		m, settled := c.judge(key, a)
		if m != nil && f.lacksMark(m) {
			backlog = append(backlog, waiting{mark: m})
		}
		finished = finished && settled
		if finished {
			c.known[key] = past{presence: index.PresenceOf(a.row), certainAt: c.startedMillis}
		}
	}
	c.rows = nil
	return backlog, finished
}

// inOrder returns the keys of the second's rows, in the order in which the window
// tells things too.
func (c *catchup) inOrder() []event.IndexKey {
	keys := make([]event.IndexKey, 0, len(c.rows))
	for key := range c.rows {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// judge returns the watermark of a row's second, nil while it is pending, and
// whether all that can be known of the seconds before it is known.
func (c *catchup) judge(key event.IndexKey, a answer) (m *mark, settled bool) {
	certain, settled := a.certain, true
	presences := make([]index.Presence, 0, index.ExpectedSeconds)
	for s := max(key.Epoch-index.ExpectedSeconds, 1); s < key.Epoch; s++ {
		p := c.known[event.IndexKey{Epoch: s, DC: key.DC}]
		certain = certain && p.certain(key.Epoch)
		settled = settled && (p.certain(key.Epoch) || p.gone)
		presences = append(presences, p.presence)
	}
	expected := index.Expected(presences...)
	v := index.Evaluate(key.Epoch, a.row, expected, certain, c.startedMillis/1000, c.lateness)
	early := len(expected) == 0 && c.startedMillis < (key.Epoch+c.finish)*1000 // see window.judge
	if v.State == index.Pending || v.State == index.Complete && early {
		return nil, settled
	}
	return &mark{second: key.Epoch, dc: key.DC, verdict: v}, settled
}
