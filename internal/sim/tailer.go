package sim

import (
	"fmt"
	"maps"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// A tailer follows all data centres. It keeps a cursor of its own and commits it
// now and then; when its node dies, or it likes, it goes on from what it has
// committed at another one.
type tailer struct {
	s    *Sim
	at   int // which tailer
	from int64

	cursor    *cursor.Cursor
	committed string
	firm      map[uint64]int64 // second of arrival by identity: delivered before the last commit
	fresh     map[uint64]int64 // and since
	got       map[string]bool  // keys of blobs, ever
	gaps      map[string]bool  // the same of blobs that could not be delivered

	n       *node
	task    *task
	commits int // items until the next one
}

func (s *Sim) startTails() {
	for i := range 1 + s.rng.IntN(2) {
		t := newTailer(s, i, s.timeAt(s.now).Unix())
		s.tails = append(s.tails, t)
		t.connect()
	}
}

func newTailer(s *Sim, at int, from int64) *tailer {
	t := &tailer{
		s: s, at: at, from: from, cursor: cursor.New(from),
		firm: map[uint64]int64{}, fresh: map[uint64]int64{}, got: map[string]bool{}, gaps: map[string]bool{},
	}
	t.committed = t.cursor.String()
	return t
}

// connect begins at some node that is up.
func (t *tailer) connect() {
	s := t.s
	if s.ended {
		return
	}
	up := s.upNodes()
	if len(up) == 0 {
		s.after(time.Second, t.connect)
		return
	}
	n := up[s.rng.IntN(len(up))]
	at, err := cursor.Parse(t.committed)
	if err != nil {
		s.breach("tail", "", "a cursor that a tail has written cannot be read: %v", err)
		return
	}
	t.n, t.cursor, t.fresh = n, at, map[uint64]int64{}
	withoutBodies := s.rng.IntN(2) == 0
	sub, err := n.hub.Subscribe(tail.Options{Cursor: t.committed, WithoutBodies: withoutBodies})
	if err != nil {
		s.notes.add("tails refused", 1)
		s.after(time.Second, t.connect)
		return
	}
	s.notes.add("tails begun", 1)
	s.trace.note(s.now, n.at, fmt.Sprintf("begins tailer %d", t.at), fmt.Sprint(withoutBodies), at.Low()-s.epoch)
	n.spawn(func(k *task) {
		t.task = k
		for {
			item, err := sub.Next(k.ctx)
			if err != nil {
				break
			}
			t.take(&item)
			item.Release()
		}
		sub.Close()
		s.after(s.between(100*time.Millisecond, 2*time.Second), t.connect)
	})
	n.settle()
}

// leave goes on at another node.
func (t *tailer) leave() {
	if t.task != nil && !t.task.over {
		t.task.kill()
	}
}

func (t *tailer) take(item *tail.Item) {
	s := t.s
	id := item.ID()
	switch {
	case id == 0:
	case t.firm[id] == item.Arrival || t.fresh[id] == item.Arrival:
		s.breach("tail", itemKey(item), "tailer %d was given an item of second %d twice, and its cursor knows it", t.at, item.Arrival)
	case item.Arrival < t.cursor.Low():
		s.breach("tail", itemKey(item), "tailer %d was given an item of second %d, and its cursor had finished with what is before %d", t.at, item.Arrival, t.cursor.Low())
	case t.cursor.Has(id): // the same blob in the list of another second: a client passes it over
		s.notes.add("listed again", 1)
	default:
		t.cursor.Add(item.Arrival, id)
		t.fresh[id] = item.Arrival
	}
	t.cursor.Finish(item.Low)
	switch item.Kind {
	case tail.KindBlob:
		t.blob(item)
	case tail.KindWatermark:
		t.watermark(item)
	case tail.KindGap:
		s.trace.note(s.now, t.n.at, "gap", item.Gap.Key.String(), 0)
		s.notes.add("gaps in tails", 1)
		t.gap(item)
	}
	if t.commits--; t.commits <= 0 {
		t.commit()
	}
}

func itemKey(item *tail.Item) string {
	if item.Kind == tail.KindBlob {
		return bucket.Events + "/" + item.Blob.Key.String()
	}
	return ""
}

func (t *tailer) commit() {
	t.committed = t.cursor.String()
	maps.Copy(t.firm, t.fresh)
	clear(t.fresh)
	t.commits = 1 + t.s.rng.IntN(20)
}

// gap checks that what cannot be delivered is not there: bytes were lost, or it was
// erased, or its put was not acknowledged yet. Recovery lists a blob from the one
// owner that has it; if its writer tries again it is acknowledged after all, and
// was told of as a gap.
func (t *tailer) gap(item *tail.Item) {
	s := t.s
	text := item.Gap.Key.String()
	t.gaps[text] = true
	if k := s.model.keys[bucket.Events+"/"+text]; !s.lossy && (k == nil || len(k.acked) > 0 && !k.erased) {
		s.breach("tail", bucket.Events+"/"+text, "tailer %d was given a gap, and no replica has lost anything: %v", t.at, item.Gap.Err)
	}
}

func (t *tailer) blob(item *tail.Item) {
	s := t.s
	b := &item.Blob
	k := s.model.keys[bucket.Events+"/"+b.Key.String()]
	s.trace.note(s.now, t.n.at, fmt.Sprintf("gives tailer %d", t.at), b.Key.String(), (item.Arrival-s.epoch)<<16|int64(b.Entry.Checksum&0xffff))
	if k == nil {
		s.breach("tail", itemKey(item), "a tail delivered what nobody has put")
		return
	}
	t.got[k.key] = true
	known := false
	for _, p := range k.puts {
		known = known || p.checksum == b.Entry.Checksum
	}
	if !known {
		s.breach("tail", k.id(), "a tail delivered an entry of a value that nobody has put")
	}
	if b.Record.Buf == nil {
		return
	}
	if err := b.Record.Verify(); err != nil {
		s.notes.add("damaged bodies tailed", 1) // the client reads another copy
	}
}

// watermark checks that a second that is called complete has all that was
// acknowledged of it in time, and that it was delivered before.
func (t *tailer) watermark(item *tail.Item) {
	s := t.s
	w := &item.Watermark
	s.notes.add("watermarks "+w.Verdict.State.String(), 1)
	s.trace.note(s.now, t.n.at, "watermark", w.DC+" "+w.Verdict.String(), w.Epoch-s.epoch)
	if w.Verdict.State != index.Complete {
		return
	}
	r := s.model.rows[event.IndexKey{Epoch: w.Epoch, DC: w.DC}]
	if r == nil {
		return
	}
	for _, suffix := range r.order {
		p := r.entries[suffix]
		k := s.model.keys[bucket.Events+"/"+string(p.header.Key)]
		if p.late || k.erased || len(p.header.Writer) == 0 || string(p.header.Writer) == looseWriter {
			continue // late, or of one who makes no promises
		}
		if !t.got[k.key] && !t.gaps[k.key] {
			s.breach("watermark", k.id(), "tailer %d was told that second %d of %s is complete, without this blob, acknowledged at %v", t.at, w.Epoch, w.DC, p.at)
		}
	}
}
