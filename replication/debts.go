package replication

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// payBatch is after how many keys a debt is taken down by what was paid.
const payBatch = 64

// payAll pays what nodes are owed that can be reached, this one included: its
// own replica may have failed, too. It reports whether it paid anything, and
// whether debts are left.
func (m *Merger) payAll(ctx context.Context, h *ring.History) (paid, owing bool) {
	for _, node := range m.cfg.Owed.Nodes() {
		if m.cfg.Now().Before(m.unpaid[node].at) {
			owing = true
			continue
		}
		for _, d := range m.cfg.Owed.Debts(node) {
			if ctx.Err() != nil {
				return paid, true
			}
			if err := m.pay(ctx, h, d); err != nil {
				m.counters.debtsFailed.Add(1)
				owing = true
				if object.AsError(err).Code != object.CodeUnavailable { // which costs nothing to try
					wait := min(max(retryLeast, 2*m.unpaid[node].wait), retryMost)
					m.unpaid[node] = retry{m.cfg.Now().Add(wait), wait}
				}
				break // the node's other debts will hardly fare better
			}
			m.counters.debtsPaid.Add(1)
			delete(m.unpaid, node)
			paid = true
		}
	}
	return paid, owing
}

// to returns the way to a node's replicas.
func (m *Merger) to(id ring.NodeID) Syncer {
	if id == m.cfg.Self {
		return m.cfg.Own
	}
	return m.cfg.Other(id)
}

// pay gives a node what it is owed in one place, and settles it if it was taken. A
// node that does not own the place any more is owed nothing there: whoever took its
// place takes it over from all who have it.
func (m *Merger) pay(ctx context.Context, h *ring.History, d Debt) error {
	if !d.Everything && m.others(h, d.Node, laneOfDebt(&d)) == nil {
		m.cfg.Owed.Settle(d)
		return nil
	}
	if m.to(d.Node) == nil {
		return errNoWay
	}
	if d.Everything {
		for p, stretches := range h.Stretches(d.Node, m.held.oldest) {
			if err := m.payPartition(ctx, h, d.Node, p, stretches); err != nil {
				return err
			}
		}
		m.cfg.Owed.Settle(d)
		return nil
	}
	lane := laneOfDebt(&d)
	if d.Keys != nil {
		return m.payKeys(ctx, h, d, lane)
	}
	if err := m.payLane(ctx, h, d.Node, lane); err != nil {
		return err
	}
	m.cfg.Owed.Settle(d)
	return nil
}

func laneOfDebt(d *Debt) Lane {
	lane := Lane{Type: d.Type, Bucket: d.Bucket, Timed: d.Timed, Partition: d.Partition, Slot: d.Slot}
	if !lane.Timed {
		lane.Slot = -1
	}
	return lane
}

