package node

import (
	"errors"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/replication"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A localReplica is this node's vnodes as the coordinator asks them. It works on
// the caller's goroutine and has answered when it returns. It is a
// [replication.Replica].
type localReplica struct {
	vnodes  *vnode.Set
	history func() *ring.History
	now     func() time.Time
}

// Put stores a value, a tombstone, or a delta of the index.
func (l *localReplica) Put(ask replication.Ask, rec object.Record, done func(uint64, *object.Error)) {
	var err error
	if rec.Kind == object.Delta {
		err = l.appendDelta(ask.Hash, rec)
	} else {
		_, err = l.vnodes.Put(l.now(), rec)
	}
	done(ask.Call, object.AsError(err))
}

func (l *localReplica) appendDelta(hash uint64, rec object.Record) error {
	epoch, err := event.TimedEpoch(rec.Key)
	if err != nil {
		return object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	_, p := l.history().For(true, hash, epoch)
	v, err := l.vnodes.Vnode(p)
	if err != nil {
		return err
	}
	_, _, err = v.AppendDelta(l.now(), hash, rec)
	return err
}

// Get reads a record, or its header alone.
func (l *localReplica) Get(ask replication.Ask, bucketType, bucket, key []byte, body bool, done func(uint64, object.Record, bool, *object.Error)) {
	ref := vnode.Ref{Type: bucketType, Bucket: bucket, Key: key, Hash: ask.Hash}
	var rec object.Record
	var state vnode.State
	var complete bool
	var err error
	if body {
		var a vnode.Answer
		a, err = l.vnodes.Get(l.now(), ref)
		rec, state, complete = a.Record, a.State, a.Complete
	} else {
		var a vnode.HeadAnswer
		a, err = l.vnodes.Head(l.now(), ref)
		rec, state, complete = object.Record{Header: a.Head.Header, Buf: a.Head.Buf}, a.State, a.Complete
	}
	switch {
	case err != nil:
		done(ask.Call, object.Record{}, false, object.AsError(err))
	case state == vnode.Found:
		done(ask.Call, rec, complete, nil)
	default:
		done(ask.Call, object.Record{}, complete, stateError(state))
	}
}

// Row reads an index row.
func (l *localReplica) Row(ask replication.Ask, key event.IndexKey, done func(uint64, index.Row, bool, *object.Error)) {
	a, err := l.vnodes.Row(l.now(), key)
	switch {
	case err != nil:
		done(ask.Call, index.Row{}, false, object.AsError(err))
	case a.State == vnode.Expired:
		done(ask.Call, index.Row{}, a.Complete, stateError(a.State))
	default:
		done(ask.Call, a.Row, a.Complete, nil)
	}
}

var (
	errAbsent  = object.Errorf(object.CodeAbsent, object.NotDone, "no object is stored under this key")
	errExpired = object.Errorf(object.CodeExpired, object.NotDone, "the object's time has expired: its bucket keeps nothing that old")
)

// stateError is what a replica answers that has no object.
func stateError(s vnode.State) *object.Error {
	switch s {
	case vnode.Absent:
		return errAbsent
	case vnode.Expired:
		return errExpired
	}
	panic("node: BUG: a replica without an object is " + s.String())
}

// newCoordinator returns the coordinator of a node that is its ring's only one.
func newCoordinator(n *Node) (*replication.Coordinator, error) {
	local := &localReplica{n.vnodes, n.ring, n.cfg.Now}
	return replication.New(replication.Config{
		Self: n.id, History: n.ring, Buckets: n.buckets.Load, Now: n.cfg.Now,
		Replica: func(id ring.NodeID) replication.Replica {
			if id != n.id {
				return nil
			}
			return local
		},
	})
}

// isClosed reports whether an index row took no entry because its second is closed.
func isClosed(err error) bool { return errors.Is(err, object.CodeClosed) }
