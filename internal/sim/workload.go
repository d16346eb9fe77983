package sim

import (
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// A workload is what clients do. Objects are stamped once, by clocks that agree
// well enough; every operation goes on in the presence of faults.
type workload struct {
	s       *Sim
	end     time.Duration
	stamp   int64
	values  int
	writers int
	loose   bool            // some blobs are of a writer who says nothing of its seconds
	blobs   []object.Record // that were put, to be put again; a use of each
}

// looseWriter says nothing of its seconds, so that they are never complete.
const looseWriter = "loose"

// pace is about how long there is for an operation. With the default number of them
// clients work for long enough to see slots sealed.
const pace = 120 * time.Millisecond

func (w *workload) init(s *Sim) { w.s, w.loose = s, s.rng.IntN(5) == 0 }

// start arranges for the clients' work and returns when it ends.
func (w *workload) start() time.Duration {
	s := w.s
	w.end = s.now + max(time.Duration(s.cfg.Ops)*pace, 10*time.Second) + s.upTo(20*time.Second)
	for range 1 + s.rng.IntN(2) {
		w.newWriter(s.dcs[s.rng.IntN(len(s.dcs))])
	}
	ops := s.cfg.Ops
	for range ops {
		s.at(s.between(s.now, w.end), w.one)
	}
	return w.end
}

// one does one operation of a random kind.
func (w *workload) one() {
	s := w.s
	switch n := s.rng.IntN(100); {
	case n < 11:
		w.putBlob("put", w.seconds(0, 3))
	case n < 14:
		w.putBlob("put tardily", w.seconds(4, 11))
	case n < 18:
		w.putBlob("put late", w.seconds(12, 40))
	case n < 22:
		w.putBatch()
	case n < 27:
		w.again()
	case n < 31:
		w.conflict()
	case n < 43:
		w.putPlain(plainBucket)
	case n < 47:
		w.putPlain(alwaysBucket)
	case n < 53:
		w.putPlain(quickBucket)
	case n < 56:
		w.deletePlain()
	case n < 58:
		w.deleteBlob()
	case n < 68:
		w.getBlob(true)
	case n < 71:
		w.getBlob(false)
	case n < 74:
		w.getNothing()
	case n < 82:
		w.getPlain(plainBucket)
	case n < 85:
		w.getPlain(alwaysBucket)
	case n < 92:
		w.getPlain(quickBucket)
	default:
		w.readRow()
	}
}

// seconds returns an epoch that is so many seconds past, from least to most.
func (w *workload) seconds(least, most int64) int64 {
	return w.s.timeAt(w.s.now).Unix() - least - w.s.rng.Int64N(most-least+1)
}

// nextStamp returns a timestamp greater than all before.
func (w *workload) nextStamp() int64 {
	w.stamp = max(w.stamp+1, w.s.timeAt(w.s.now).UnixMicro())
	return w.stamp
}

// turn is the node a client asks first.
func (w *workload) turn() int { return w.s.rng.IntN(len(w.s.nodes)) }

// value makes bytes that nobody else has.
func (w *workload) value() []byte {
	w.values++
	size := 10 + w.s.rng.IntN(200)
	if w.s.rng.IntN(20) == 0 {
		size = w.s.rng.IntN(20_000)
	}
	b := fmt.Appendf(make([]byte, 0, size+32), "value %d of seed %d ", w.values, w.s.cfg.Seed)
	for len(b) < size {
		b = append(b, byte('a'+len(b)%26))
	}
	return b
}

func (w *workload) encode(h object.Header, value []byte) object.Record {
	h.Type = []byte(bucket.DefaultType)
	rec, err := object.Encode(h, value)
	if err != nil {
		panic("sim: BUG: a record cannot be encoded: " + err.Error())
	}
	return rec
}

// blob makes a new blob of a second, of a writer who promises nothing.
func (w *workload) blob(epoch int64) object.Record {
	w.values++
	key := event.Key{
		Epoch: epoch, DC: w.s.dcs[w.s.rng.IntN(len(w.s.dcs))], Type: "WEB", Subtype: "app", Chunk: event.Chunk(7, uint64(w.values)),
	}
	h := object.Header{
		Kind: object.Value, TimestampMicros: w.nextStamp(), EventCount: 1, Bucket: []byte(bucket.Events), Key: []byte(key.String()),
	}
	if w.loose && w.s.rng.IntN(2) == 0 {
		h.Writer, h.Incarnation = []byte(looseWriter), 7
	}
	return w.encode(h, w.value())
}

// remember keeps a blob to be put again.
func (w *workload) remember(rec object.Record) {
	if len(w.blobs) < 100 {
		w.blobs = append(w.blobs, rec.Retain())
		return
	}
	i := w.s.rng.IntN(len(w.blobs))
	w.blobs[i].Release()
	w.blobs[i] = rec.Retain()
}

func ignore([]object.Record, []putAnswer) {}

func (w *workload) putBlob(kind string, epoch int64) {
	w.s.ops.add(kind, 1)
	rec := w.blob(epoch)
	w.remember(rec)
	w.s.put([]object.Record{rec}, w.turn(), ignore)
}

func (w *workload) putBatch() {
	w.s.ops.add("put batch", 1)
	var recs []object.Record
	for range 2 + w.s.rng.IntN(5) {
		recs = append(recs, w.blob(w.seconds(0, 3)))
	}
	w.remember(recs[0])
	w.s.put(recs, w.turn(), ignore)
}

// again puts the identical record once more.
func (w *workload) again() {
	if len(w.blobs) == 0 {
		w.putBlob("put", w.seconds(0, 3))
		return
	}
	w.s.ops.add("put again", 1)
	w.s.put([]object.Record{w.blobs[w.s.rng.IntN(len(w.blobs))].Retain()}, w.turn(), ignore)
}

// conflict puts other bytes under the key of a blob.
func (w *workload) conflict() {
	if len(w.blobs) == 0 {
		w.putBlob("put", w.seconds(0, 3))
		return
	}
	w.s.ops.add("put in conflict", 1)
	other := w.blobs[w.s.rng.IntN(len(w.blobs))]
	h := other.Header
	h.TimestampMicros = w.nextStamp()
	w.s.put([]object.Record{w.encode(h, w.value())}, w.turn(), ignore)
}

// plainKey is one of a few, so that versions follow each other.
func (w *workload) plainKey() string { return fmt.Sprintf("key-%d", w.s.rng.IntN(12)) }

func (w *workload) putPlain(name string) {
	w.s.ops.add("put "+name, 1)
	rec := w.encode(object.Header{Kind: object.Value, TimestampMicros: w.nextStamp(), Bucket: []byte(name), Key: []byte(w.plainKey())}, w.value())
	w.s.put([]object.Record{rec}, w.turn(), ignore)
}

func (w *workload) deletePlain() {
	w.s.ops.add("delete", 1)
	rec := w.encode(object.Header{Kind: object.Tombstone, TimestampMicros: w.nextStamp(), Bucket: []byte(plainBucket), Key: []byte(w.plainKey())}, nil)
	w.s.put([]object.Record{rec}, w.turn(), ignore)
}

// deleteBlob erases a blob, as package client does: it reads its header first.
func (w *workload) deleteBlob() {
	w.s.ops.add("delete blob", 1)
	k := w.anyBlob()
	if k == nil {
		return
	}
	v := k.view()
	w.s.get(bucket.Events, k.key, false, w.turn(), func(rec object.Record, err *object.Error) {
		w.s.model.got(k, v, &rec, err, true)
		if err != nil {
			return
		}
		h := object.Header{
			Kind: object.Tombstone, TimestampMicros: max(w.nextStamp(), rec.TimestampMicros+1),
			Bucket: []byte(bucket.Events), Key: []byte(k.key), Writer: rec.Writer, Incarnation: rec.Incarnation,
		}
		w.s.put([]object.Record{w.encode(h, nil)}, w.turn(), ignore)
	})
}

// anyBlob returns a blob's key that was put, newer ones rather than old ones.
func (w *workload) anyBlob() *key {
	for range 20 {
		order := w.s.model.order
		if len(order) == 0 {
			return nil
		}
		from := 0
		if w.s.rng.IntN(2) == 0 {
			from = max(0, len(order)-40)
		}
		if k := order[from+w.s.rng.IntN(len(order)-from)]; k.bucket == bucket.Events {
			return k
		}
	}
	return nil
}

func (w *workload) getBlob(body bool) {
	kind := "head"
	if body {
		kind = "get"
	}
	w.s.ops.add(kind, 1)
	if k := w.anyBlob(); k != nil {
		v := k.view()
		w.s.get(k.bucket, k.key, body, w.turn(), func(rec object.Record, err *object.Error) { w.s.model.got(k, v, &rec, err, true) })
	}
}

// getNothing reads a key that nobody has put.
func (w *workload) getNothing() {
	w.s.ops.add("get of nothing", 1)
	key := event.Key{Epoch: w.seconds(0, 30), DC: w.s.dcs[0], Type: "NO", Subtype: "app", Chunk: event.Chunk(9, w.s.rng.Uint64N(50))}.String()
	w.s.get(bucket.Events, key, true, w.turn(), func(rec object.Record, err *object.Error) {
		switch {
		case err == nil:
			w.s.breach("I6", "events/"+key, "a read found what nobody has put")
		case err.Code != object.CodeAbsent:
			w.s.notes.add("reads without an answer", 1)
		}
	})
}

func (w *workload) getPlain(name string) {
	w.s.ops.add("get "+name, 1)
	k := w.s.model.key(name, w.plainKey())
	v := k.view()
	w.s.get(name, k.key, true, w.turn(), func(rec object.Record, err *object.Error) {
		w.s.model.got(k, v, &rec, err, name != quickBucket)
	})
}

// apart puts an object on one side of a split network and, if it is acknowledged,
// reads it on the other.
func (w *workload) apart(side []bool) {
	s := w.s
	here := s.rng.IntN(2) == 0
	s.ops.add("put, and got elsewhere", 1)
	name, key := plainBucket, w.plainKey()
	rec := w.encode(object.Header{Kind: object.Value, TimestampMicros: w.nextStamp(), Bucket: []byte(name), Key: []byte(key)}, w.value())
	if s.rng.IntN(2) == 0 { // late, into a slot of which some may have changed hands
		rec.Release()
		rec = w.blob(w.seconds(12, 40))
		name, key = bucket.Events, string(rec.Key)
	}
	s.put([]object.Record{rec}, w.turnOn(side, here), func(_ []object.Record, fates []putAnswer) {
		if fates[0].err != nil {
			return
		}
		k := s.model.key(name, key)
		v := k.view()
		s.get(name, key, true, w.turnOn(side, !here), func(rec object.Record, err *object.Error) { s.model.got(k, v, &rec, err, true) })
	})
}

// turnOn returns a turn that begins with a node of one side.
func (w *workload) turnOn(side []bool, here bool) int {
	turn := w.turn()
	doors := w.s.members()
	for range doors {
		if n := doors[turn%len(doors)]; n.at < len(side) && side[n.at] == here {
			break
		}
		turn++
	}
	return turn
}

func (w *workload) readRow() {
	w.s.ops.add("read row", 1)
	key := event.IndexKey{Epoch: w.seconds(0, 40), DC: w.s.dcs[w.s.rng.IntN(len(w.s.dcs))]}
	w.s.checkRow(key, w.turn(), func(bool) {})
}

// checkRow reads a row and holds it against the model.
func (s *Sim) checkRow(key event.IndexKey, turn int, over func(certain bool)) {
	acked, begun := s.model.ackedIn(key), s.now
	s.row(key, turn, s.rowChecked(key, acked, begun, over))
}