// others returns the other owners of a lane, this node first if it is one, and not
// nil if the debtor is an owner; nil if it is none.
func (m *Merger) others(h *ring.History, debtor ring.NodeID, lane Lane) []ring.NodeID {
	props := m.cfg.Buckets().Lookup(lane.Type, lane.Bucket)
	r := h.Newest()
	if lane.Timed {
		r = h.At(lane.Slot)
	}
	if r.Bits() != lane.Partition.Bits {
		return nil
	}
	owners := r.Owners(lane.Partition)
	n, _, _ := props.For(len(owners))
	if !slices.Contains(owners[:n], debtor) {
		return nil
	}
	ids := make([]ring.NodeID, 0, n)
	for _, id := range owners[:n] {
		switch {
		case id == debtor:
		case id == m.cfg.Self:
			ids = slices.Insert(ids, 0, id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// payKeys gives single objects.
func (m *Merger) payKeys(ctx context.Context, h *ring.History, d Debt, lane Lane) error {
	sources := m.others(h, d.Node, lane)
	for keys := range slices.Chunk(d.Keys, payBatch) {
		for i, key := range keys {
			if err := m.payKey(ctx, h, d.Node, sources, lane, key); err != nil {
				m.cfg.Owed.settleKeys(d, keys[:i])
				return err
			}
		}
		m.cfg.Owed.settleKeys(d, keys)
	}
	return nil
}

// payKey gives one object, as each owner has it: versions decide. One that
// cannot be asked may have more than the others, unless one of them is this node,
// which is owed nothing there itself. Whose copy is damaged has nothing to give; it
// is owed one itself, if another node could give it.
func (m *Merger) payKey(ctx context.Context, h *ring.History, debtor ring.NodeID, sources []ring.NodeID, lane Lane, key string) error {
	var fault error
	var damaged []ring.NodeID
	given := false
sources:
	for _, id := range sources {
		err := m.hand(ctx, id, debtor, lane, key)
		code := object.Code(0)
		if err != nil {
			code = object.AsError(err).Code
		}
		switch {
		case code == object.CodeExpired:
			return nil
		case code == object.CodeAbsent:
		case code == object.CodeConflict: // a value that loses its key must be kept first
			return m.payLane(ctx, h, debtor, lane)
		case errors.Is(err, errDamagedThere):
			damaged = append(damaged, id)
		case err != nil:
			fault = err
		case id == m.cfg.Self && !m.cfg.Owed.owes(placeOf(id, lane)):
			given, fault = true, nil
			break sources
		default:
			given = true
		}
	}
	if given {
		for _, id := range damaged {
			m.cfg.Owed.Add(placeOf(id, lane), []byte(key))
		}
	}
	return fault
}

// errDamagedThere: the value of what a node has is not what was put.
var errDamagedThere = errors.New("the copy is damaged where it is stored")

// hand fetches an object from one node and gives it to another.
func (m *Merger) hand(ctx context.Context, from, to ring.NodeID, lane Lane, key string) error {
	source, debtor := m.to(from), m.to(to)
	if source == nil || debtor == nil {
		return errNoWay
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	rec, err := source.Fetch(ctx, lane, key)
	if err != nil {
		return err
	}
	defer rec.Release()
	if err := rec.Verify(); err != nil {
		return object.Errorf(object.CodeCorrupt, object.NotDone, "%w: %v", errDamagedThere, err)
	}
	err = debtor.Repair(ctx, lane, rec, object.Version{})
	if err == nil {
		m.counters.copiesPaid.Add(1)
		m.slowDown(ctx, len(rec.Raw()))
	}
	return err
}

// payLane gives a whole slot: all that the other owners have and the node lacks.
func (m *Merger) payLane(ctx context.Context, h *ring.History, debtor ring.NodeID, lane Lane) error {
	ids := append([]ring.NodeID{debtor}, m.others(h, debtor, lane)...)
	if len(ids) == 1 {
		return nil // nobody else owns it, or the debtor does not
	}
	sides := make([]Syncer, len(ids))
	for i, id := range ids {
		sides[i] = m.to(id)
	}
	props := m.cfg.Buckets().Lookup(lane.Type, lane.Bucket)
	res := m.lane(ctx, lane, NewMend(len(ids), props.Rows, props.WriteOnce), sides, ids)
	m.counters.copiesPaid.Add(res.Pulled)
	if res.Regained {
		return nil
	}
	return res.Err
}

// payPartition gives a node all that the other owners of a partition have, in the
// slots in which it is an owner itself.
func (m *Merger) payPartition(ctx context.Context, h *ring.History, debtor ring.NodeID, p ring.Partition, stretches []ring.Stretch) error {
	v := m.newView(h, debtor, p)
	for _, id := range v.everyone() {
		if side := m.to(id); side != nil {
			ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
			s, err := side.Survey(ctx, p)
			cancel()
			if err == nil {
				v.Others[id] = &s
			}
		}
	}
	slots := v.slots(nothingVouched)
	maps.DeleteFunc(slots, func(slot int64, _ bool) bool {
		return !slices.ContainsFunc(stretches, func(s ring.Stretch) bool { return s.Owner && s.From <= slot && slot < s.Until })
	})
	slots[-1] = true
	for _, lane := range v.allLanes(slots) {
		if err := m.payLane(ctx, h, debtor, lane); err != nil {
			return err
		}
	}
	return nil
}

// owes reports whether anything is owed in a place.
func (o *Owed) owes(p Place) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, all := o.nodes[p.Node]
	return all || o.places[p] != nil
}

// settleKeys takes away some keys of a debt that were paid, but for those owed
// again since Debts returned it.
func (o *Owed) settleKeys(d Debt, keys []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.places[d.Place]
	if w == nil || w.whole {
		return
	}
	for _, k := range keys {
		if stamp, have := w.keys[k]; have && stamp <= d.stamp {
			delete(w.keys, k)
			o.keys--
			o.keyBytes -= len(k)
		}
	}
	if len(w.keys) == 0 {
		o.removeLocked(d.Place, w)
	}
}
