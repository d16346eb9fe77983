package sim

import (
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A bench is a model to which things are told that a right store would not say.
type bench struct {
	t *testing.T
	s *Sim
}

func (b *bench) rec(name, key string, stamp int64, value string) object.Record {
	h := object.Header{Kind: object.Value, TimestampMicros: stamp, Type: []byte("default"), Bucket: []byte(name), Key: []byte(key), Writer: []byte("agg-1"), Incarnation: 1}
	if value == "" {
		h.Kind = object.Tombstone
	}
	rec, err := object.Encode(h, []byte(value))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(rec.Release)
	return rec
}

// put is a put with its fate: nil for acknowledged.
func (b *bench) put(name, key string, stamp int64, value string, err *object.Error) object.Record {
	rec := b.rec(name, key, stamp, value)
	b.s.model.sends(&rec)
	b.s.model.put(&rec, putAnswer{err: err})
	return rec
}

var (
	maybe = object.Errorf(object.CodeDeadline, object.MaybeDone, "late")
	never = object.Errorf(object.CodeRefused, object.NotDone, "no")
	gone  = object.Errorf(object.CodeAbsent, object.NotDone, "nothing")
	dunno = object.Errorf(object.CodeUnknown, object.NotDone, "cannot be told")
)

// TestChecksFail tells the model of reads that break a promise, and of some that
// do not: each check says so, and only then.
func TestChecksFail(t *testing.T) {
	const blob = "1800000000:ams:WEB:app:0000000000000001-1"
	second := event.IndexKey{Epoch: 1800000000, DC: "ams"}
	for _, c := range []struct {
		claim string
		want  string // the invariant; "" for none
		do    func(b *bench)
	}{
		{"an acknowledged value is found", "", func(b *bench) {
			rec := b.put(plainBucket, "k", 1, "a", nil)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &rec, nil, true)
		}},
		{"what was acknowledged is absent", "I6", func(b *bench) {
			b.put(plainBucket, "k", 1, "a", nil)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, gone, true)
		}},
		{"what was not acknowledged is absent", "", func(b *bench) {
			b.put(plainBucket, "k", 1, "a", maybe)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, gone, true)
		}},
		{"what was deleted is absent", "", func(b *bench) {
			b.put(plainBucket, "k", 1, "a", nil)
			b.put(plainBucket, "k", 2, "", maybe)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, gone, true)
		}},
		{"what was put after it was deleted is absent", "I6", func(b *bench) {
			b.put(plainBucket, "k", 1, "", nil)
			b.put(plainBucket, "k", 2, "a", nil)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, gone, true)
		}},
		{"it cannot be told", "", func(b *bench) {
			b.put(plainBucket, "k", 1, "a", nil)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, dunno, true)
		}},
		{"something is expired", "I5", func(b *bench) {
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &object.Record{}, errExpired, true)
		}},
		{"an older version than was acknowledged", "I6", func(b *bench) {
			old := b.put(plainBucket, "k", 1, "a", nil)
			b.put(plainBucket, "k", 2, "b", nil)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &old, nil, true)
		}},
		{"the same from one owner is allowed", "", func(b *bench) {
			old := b.put(quickBucket, "k", 1, "a", nil)
			b.put(quickBucket, "k", 2, "b", nil)
			k := b.s.model.key(quickBucket, "k")
			b.s.model.got(k, k.view(), &old, nil, false)
		}},
		{"a version nobody has put", "I6", func(b *bench) {
			rec := b.rec(plainBucket, "k", 1, "a")
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &rec, nil, true)
		}},
		{"what was said to be not done", "outcome", func(b *bench) {
			rec := b.put(plainBucket, "k", 1, "a", never)
			k := b.s.model.key(plainBucket, "k")
			b.s.model.got(k, k.view(), &rec, nil, true)
		}},
		{"a certain row lacks a blob", "I2", func(b *bench) {
			b.put(bucket.Events, blob, 1, "a", nil)
			b.s.model.gotRow(second, b.s.model.ackedIn(second), 1, index.Row{})
		}},
		{"a certain row has it", "", func(b *bench) {
			rec := b.put(bucket.Events, blob, 1, "a", nil)
			_, row, err := index.DeltaOf(&rec.Header)
			if err != nil {
				b.t.Fatal(err)
			}
			b.s.model.gotRow(second, b.s.model.ackedIn(second), 1, row)
		}},
		{"a complete replica has nothing of what it took", "complete", func(b *bench) {
			rec := b.rec(plainBucket, "k", 1, "a")
			b.s.model.replicaTook(b.s.nodes[0], &rec)
			ref := vnode.RefOf(rec.Type, rec.Bucket, rec.Key)
			b.s.model.replicaSaid(b.s.nodes[0], &ref, &object.Record{}, true, gone)
		}},
		{"a ring is fixed that nobody has promised", "prepare", func(b *bench) {
			doc := *b.s.agreement.doc
			doc.Version.Index++
			doc.Change = ring.Change{Round: 1, Phase: ring.Fixed, Boundary: 180000005}
			b.s.checkStep(b.s.agreement.doc, &doc)
		}},
		{"a ring is fixed that all have promised", "", func(b *bench) {
			doc := *b.s.agreement.doc
			doc.Version.Index++
			doc.Change = ring.Change{Round: 1, Phase: ring.Fixed, Boundary: 180000005}
			for _, n := range b.s.nodes {
				if err := n.persist(ring.Promise{Round: 1, Boundary: 180000005}); err != nil {
					b.t.Fatal(err)
				}
			}
			b.s.checkStep(b.s.agreement.doc, &doc)
		}},
		{"what is agreed goes back", "agreed", func(b *bench) {
			doc := *b.s.agreement.doc
			doc.Version.Index--
			b.s.checkStep(b.s.agreement.doc, &doc)
		}},
		{"one in doubt may", "", func(b *bench) {
			rec := b.rec(plainBucket, "k", 1, "a")
			b.s.model.replicaTook(b.s.nodes[0], &rec)
			ref := vnode.RefOf(rec.Type, rec.Bucket, rec.Key)
			b.s.model.replicaSaid(b.s.nodes[0], &ref, &object.Record{}, false, gone)
		}},
		{"a complete replica has less than it took", "complete", func(b *bench) {
			old, rec := b.rec(plainBucket, "k", 1, "a"), b.rec(plainBucket, "k", 2, "b")
			b.s.model.replicaTook(b.s.nodes[0], &rec)
			ref := vnode.RefOf(rec.Type, rec.Bucket, rec.Key)
			b.s.model.replicaSaid(b.s.nodes[0], &ref, &old, true, nil)
		}},
		{"a complete replica's row loses an entry", "I3", func(b *bench) {
			rec := b.rec(bucket.Events, blob, 1, "a")
			_, row, err := index.DeltaOf(&rec.Header)
			if err != nil {
				b.t.Fatal(err)
			}
			delta, err := vnode.EncodeDelta(second, row, 1)
			if err != nil {
				b.t.Fatal(err)
			}
			defer delta.Release()
			b.s.model.replicaTook(b.s.nodes[0], &delta)
			b.s.model.replicaSaidRow(b.s.nodes[0], second, row, true)
			if b.s.broken == nil {
				b.s.model.replicaSaidRow(b.s.nodes[0], second, index.Row{}, true)
			}
		}},
		{"a tail brings one item twice", "tail", func(b *bench) {
			item := blobItem(b, blob)
			b.tailer().take(&item)
			b.s.tails[0].take(&item)
		}},
		{"a tail brings what its cursor has finished", "tail", func(b *bench) {
			item := blobItem(b, blob)
			b.tailer().cursor.Finish(item.Arrival + 1)
			b.s.tails[0].take(&item)
		}},
		{"a tail brings what nobody has put", "tail", func(b *bench) {
			item := blobItem(b, blob)
			item.Blob.Key.Chunk = "7"
			b.tailer().take(&item)
		}},
		{"a tail never brings a blob", "tail", func(b *bench) {
			b.put(bucket.Events, blob, 1, "a", nil)
			b.tailer()
			b.s.auditTails()
		}},
		{"a gap where nothing was lost", "tail", func(b *bench) {
			item := blobItem(b, blob)
			item.Kind, item.Gap = tail.KindGap, tail.Gap{First: item.Arrival, Last: item.Arrival, Key: item.Blob.Key, Err: gone}
			b.tailer().take(&item)
		}},
		{"a second is complete without a blob", "watermark", func(b *bench) {
			b.put(bucket.Events, blob, 1, "a", nil)
			b.tailer().take(complete(second))
		}},
		{"a second is complete with it", "", func(b *bench) {
			item := blobItem(b, blob)
			b.tailer().take(&item)
			b.s.tails[0].take(complete(second))
		}},
	} {
		s := newSim(Config{Seed: 1}) // of three nodes: each owns everything
		s.epoch = 1800000000
		for _, n := range s.nodes {
			n.doc = s.agreement.doc
		}
		c.do(&bench{t, s})
		got := ""
		if s.broken != nil {
			got = s.broken.Invariant
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.claim, got, c.want)
		}
	}
}

