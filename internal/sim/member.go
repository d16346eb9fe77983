package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// A member is a node's part in what is agreed: what it has adopted, what it has
// promised, and what it knows others to have adopted. All but what stands on the
// disk ends with the process.
type member struct {
	doc    *agreed.Document // adopted; nil: none yet
	fence  *ring.Fence
	gate   *agreed.Gate
	known  map[ring.NodeID]ring.Version // histories that others have adopted
	began  ring.Version                 // the history with which the process began, until all are known to have it; zero then
	heard  time.Duration                // when another member last was
	asking bool                         // whether what it has adopted is the newest; it answers nothing meanwhile
}

// The files of a member, beside its engine's. A document is named by its version:
// every one there ever was is at hand.
const (
	ownDir      = "node"
	docFile     = ownDir + "/document"
	promiseFile = ownDir + "/promise"
)

func (n *node) history() *ring.History { return n.doc.History }

func (n *node) buckets() *bucket.Set { return n.doc.Buckets }

// introduction returns how a node introduces itself.
func (n *node) introduction() agreed.Member {
	return agreed.Member{
		ID: n.id, Name: n.name, Zone: n.zone, Weight: n.weight,
		Disks: []agreed.DiskID{agreed.DiskID(n.id)}, Address: fmt.Sprintf("10.0.0.%d:7000", n.at),
	}
}

// stored returns the document on the node's disk, nil if there is none.
func (n *node) stored() (*agreed.Document, error) {
	b, err := vfs.ReadFile(n.fs, docFile, 64)
	switch {
	case vfs.IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return n.s.agreement.docs[ring.Version{Era: binary.LittleEndian.Uint32(b), Index: binary.LittleEndian.Uint64(b[4:])}], nil
}

func (n *node) store(doc *agreed.Document) {
	b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, doc.Version.Era), doc.Version.Index)
	_ = vfs.PublishBytes(n.fs, docFile, b) // a disk that takes nothing keeps the one before
}

// promise returns the promise on the node's disk.
func (n *node) promise() (p ring.Promise, err error) {
	b, err := vfs.ReadFile(n.fs, promiseFile, 64)
	switch {
	case vfs.IsNotExist(err):
		return p, nil
	case err != nil:
		return p, err
	}
	p.Round, p.Boundary = binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))
	p.Lifted, p.Fixed = b[16] == 1, b[17] == 1
	return p, nil
}

func (n *node) persist(p ring.Promise) error {
	b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, p.Round), uint64(p.Boundary))
	b = append(b, 0, 0)
	if p.Lifted {
		b[16] = 1
	}
	if p.Fixed {
		b[17] = 1
	}
	return vfs.PublishBytes(n.fs, promiseFile, b)
}

// highestStored returns the highest epoch that may be stored in the node's vnodes,
// rounded up to its slot's end, which is as good for a promise.
func (n *node) highestStored() int64 {
	highest := int64(ring.NoEpoch)
	for _, v := range n.vnodes.Vnodes() {
		buckets, err := v.Buckets()
		if err != nil {
			continue
		}
		for _, b := range buckets {
			if !b.Timed {
				continue
			}
			slots, err := v.Slots([]byte(b.Type), []byte(b.Name))
			for _, slot := range slots {
				if err == nil {
					highest = max(highest, (int64(slot)+1)*slotSeconds-1)
				}
			}
		}
	}
	return highest
}

// learns has a node adopt a document, unless it has a later one.
func (n *node) learns(doc *agreed.Document) {
	if !n.running || n.doc != nil && !n.doc.Version.Before(doc.Version) {
		return
	}
	n.heard = n.s.now
	if !n.up { // it is asking its way in
		n.doc = doc
		n.store(doc)
		return
	}
	n.adopt(doc)
}

// adopt does what a node does with a new document, in this order: the history and
// the buckets become visible, the gate is told, and what it promised is brought to
// agreement.
func (n *node) adopt(doc *agreed.Document) {
	s := n.s
	moved := n.doc.History.Version() != doc.History.Version()
	if moved {
		if err := n.openHeld(doc.History); err != nil { // they are opened when they are needed, and vouch for nothing
			s.trace.note(s.now, n.at, "cannot open all", "", outcome(err))
		}
	}
	n.doc = doc
	n.store(doc)
	s.trace.note(s.now, n.at, "adopts", doc.Version.String(), int64(doc.Change.Phase))
	if moved {
		n.fence = n.fence.Adopt(doc.History)
		n.announce()
	}
	n.prepare()
	if m, known := doc.Member(n.id); known && (m.State == agreed.Left || m.State == agreed.Lost) {
		s.after(0, func() { n.retire(m.State) })
	}
}

