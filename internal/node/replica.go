package node

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A localReplica is this node's vnodes as the coordinator asks them. It works on
// the caller's goroutine and has answered when it returns. It is a
// [replication.Replica].
type localReplica struct {
	me      ring.NodeID
	vnodes  *vnode.Set
	history func() *ring.History
	now     func() time.Time
	fence   *fence
	fresh   *freshness
	pushes  *pushes
}

// Put stores a value, a tombstone, or a delta of the index.
func (l *localReplica) Put(ask replication.Ask, rec object.Record, done func(uint64, *object.Error)) {
	ref := peer.Ref{Type: rec.Type, Bucket: rec.Bucket, Key: rec.Key, Hash: ask.Hash}
	if err := l.fence.check(ask.History, ref, true); err != nil {
		done(ask.Call, err)
		return
	}
	err := object.AsError(l.put(l.me, ask.Hash, rec))
	// What was stored for a ring that does not count any more is no copy that may be
	// acknowledged.
	if err == nil && l.fence.check(ask.History, ref, true) != nil {
		err = errMovedMeanwhile
	}
	done(ask.Call, err)
}

// put stores a record that a coordinator on that node has sent, and has those who
// follow told of it.
func (l *localReplica) put(from ring.NodeID, hash uint64, rec object.Record) error {
	if l.fresh.stale.Load() {
		return errStale
	}
	if rec.Kind != object.Delta {
		_, err := l.vnodes.Put(l.now(), rec)
		if err == nil {
			l.pushes.stored(from, hash, rec)
		}
		return err
	}
	key, delta, err := l.appendDelta(hash, rec)
	if err == nil {
		l.pushes.accepted(from, key, delta)
	}
	return err
}

// appendDelta adds to an index row and returns which, and what it says.
func (l *localReplica) appendDelta(hash uint64, rec object.Record) (event.IndexKey, index.Row, error) {
	key, err := event.ParseIndexKey(string(rec.Key))
	if err != nil {
		return key, index.Row{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	_, p := l.history().For(true, hash, key.Epoch)
	v, err := l.vnodes.Vnode(p)
	if err != nil {
		return key, index.Row{}, err
	}
	delta, _, err := v.AppendDelta(l.now(), hash, rec)
	return key, delta, err
}

// Get reads a record, or its header alone.
func (l *localReplica) Get(ask replication.Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	if err := l.fence.check(ask.History, peer.Ref{Type: bucketType, Bucket: bucket, Key: key, Hash: ask.Hash}, false); err != nil {
		done(ask.Call, object.Record{}, false, err)
		return
	}
	rec, complete, err := l.get(vnode.Ref{Type: bucketType, Bucket: bucket, Key: key, Hash: ask.Hash}, body)
	done(ask.Call, rec, complete, object.AsError(err))
}

// get returns a record with its value, or with Header and Buf only. Absent and
// expired are errors; complete is told with them as well.
func (l *localReplica) get(ref vnode.Ref, body bool) (rec object.Record, complete bool, err error) {
	var state vnode.State
	if body {
		var a vnode.Answer
		a, err = l.vnodes.Get(l.now(), ref)
		rec, state, complete = a.Record, a.State, a.Complete
	} else {
		var a vnode.HeadAnswer
		a, err = l.vnodes.Head(l.now(), ref)
		rec, state, complete = a.Head.Record(), a.State, a.Complete
	}
	complete = complete && !l.fresh.stale.Load()
	switch {
	case err != nil:
		return object.Record{}, false, err
	case state == vnode.Found:
		return rec, complete, nil
	}
	return object.Record{}, complete, stateError(state)
}

// Row reads an index row.
func (l *localReplica) Row(ask replication.Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	if err := l.fence.checkRow(ask.History, key, ask.Hash); err != nil {
		done(ask.Call, index.Row{}, false, err)
		return
	}
	row, complete, err := l.row(key)
	done(ask.Call, row, complete, object.AsError(err))
}

func (l *localReplica) row(key event.IndexKey) (index.Row, bool, error) {
	a, err := l.vnodes.Row(l.now(), key)
	a.Complete = a.Complete && !l.fresh.stale.Load()
	switch {
	case err != nil:
		return index.Row{}, false, err
	case a.State == vnode.Expired:
		return index.Row{}, a.Complete, stateError(a.State)
	}
	return a.Row, a.Complete, nil
}

var (
	errStale = object.Errorf(object.CodeUnavailable, object.NotDone, "this node was away, or cut off, and has not learned yet what the others agreed on: send it again a little later")

	errAbsent  = object.Errorf(object.CodeAbsent, object.NotDone, "no object is stored under this key")
	errExpired = object.Errorf(object.CodeExpired, object.NotDone, "the object's time has expired: its bucket keeps nothing that old")
)

// stateError is what a replica answers that has no object.
func stateError(s vnode.State) error {
	switch s {
	case vnode.Absent:
		return errAbsent
	case vnode.Expired:
		return errExpired
	}
	panic("node: BUG: a replica without an object is " + s.String())
}
