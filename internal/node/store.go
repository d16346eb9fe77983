package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/vnode"
)

// A Store is the node's data as its doors see it: it gives objects to the
// coordinator, keeps the index in step with the blobs, and tells the hub.
//
// Its methods may be called by any goroutine. Records handed in are the
// caller's; what is kept past the call is retained. Errors are *object.Error:
// they say whether the thing was not done, may have been done, or was.
type Store struct {
	coord  *replication.Coordinator
	hub    *tail.Hub
	now    func() time.Time
	dcs    *dcSet
	rows   *grouper
	puts   *latency
	gets   *latency
	deltas *latency
	log    *slog.Logger
	info   func() proto.Info
	settle func(context.Context, *object.Header) error // returns when what is stored may be acknowledged
}

func newStore(n *Node, coord *replication.Coordinator, dcs *dcSet) *Store {
	s := &Store{
		coord: coord, now: n.cfg.Now, dcs: dcs, log: n.cfg.Log,
		puts:   newLatency("put", "Time a put took, to its acknowledgement."),
		gets:   newLatency("get", "Time a get took."),
		deltas: newLatency("delta", "Time a delta of the index took to be written."),
	}
	s.info, s.settle = n.info, n.settle
	s.rows = newGrouper(s.writeDelta)
	return s
}

// Put stores one record, or deletes if it is a tombstone. When it returns nil
// the object is as durable as its bucket's sync policy asks and, in an indexed
// bucket, in the index of its second.
func (s *Store) Put(ctx context.Context, rec object.Record) error {
	start := time.Now()
	err := checkPut(&rec)
	if err == nil {
		err = s.coord.Put(ctx, rec)
	}
	if err == nil {
		err = s.settle(ctx, &rec.Header)
	}
	if err == nil && isIndexed(&rec.Header) {
		err = s.listOne(ctx, rec)
	}
	s.puts.observe(time.Since(start), err)
	return wireError(err)
}

// PutBatch stores records side by side and then writes one delta for each index
// row they belong to. It returns an error a record, nil for those that are
// stored and listed.
func (s *Store) PutBatch(ctx context.Context, recs []object.Record) []error {
	start := time.Now()
	errs := make([]error, len(recs))
	all := selected{errs: errs}
	for i := range recs {
		if errs[i] = checkPut(&recs[i]); errs[i] == nil {
			all.add(i, recs[i])
		}
	}
	all.settle(s.coord.PutBatch(ctx, all.recs))
	listed := selected{errs: errs}
	for i := range recs {
		if errs[i] == nil {
			errs[i] = s.settle(ctx, &recs[i].Header)
		}
		if errs[i] == nil && isIndexed(&recs[i].Header) {
			listed.add(i, recs[i])
		}
	}
	listed.settle(s.list(ctx, listed.recs))
	for i := range errs {
		s.puts.observe(time.Since(start), errs[i])
		errs[i] = wireError(errs[i])
	}
	return errs
}

// selected is a part of a batch: its records, and where their errors go.
type selected struct {
	recs []object.Record
	at   []int
	errs []error
}

func (s *selected) add(i int, rec object.Record) {
	s.recs, s.at = append(s.recs, rec), append(s.at, i)
}

func (s *selected) settle(errs []error) {
	for j, err := range errs {
		s.errs[s.at[j]] = err
	}
}

// checkPut refuses what no replica should be asked to store.
func checkPut(rec *object.Record) error {
	if rec.Kind == object.Delta {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "an index delta was put as an object: use the operation for the index")
	}
	if err := object.ValidateFields(rec.Metadata); err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	// The value is checked here once: what the store would keep for days must be
	// what the writer sent.
	if err := rec.Verify(); err != nil {
		return object.Errorf(object.CodeCorrupt, object.NotDone, "%w: it was damaged on its way, send it again", err)
	}
	return nil
}

// isIndexed reports whether a record belongs to the bucket whose puts are indexed.
func isIndexed(h *object.Header) bool {
	return string(h.Bucket) == bucket.Events && string(h.Type) == bucket.DefaultType
}

// listOne writes the index entry of a blob that is stored, and publishes it to the
// hub: what list does, for what most puts are.
func (s *Store) listOne(ctx context.Context, rec object.Record) error {
	key, delta, fault := replication.RowOfBlob(&rec.Header)
	if fault != nil {
		return fault
	}
	return s.addToRow(ctx, key, delta, []object.Record{rec})
}

// list writes the index entries of blobs that are stored, one delta a row, and
// publishes them to the hub. It returns an error a record.
func (s *Store) list(ctx context.Context, recs []object.Record) []error {
	errs := make([]error, len(recs))
	rows := replication.RowsOfBlobs(recs, func(i int, err *object.Error) { errs[i] = err })
	for _, row := range rows {
		bodies := recs
		if len(rows) > 1 {
			bodies = make([]object.Record, len(row.Blobs))
			for j, i := range row.Blobs {
				bodies[j] = recs[i]
			}
		}
		if err := s.addToRow(ctx, row.Key, row.Delta, bodies); err != nil {
			for _, i := range row.Blobs {
				errs[i] = err
			}
		}
	}
	return errs
}