// prepare tells the gate what is agreed on the change, and brings what was promised
// to agreement. It is done again now and then.
func (n *node) prepare() {
	if n.slowly && n.doc.Change.Phase == ring.Proposed {
		return // a member that is silent while a change is proposed
	}
	reply, err := n.gate.Agreed(n.doc.Change, n.persist)
	if err != nil || reply == nil || !slices.Contains(n.doc.Change.Waiting, n.id) {
		return
	}
	n.s.trace.note(n.s.now, n.at, "promises", "", int64(reply.Round))
	n.s.agreement.propose(n, agreed.Command{Kind: agreed.Promised, Node: n.id, Round: reply.Round, Highest: reply.Highest}, func(agreed.Result, *object.Error) {})
}

// openAll opens the vnodes of all that is on the disks, and of all that the node
// holds.
func (n *node) openAll(disks vnode.Disks) error {
	stored, err := disks.Partitions()
	if err != nil {
		return err
	}
	for _, p := range stored {
		if _, err := n.vnodes.Vnode(p); err != nil {
			return err
		}
	}
	return n.openHeld(n.history())
}

// openHeld opens the vnodes of all that a history gives the node, before it is
// visible.
func (n *node) openHeld(h *ring.History) error {
	var faults []error
	for _, p := range h.HeldBy(n.id) { // one at a time: always in the same order
		faults = append(faults, n.vnodes.Open(n.now(), p))
	}
	return errors.Join(faults...)
}

// announce tells all other members which history the node has, and learns theirs.
func (n *node) announce() {
	for _, to := range n.s.nodes {
		if to != n && n.s.isMember(to) {
			n.greet(to)
		}
	}
}

// greet tells another node which history this one has. Whoever has the older one
// of the two gets the other's document.
func (n *node) greet(to *node) {
	version := n.history().Version()
	n.call(to, n.now().Add(2*time.Second), func(c *outcall) {
		answer := func() {
			theirs := to.doc
			c.answer(func() {
				n.learns(theirs)
			}, nothing)
		}
		if to.doc.History.Version().Before(version) && !to.deaf {
			to.catchUp(n, version, func(bool) { answer() })
			return
		}
		answer()
	}, nothing, func(*object.Error) {})
}

// catchUp gets the document of another node. done is told whether this one has the
// history then.
func (n *node) catchUp(from *node, v ring.Version, done func(bool)) {
	if from == n {
		done(!n.history().Version().Before(v))
		return
	}
	n.s.notes.add("caught up", 1)
	n.call(from, n.now().Add(2*time.Second), func(c *outcall) {
		doc := from.doc
		c.answer(func() {
			n.learns(doc)
			done(!n.history().Version().Before(v))
		}, nothing)
	}, nothing, func(*object.Error) { done(false) })
}

// caughtUp calls then once the node has the history of that version, which another
// one has that asks something of it, or with a refusal.
func (n *node) caughtUp(from *node, v ring.Version, then func(*object.Error)) {
	switch life := n.life; {
	case n.asking:
		then(errAsking)
	case n.history().Version().Before(v):
		n.catchUp(from, v, func(ok bool) {
			switch {
			case !n.up || n.life != life:
			case !ok:
				then(errBehind)
			default:
				then(nil)
			}
		})
	default:
		then(nil)
	}
}

// hears notes what another member's message tells of it.
func (n *node) hears(from *node, v ring.Version) {
	n.heard = n.s.now
	if n.known[from.id].Before(v) {
		n.known[from.id] = v
	}
}

// placed is an object as its placement depends on it.
func (n *node) placed(bucketType, name []byte, hash uint64, key []byte) (ring.Placed, bucket.Properties, bool) {
	p := n.buckets().Lookup(string(bucketType), string(name))
	o := ring.Placed{Timed: p.Timed, Hash: hash, N: p.N}
	if p.Timed {
		epoch, err := event.TimedEpoch(key)
		if err != nil {
			return o, p, false
		}
		o.Epoch = epoch
	}
	return o, p, true
}

var (
	errBehind     = object.Errorf(object.CodeUnavailable, object.NotDone, "this node has not learnt yet who owns what")
	errWrongOwner = object.Errorf(object.CodeWrongOwner, object.NotDone, "the owners of the key have changed")
	errMoved      = object.Errorf(object.CodeWrongOwner, object.MaybeDone, "the owners of the key changed while it was stored")
	errUnsettled  = object.Errorf(object.CodeUnavailable, object.MaybeDone, "too few nodes know yet who owns the key now")
	errNotYet     = object.Errorf(object.CodeUnavailable, object.NotDone, "the ring of this second is being agreed")
	errAsking     = object.Errorf(object.CodeUnavailable, object.NotDone, "this node finds out whether it has missed something")
)

