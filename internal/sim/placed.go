package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// restless says what of the membership has not come to rest, "" if nothing: a change
// is staged or prepared, a member is joining, leaving, down, or has not heard of the
// newest document, or an owner does not have all it must.
func (s *Sim) restless() string {
	doc := s.agreement.doc
	switch {
	case doc.Change.Phase == ring.Proposed:
		return fmt.Sprintf("the change to slot %d waits for %s", doc.Change.Boundary, doc.Change.WaitingFor(s.nameOf))
	case len(doc.Staged) > 0:
		return fmt.Sprintf("%d things are staged", len(doc.Staged))
	}
	for _, m := range doc.Members {
		n := s.nodeOf(m.ID)
		switch {
		case !m.State.Live():
			continue
		case m.State == agreed.Leaving && !m.Down && n.up && n.doc == doc && s.stillOwns(n):
		case m.State != agreed.Valid || m.Down:
			return fmt.Sprintf("member %s is %v, down %v", s.nameOf(m.ID), m.State, m.Down)
		case !n.up || n.doc != doc:
			return fmt.Sprintf("member %s has not got document %v", s.nameOf(m.ID), doc.Version)
		}
	}
	for _, n := range s.nodes {
		if n.running && !n.up {
			return fmt.Sprintf("node n%d is not let in", n.at)
		}
	}
	h, oldest := doc.History, s.agreement.oldest()
	for from, r := range h.All() {
		for p := range r.Partitions() {
			if lacking := h.Newcomers(max(from, oldest), p); h.At(max(from, oldest)) == r && len(lacking) > 0 {
				return fmt.Sprintf("node %s does not have all of partition %v from slot %d", s.nameOf(lacking[0]), p, from)
			}
		}
	}
	for p := range h.Newest().Partitions() {
		if lacking := h.PlainNewcomers(p); len(lacking) > 0 {
			return fmt.Sprintf("node %s does not have all plain data of partition %v", s.nameOf(lacking[0]), p)
		}
	}
	return ""
}

// stillOwns reports whether a node owns something in a slot: where it leaves and all
// others own that too, it has to stay until the slot expires.
func (s *Sim) stillOwns(n *node) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(s.agreement.doc.History.Stretches(n.id, s.agreement.oldest()))), func(all []ring.Stretch) bool {
		return slices.ContainsFunc(all, func(x ring.Stretch) bool { return x.Owner })
	})
}

func (s *Sim) nameOf(id ring.NodeID) string {
	if n := s.nodeOf(id); n != nil {
		return fmt.Sprintf("n%d", n.at)
	}
	return id.String()
}

// auditPlaces looks on the disks themselves: at least w of those who own it now have
// what was acknowledged, and nobody has timed data that he never owned. It looks
// before anything is read, for a read mends what it finds lacking, and again when
// what the reads have found is put right.
//
// A copy that a flipped bit has damaged counts until its node has to know of it: I1
// lets one copy of w be lost, and auditCopies sees that another one is whole. Of a
// damaged header a node knows when it reads it, and then doubts the slot. A damaged
// value it serves as it is: a client that reads it asks another owner and tells
// nobody, a node that fetches it to give it away has it replaced.
func (s *Sim) auditPlaces() {
	if s.broken != nil {
		return
	}
	for _, k := range s.model.order {
		if k.newest == nil || k.erased {
			continue
		}
		names := []string{k.key}
		if blob, err := event.ParseKey(k.key); err == nil && k.bucket == bucket.Events {
			loser := blob.LoserKey(k.newest.checksum).String()
			if l := s.model.keys[bucket.Events+"/"+loser]; l != nil && l.erased {
				continue
			}
			names = append(names, loser)
		}
		most, w := 0, 0
		for _, name := range names {
			ref := vnode.RefOf([]byte(bucket.DefaultType), []byte(k.bucket), []byte(name))
			var have int
			have, w = s.copies(k, ref)
			most = max(most, have)
		}
		if most < w {
			s.breach("places", k.id(), "%d of its owners have it, and %d have acknowledged it", most, w)
			return
		}
	}
	for _, n := range s.upNodes() {
		s.auditMoved(n)
	}
}

// copies returns how many owners have the newest acknowledged version of a key, or a
// later one, and how many there must be.
func (s *Sim) copies(k *key, ref vnode.Ref) (have, w int) {
	doc := s.agreement.doc
	p := doc.Buckets.Lookup(bucket.DefaultType, k.bucket)
	epoch := int64(0)
	if p.Timed {
		epoch, _ = event.TimedEpoch(ref.Key)
	}
	r, at := doc.History.For(p.Timed, ref.Hash, epoch)
	_, _, w = p.For(len(r.Owners(at)))
	for _, id := range r.Owners(at) {
		n := s.nodeOf(id)
		if !n.up {
			continue
		}
		damaged := p.Timed && s.faults.mayHaveDamaged(n, doc.History.SlotOf(epoch))
		a, err := n.vnodes.Get(n.now(), ref)
		if err != nil {
			if damaged && errors.Is(err, object.CodeCorrupt) && !s.read {
				have++
			}
			continue
		}
		if a.State == vnode.Found && (damaged || a.Record.Verify() == nil) {
			if p.WriteOnce && a.Record.Checksum == k.newest.checksum || !p.WriteOnce && a.Record.Version().Compare(k.newest.version) >= 0 {
				have++
			}
		}
		a.Release()
	}
	return have, w
}

// auditMoved: what never belonged to a node never moved there.
func (s *Sim) auditMoved(n *node) {
	for _, v := range n.vnodes.Vnodes() {
		for p := range s.agreement.doc.Buckets.All() {
			if !p.Timed {
				continue
			}
			slots, err := v.Slots([]byte(p.Type), []byte(p.Name))
			if err != nil {
				continue
			}
			for _, slot := range slots { // files are made ahead, and may have nothing in them
				if key := firstKey(n, v, &p, slot); key != "" && !s.everOwned(n, v.Partition(), slot) {
					s.breach("moved", p.Name+"/"+key, "node %d has it, of slot %d in partition %v, which it never owned", n.at, slot, v.Partition())
				}
			}
		}
	}
}

// firstKey returns a key that a vnode has of a slot, "" if it has none.
func firstKey(n *node, v *vnode.Vnode, p *bucket.Properties, slot expiry.Slot) (key string) {
	_, _, err := v.Page(n.now(), []byte(p.Type), []byte(p.Name), slot, 0, func(_ uint64, h *object.Header, _ object.Digest) bool {
		key = string(h.Key)
		return false
	})
	if err != nil {
		return ""
	}
	return key
}

// everOwned reports whether some history has a node as owner of a partition in a slot,
// or as a source: who takes a place and loses it in one change is only that.
func (s *Sim) everOwned(n *node, p ring.Partition, slot expiry.Slot) bool {
	for _, h := range s.agreement.histories {
		if r := h.At(int64(slot)); r.Bits() == p.Bits && (r.Owns(n.id, p) || slices.Contains(h.Sources(int64(slot), p), n.id)) {
			return true
		}
	}
	return false
}