// addToRow adds to an index row, as late entries if its second is closed, and
// publishes what it added. The blobs it names are stored already: an error means
// that they may be found, or may not.
func (s *Store) addToRow(ctx context.Context, key event.IndexKey, delta index.Row, bodies []object.Record) error {
	listing, next := replication.NewListing(key, delta)
	for next.Kind == replication.AddToRow {
		err := s.rows.add(ctx, next.Key, next.Row)
		next = listing.Added(object.AsError(err), s.now().Unix())
	}
	if next.Err != nil {
		return next.Err
	}
	s.publish(next.Key, next.Row, bodies)
	return nil
}

// writeDelta makes one delta durable. It is the grouper's write.
func (s *Store) writeDelta(ctx context.Context, key event.IndexKey, delta index.Row) error {
	start := time.Now()
	if err := delta.ValidateFor(key); err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	rec, err := vnode.EncodeDelta(key, delta, s.now().UnixMicro())
	if err != nil {
		return err
	}
	defer rec.Release()
	err = s.coord.AppendDelta(ctx, rec)
	if err == nil {
		err = s.settle(ctx, &rec.Header)
	}
	s.deltas.observe(time.Since(start), err)
	return err
}

// Add adds entries that a vnode found missing to an index row: it makes Store a
// vnode.Index. What a closed second cannot take late is dropped.
func (s *Store) Add(ctx context.Context, key event.IndexKey, delta index.Row) error {
	return s.addToRow(ctx, key, delta, nil)
}

// A tailSource is what the hub reads: the store, blobs by their parsed key.
type tailSource struct{ *Store }

// DCs returns the data centres with data.
func (s tailSource) DCs() []string { return s.dcs.names() }

// Get returns a blob.
func (s tailSource) Get(ctx context.Context, key event.Key) (object.Record, error) {
	var text [event.MaxKeyBytes]byte
	return s.Store.Get(ctx, []byte(bucket.DefaultType), []byte(bucket.Events), key.AppendTo(text[:0]))
}

func (s *Store) publish(key event.IndexKey, delta index.Row, bodies []object.Record) {
	if err := s.dcs.add(key.DC); err != nil {
		s.log.Warn("the list of data centres was not kept", "dc", key.DC, "error", err)
	}
	s.hub.Publish(tail.Update{Index: key, Delta: delta, Bodies: bodies})
}

// AppendIndex adds a writer's word to the index row of a second: hello, final,
// goodbye. Entries are refused: they come with their blobs.
func (s *Store) AppendIndex(ctx context.Context, key event.IndexKey, delta index.Row) error {
	switch {
	case key.Late:
		return object.Errorf(object.CodeBadRequest, object.NotDone, "late lists are the store's own: nobody writes to them")
	case delta.Empty():
		return object.Errorf(object.CodeBadRequest, object.NotDone, "the delta says nothing")
	case delta.Len() > 0:
		return object.Errorf(object.CodeBadRequest, object.NotDone, "entries of the index are made by putting their blobs")
	}
	if err := delta.ValidateFor(key); err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	err := s.rows.add(ctx, key, delta)
	if errors.Is(err, object.CodeClosed) {
		return object.Errorf(object.CodeExpired, object.NotDone, "second %d of %s is closed: hello, final and goodbye come too late for it", key.Epoch, key.DC)
	}
	if err != nil {
		return wireError(err)
	}
	s.publish(key, delta, nil)
	return nil
}

// Get returns an object with its value. The caller releases the record. Errors:
// CodeAbsent, CodeExpired, CodeUnknown and the storage's.
func (s *Store) Get(ctx context.Context, bucketType, name, key []byte) (rec object.Record, err error) {
	start := time.Now()
	defer func() { s.gets.observe(time.Since(start), err) }()
	rec, err = s.coord.Get(ctx, bucketType, name, canonicalKey(bucketType, name, key))
	return rec, wireError(err)
}

// Head is Get without the value: f is called with the header, parsed and as it
// is encoded, which live until it returns.
func (s *Store) Head(ctx context.Context, bucketType, name, key []byte, f func(*object.Header, []byte)) error {
	rec, err := s.coord.Head(ctx, bucketType, name, canonicalKey(bucketType, name, key))
	if err != nil {
		return wireError(err)
	}
	defer rec.Release()
	f(&rec.Header, object.AppendHeader(nil, &rec.Header))
	return nil
}

// canonicalKey spells an index row's key in the one way it is stored under.
func canonicalKey(bucketType, name, key []byte) []byte {
	if string(name) != bucket.Epochs || string(bucketType) != bucket.DefaultType {
		return key
	}
	k, err := event.ParseIndexKey(string(key))
	if err != nil {
		return key
	}
	return k.AppendTo(nil)
}

// Row returns the index row of a second, and whether it surely lacks nothing
// that was acknowledged.
func (s *Store) Row(ctx context.Context, key event.IndexKey) (row index.Row, certain bool, err error) {
	if err := key.Validate(); err != nil {
		return index.Row{}, false, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	row, certain, err = s.coord.Row(ctx, key)
	return row, certain, wireError(err)
}

// Info tells about the node and its buckets.
func (s *Store) Info(context.Context) (proto.Info, error) { return s.info(), nil }

// Subscribe begins a tail.
func (s *Store) Subscribe(o tail.Options) (*tail.Subscription, error) { return s.hub.Subscribe(o) }

// wireError returns err as an *object.Error; nil stays nil.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	return object.AsError(err)
}
