package sim

import (
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A putAnswer is what a node says to the put of one record.
type putAnswer struct {
	err  *object.Error
	late bool // it is listed as late
}

// put stores records as a node's door does: it puts them side by side, then lists
// what is indexed, and then answers. The records are the caller's until then.
func (n *node) put(recs []object.Record, reply func([]putAnswer)) {
	answers := make([]putAnswer, len(recs))
	open := 1
	stored := func() {
		if open--; open == 0 {
			n.list(recs, answers, reply)
		}
	}
	for i := range recs {
		if err := recs[i].Verify(); err != nil {
			answers[i].err = object.Errorf(object.CodeCorrupt, object.NotDone, "%w", err)
			continue
		}
		open++
		n.write(recs[i], func(err *object.Error) {
			answers[i].err = err
			stored()
		})
	}
	stored()
}

// write has the owners take a record, if this node can tell who they are. It is
// acknowledged only if nobody can deny it who does not know of them yet.
func (n *node) write(rec object.Record, done func(*object.Error)) {
	o, p, ok := n.placed(rec.Type, rec.Bucket, ring.HashBytes(rec.Type, rec.Bucket, rec.Key), rec.Key)
	if n.asking {
		done(errAsking)
		return
	}
	// What is further ahead the owners refuse; it is not to count as admitted here.
	if ok && o.Timed && o.Epoch <= n.now().Unix()+aheadSeconds {
		if err := n.admit(o.Epoch); err != nil {
			done(object.AsError(err))
			return
		}
	}
	n.coord.BeginWrite(rec, func(err *object.Error) {
		if err == nil && ok && !n.settled(o, &p) {
			n.s.notes.add("puts not settled", 1)
			err = errUnsettled
		}
		done(err)
	})
}

// list lists those records that were stored and are indexed, and replies.
func (n *node) list(recs []object.Record, answers []putAnswer, reply func([]putAnswer)) {
	var listed []object.Record
	var at []int
	for i := range recs {
		if answers[i].err == nil && string(recs[i].Bucket) == bucket.Events {
			listed, at = append(listed, recs[i]), append(at, i)
		}
	}
	open := 1
	over := func() {
		if open--; open == 0 {
			reply(answers)
		}
	}
	for _, row := range replication.RowsOfBlobs(listed, func(i int, err *object.Error) { answers[at[i]].err = err }) {
		open++
		n.addToRow(row.Key, row.Delta, listed, func(err *object.Error, late bool) {
			for _, i := range row.Blobs {
				answers[at[i]] = putAnswer{err, late}
			}
			over()
		})
	}
	over()
}

// addToRow adds to an index row, as late entries if its second is closed, and tells
// the hub.
func (n *node) addToRow(key event.IndexKey, delta index.Row, bodies []object.Record, done func(err *object.Error, late bool)) {
	listing, next := replication.NewListing(key, delta)
	l := &listing
	var perform func(next replication.ListingAction)
	perform = func(next replication.ListingAction) {
		if next.Kind == replication.AddToRow {
			n.addDelta(next.Key, next.Row, func(err *object.Error) { perform(l.Added(err, n.now().Unix())) })
			return
		}
		if next.Err == nil {
			n.hub.Publish(tail.Update{Index: next.Key, Delta: next.Row, Bodies: bodies})
		}
		done(next.Err, l.Late())
	}
	perform(next)
}

// addDelta brings a delta to its row's group.
func (n *node) addDelta(key event.IndexKey, row index.Row, done func(*object.Error)) {
	if group := n.rows.Add(key, row); group != nil {
		group.Waiting = append(group.Waiting, done)
		return
	}
	n.writeDelta(key, row, []func(*object.Error){done})
}

// writeDelta writes a group's delta, tells those who wait, and goes on with the
// next group.
func (n *node) writeDelta(key event.IndexKey, delta index.Row, waiting []func(*object.Error)) {
	over := func(err *object.Error) {
		next := n.rows.Written(key)
		for _, done := range waiting {
			done(err)
		}
		if next != nil {
			n.writeDelta(key, next.Row(), next.Waiting)
		}
	}
	if err := delta.ValidateFor(key); err != nil {
		over(object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err))
		return
	}
	rec, err := vnode.EncodeDelta(key, delta, n.now().UnixMicro())
	if err != nil {
		over(object.AsError(err))
		return
	}
	n.write(rec, over)
	rec.Release()
}

// appendIndex adds a writer's word to a row: hello, final, goodbye.
func (n *node) appendIndex(key event.IndexKey, delta index.Row, reply func(*object.Error)) {
	n.addDelta(key, delta, func(err *object.Error) {
		switch {
		case err == nil:
			n.hub.Publish(tail.Update{Index: key, Delta: delta})
		case err.Code == object.CodeClosed:
			err = object.Errorf(object.CodeExpired, object.NotDone, "the second is closed")
		}
		reply(err)
	})
}
