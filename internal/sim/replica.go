package sim

import (
	"bytes"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A local is a node's own vnodes as its coordinator asks them. It is a
// [replication.Replica].
type local struct{ n *node }

// judge is the same fence that requests of others pass.
func (l local) judge(v ring.Version, o ring.Placed, put bool) *object.Error {
	switch s := l.n.fence.Judge(l.n.id, v, o); {
	case l.n.asking:
		return errAsking
	case s == ring.IsOwner, s == ring.IsSource && !put:
		return nil
	}
	return errWrongOwner
}

// Put implements replication.Replica.
func (l local) Put(ask replication.Ask, rec object.Record, done func(uint64, *object.Error)) {
	o, _, _ := l.n.placed(rec.Type, rec.Bucket, ask.Hash, rec.Key)
	if err := l.judge(ask.History, o, true); err != nil {
		done(ask.Call, err)
		return
	}
	rec = rec.Retain()
	l.n.servePut(ask, o, rec, false, func(err *object.Error) {
		rec.Release()
		done(ask.Call, err)
	})
}

// Get implements replication.Replica.
func (l local) Get(ask replication.Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	o, _, _ := l.n.placed(bucketType, bucket, ask.Hash, key)
	if err := l.judge(ask.History, o, false); err != nil {
		done(ask.Call, object.Record{}, false, err)
		return
	}
	l.n.serveGet(refOf(bucketType, bucket, key, ask.Hash), body, func(rec object.Record, complete bool, err *object.Error) {
		done(ask.Call, rec, complete, err)
	})
}

// Row implements replication.Replica.
func (l local) Row(ask replication.Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	o := ring.Placed{Timed: true, Hash: ask.Hash, Epoch: key.Epoch, N: l.n.buckets().Lookup(bucket.DefaultType, bucket.Epochs).N}
	if err := l.judge(ask.History, o, false); err != nil {
		done(ask.Call, index.Row{}, false, err)
		return
	}
	l.n.serveRow(key, func(row index.Row, complete bool, err *object.Error) { done(ask.Call, row, complete, err) })
}

func refOf(bucketType, bucket, key []byte, hash uint64) vnode.Ref {
	return vnode.Ref{Type: bytes.Clone(bucketType), Bucket: bytes.Clone(bucket), Key: bytes.Clone(key), Hash: hash}
}

// onDisk runs f when the disk comes to it; lost instead if the node is down by then.
func (n *node) onDisk(f, lost func()) {
	if n.slow == 0 {
		f()
		return
	}
	n.after(n.s.upTo(n.slow), f, lost)
}

// servePut stores a record in the node's vnodes. The record is the caller's until
// done is called, which does not happen if the node dies before. What an index
// delta of another coordinator says is told to this node's tails.
//
// The history may have changed while it waited for the disk: what is stored for a
// ring that does not count any more is no copy that may be acknowledged.
func (n *node) servePut(ask replication.Ask, o ring.Placed, rec object.Record, publish bool, done func(*object.Error)) {
	n.onDisk(func() {
		var err error
		var key event.IndexKey
		var delta index.Row
		if rec.Kind == object.Delta {
			key, delta, err = n.appendDelta(ask.Hash, rec)
		} else {
			_, err = n.vnodes.Put(n.now(), rec)
		}
		if err == nil && n.fence.Judge(n.id, ask.History, o) != ring.IsOwner {
			err = errMoved
		}
		if err == nil && rec.Kind == object.Delta && publish {
			n.hub.Publish(tail.Update{Index: key, Delta: delta})
		}
		n.s.trace.note(n.s.now, n.at, "stores", string(rec.Key), outcome(err))
		if err == nil {
			n.s.model.replicaTook(n, &rec)
		}
		done(object.AsError(err))
	}, func() { rec.Release() })
}

func (n *node) appendDelta(hash uint64, rec object.Record) (event.IndexKey, index.Row, error) {
	key, err := event.ParseIndexKey(string(rec.Key))
	if err != nil {
		return key, index.Row{}, err
	}
	_, p := n.history().For(true, hash, key.Epoch)
	v, err := n.vnodes.Vnode(p)
	if err != nil {
		return key, index.Row{}, err
	}
	delta, _, err := v.AppendDelta(n.now(), hash, rec)
	return key, delta, err
}

// serveGet reads a record, or its header alone.
func (n *node) serveGet(ref vnode.Ref, body bool, done func(object.Record, bool, *object.Error)) {
	n.onDisk(func() {
		rec, complete, err := n.get(ref, body)
		n.s.trace.note(n.s.now, n.at, "reads", string(ref.Key), outcome(err))
		n.s.model.replicaSaid(n, &ref, &rec, complete, err)
		done(rec, complete, object.AsError(err))
	}, func() {})
}

func (n *node) get(ref vnode.Ref, body bool) (object.Record, bool, error) {
	if body {
		a, err := n.vnodes.Get(n.now(), ref)
		if err == nil && a.State != vnode.Found {
			err = stateError(a.State)
		}
		return a.Record, a.Complete, err
	}
	a, err := n.vnodes.Head(n.now(), ref)
	if err == nil && a.State != vnode.Found {
		err = stateError(a.State)
	}
	return object.Record{Header: a.Head.Header, Buf: a.Head.Buf}, a.Complete, err
}

// serveRow reads an index row.
func (n *node) serveRow(key event.IndexKey, done func(index.Row, bool, *object.Error)) {
	n.onDisk(func() {
		a, err := n.vnodes.Row(n.now(), key)
		if err == nil && a.State == vnode.Expired {
			err = stateError(a.State)
		}
		n.s.trace.note(n.s.now, n.at, "reads row", key.String(), int64(a.Row.Len())<<8|outcome(err))
		if err == nil {
			n.s.model.replicaSaidRow(n, key, a.Row, a.Complete)
		}
		done(a.Row, a.Complete, object.AsError(err))
	}, func() {})
}

var (
	errAbsent  = object.Errorf(object.CodeAbsent, object.NotDone, "no object is stored under this key")
	errExpired = object.Errorf(object.CodeExpired, object.NotDone, "the object's time has expired")
)

func stateError(s vnode.State) error {
	if s == vnode.Expired {
		return errExpired
	}
	return errAbsent
}

// outcome is an error as a figure of the trace: its code, 0 for none.
func outcome(err error) int64 {
	if err == nil {
		return 0
	}
	return int64(object.AsError(err).Code)
}