// tailer adds a tail that begins before everything.
func (b *bench) tailer() *tailer {
	t := newTailer(b.s, 0, b.s.epoch)
	t.n, t.commits = b.s.nodes[0], 1
	b.s.tails = append(b.s.tails, t)
	return t
}

// blobItem is the delivery of a blob that was acknowledged.
func blobItem(b *bench, text string) tail.Item {
	rec := b.put(bucket.Events, text, 1, "a", nil)
	key, entry, err := index.EntryOf(&rec.Header)
	if err != nil {
		b.t.Fatal(err)
	}
	return tail.Item{Kind: tail.KindBlob, Arrival: key.Epoch, Low: key.Epoch, Blob: tail.Blob{Key: key, Entry: entry}}
}

func complete(key event.IndexKey) *tail.Item {
	return &tail.Item{
		Kind: tail.KindWatermark, Arrival: key.Epoch, Low: key.Epoch,
		Watermark: tail.Watermark{Epoch: key.Epoch, DC: key.DC, Verdict: index.Verdict{State: index.Complete}},
	}
}

// TestPanicIsABreach: what panics is told of like any broken promise.
func TestPanicIsABreach(t *testing.T) {
	hook := func(string) { panic("from within") } // before there is anything that waits
	if r := Run(Config{Seed: 1, Ops: 10, Trace: hook}); r.Breach == nil || r.Breach.Invariant != "panic" || !strings.Contains(r.Breach.What, "from within") {
		t.Errorf("%v", r.Breach)
	}
}