// judged has serve run if the node may serve a request of another one for an
// object, under the history of that version; refuse otherwise.

func (n *node) judged(from *node, v ring.Version, o ring.Placed, put bool, serve func(), refuse func(*object.Error)) {
	n.caughtUp(from, v, func(err *object.Error) {
		if err == nil {
			switch n.fence.Judge(n.id, v, o) {
			case ring.IsOwner:
				serve()
				return
			case ring.IsSource:
				if !put {
					serve()
					return
				}
			}
			err = errWrongOwner
		}
		refuse(err)
	})
}

// admit asks the gate about an epoch that the clock admits.
func (n *node) admit(epoch int64) error {
	switch n.gate.Admit(epoch) {
	case ring.NotYet:
		return errNotYet
	case ring.OldRing:
		n.admitted = max(n.admitted, epoch)
	}
	return nil
}

// learnsBefore has f run, after the node has got the document of another one if a
// refusal says that this has a later one.
func (n *node) learnsBefore(err *object.Error, of *node, theirs ring.Version, f func()) {
	if err == nil || err.Code != object.CodeWrongOwner || !n.history().Version().Before(theirs) {
		f()
		return
	}
	n.catchUp(of, theirs, func(bool) { f() })
}

// settled reports whether nobody can deny an acknowledgement under an older history.
// Of histories before the one with which the process began nothing is known: all must
// have that one.
func (n *node) settled(o ring.Placed, p *bucket.Properties) bool {
	if n.began != (ring.Version{}) {
		for _, m := range n.doc.Members {
			if m.State.Live() && !(m.Down && !m.Back) && !n.behind(m.ID, n.began) {
				return false
			}
		}
		n.began = ring.Version{}
	}
	return n.fence.Settled(o, min(p.W, max(p.SmallestW, 1)), n.behind)
}

// behind reports whether a node is known to have adopted a history, or not to be a
// member any more.
func (n *node) behind(id ring.NodeID, v ring.Version) bool {
	if id == n.id {
		return true
	}
	m, known := n.doc.Member(id)
	return !known || !m.State.Live() || !n.known[id].Before(v)
}

// unneeded reports whether nobody needs the node's plain data of a partition.
func (n *node) unneeded(p bitcask.Partition) bool {
	if !n.up || n.asking || n.doc.Pending != nil {
		return false
	}
	h, part := n.history(), ring.Partition(p)
	m, _ := n.doc.Member(n.id)
	return m.State == agreed.Valid && part.Bits == h.Newest().Bits() && !h.Newest().Owns(n.id, part) &&
		!slices.Contains(h.PlainSources(part), n.id) && len(h.PlainNewcomers(part)) == 0
}

// asks has a node that may have missed something find out, before it answers
// anything; then is called when it has.
func (n *node) asks(then func()) {
	n.asking = true
	s, life := n.s, n.life
	s.after(2*s.delay(), func() {
		if !n.running || n.life != life {
			return
		}
		a := s.agreement
		switch {
		case a.reaches(n):
			n.learns(a.doc)
		default: // without the leader, of whoever can be reached
			for _, o := range s.nodes {
				if o != n && o.up && !o.asking && s.linked(n, o) {
					n.learns(o.doc)
				}
			}
			if !a.current(n) { // what nobody tells it, see the package comment
				s.after(500*time.Millisecond, func() {
					if n.running && n.life == life {
						n.asks(then)
					}
				})
				return
			}
		}
		n.asking = false
		n.heard = s.now
		then()
	})
}

// live is what a member does every second: it greets somebody, tells the gate again,
// and finds out, if it has been alone for a while, what it missed.
func (n *node) live() {
	s := n.s
	if len(s.nodes) > 1 && !n.deaf {
		if to := s.nodes[s.rng.IntN(len(s.nodes))]; to != n && s.isMember(to) {
			n.greet(to)
		}
	}
	n.prepare()
	if !n.asking && s.now-n.heard > alone {
		s.notes.add("was alone", 1)
		n.asks(nothing)
	}
}

// isMember reports whether a node is a member that takes part.
func (s *Sim) isMember(n *node) bool {
	m, known := s.agreement.doc.Member(n.id)
	return known && m.State.Live()
}

// retire ends a node that has left, or was declared lost, for ever.
func (n *node) retire(state agreed.MemberState) {
	if n.retired {
		return
	}
	n.retired = true
	n.s.trace.note(n.s.now, n.at, "RETIRES "+state.String(), "", 0)
	n.s.notes.add("members "+state.String(), 1)
	if n.up {
		n.shutDown()
	}
	n.running = false
	n.life++
}
