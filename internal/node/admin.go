package node

import (
	"context"
	"errors"
	"slices"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// An admin is the node as those who look after its cluster ask it: it is a
// [native.Cluster].
type admin struct{ n *Node }

// Document returns the newest agreed document that is known here.
func (a admin) Document(context.Context) (*agreed.Document, error) {
	return a.n.agreement.Document(), nil
}

// Propose brings an operator's command to agreement, by this node's clock.
func (a admin) Propose(ctx context.Context, c agreed.Command) (agreed.Result, error) {
	c.Now = a.n.cfg.Now().Unix()
	result, err := a.n.agreement.Propose(ctx, c)
	if err != nil {
		return result, wireError(err)
	}
	for { // who asks this node next should find it done
		adopted := a.n.adopted.next()
		if !a.n.document().Version.Before(result.Version) {
			return result, nil
		}
		select {
		case <-adopted:
		case <-ctx.Done():
			return result, nil
		}
	}
}

// Report says how the node is.
func (a admin) Report(ctx context.Context) (proto.Report, error) {
	n := a.n
	doc := n.document()
	r := proto.Report{
		Node: n.id, Name: n.cfg.Name, Program: n.cfg.Version, NowMicros: n.cfg.Now().UnixMicro(), Ready: n.Ready(),
		Version: doc.Version, HighestEpoch: n.gate.Highest(), Gaps: n.gaps(doc.History),
	}
	if n.member != nil {
		status := n.member.Status()
		r.Agreement.Role, r.Agreement.Leader = status.Role, status.Leader
		for _, s := range status.Servers {
			if s.Voter {
				r.Agreement.Voters = append(r.Agreement.Voters, s.Node)
			}
		}
		slices.SortFunc(r.Agreement.Voters, ring.NodeID.Compare)
	}
	for _, m := range doc.Members { // ascending
		r.Members = append(r.Members, proto.Sight{Node: m.ID, Address: n.agreement.Address(m.ID), Alive: m.ID == n.id || n.agreement.Alive(m.ID)})
	}
	r.Merging = n.merging()
	var err error
	if r.Stored, err = n.stored(ctx); err != nil {
		return proto.Report{}, wireError(err)
	}
	r.Disks = n.reportDisks()
	return r, nil
}

// merging tells how far this node is from being complete.
func (n *Node) merging() proto.Merging {
	s := n.merger.Stats()
	return proto.Merging{
		Partitions: int(max(s.PartitionsInDoubt, s.PartitionsToGet)), Unattainable: int(s.PartitionsUnattainable), Slots: int(s.SlotsToGet),
		BytesToGet: uint64(max(0, s.BytesToGet)), BytesMoved: s.PulledBytes + s.PushedBytes, BytesPerSecond: n.moving.Load(),
	}
}

// gaps returns what this node may lack of what it holds, by its own evidence; and
// all of what it should hold and cannot open.
func (n *Node) gaps(h *ring.History) (gaps []proto.Gap) {
	oldest, open := n.oldestSlot(h), map[ring.Partition]bool{}
	for _, v := range n.vnodes.Vnodes() {
		p := v.Partition()
		open[p] = true
		if since := v.Since(); !since.Whole() {
			if !since.Plain && holdsPlain(h, n.id, p) {
				gaps = append(gaps, proto.Gap{Partition: p, Plain: true})
			}
			gaps = append(gaps, n.timedGaps(h, p, oldest, int64(since.Slot))...)
		}
		for _, d := range v.Doubts() {
			switch {
			case d.All:
				gaps = append(gaps, proto.Gap{Partition: p, Plain: true})
				gaps = append(gaps, n.timedGaps(h, p, oldest, ring.Forever)...)
			case d.Slot < 0:
				gaps = append(gaps, proto.Gap{Partition: p, Plain: true})
			default:
				gaps = append(gaps, proto.Gap{Partition: p, From: int64(d.Slot), Until: int64(d.Slot) + 1})
			}
		}
	}
	for _, p := range h.HeldBy(n.id) {
		if open[p] {
			continue
		}
		if holdsPlain(h, n.id, p) { // it is on a disk that is not there, or cannot be opened
			gaps = append(gaps, proto.Gap{Partition: p, Plain: true})
		}
		gaps = append(gaps, n.timedGaps(h, p, oldest, ring.Forever)...)
	}
	return gaps
}

// timedGaps returns the slots from oldest to until of which this node holds a
// partition, as owner or as source.
func (n *Node) timedGaps(h *ring.History, p ring.Partition, oldest, until int64) (gaps []proto.Gap) {
	add := func(from, end int64, r *ring.Ring) {
		from, end = max(from, oldest), min(end, until)
		if from >= end || r.Bits() != p.Bits || !r.Owns(n.id, p) && !slices.Contains(h.Sources(from, p), n.id) {
			return
		}
		if k := len(gaps) - 1; k >= 0 && gaps[k].Until == from {
			gaps[k].Until = end
			return
		}
		gaps = append(gaps, proto.Gap{Partition: p, From: from, Until: end})
	}
	var last *ring.Ring
	lastFrom := int64(0)
	for from, r := range h.All() {
		if last != nil {
			add(lastFrom, from, last)
		}
		last, lastFrom = r, from
	}
	add(lastFrom, ring.Forever, last)
	return gaps
}

// holdsPlain reports whether a node is owner or source of a partition's plain data.
func holdsPlain(h *ring.History, id ring.NodeID, p ring.Partition) bool {
	newest := h.Newest()
	return newest.Bits() == p.Bits && newest.Owns(id, p) || slices.Contains(h.PlainSources(p), id)
}

// oldestSlot returns the first slot that may hold something that has not expired.
func (n *Node) oldestSlot(h *ring.History) int64 {
	longest := int64(0)
	for p := range n.buckets.Load().All() {
		switch {
		case p.Timed && p.TTLSeconds == 0:
			return 0
		case p.Timed:
			longest = max(longest, p.TTLSeconds)
		}
	}
	return max(0, h.SlotOf(n.cfg.Now().Unix()-longest))
}

// stored returns what this node's disks hold of each partition.
func (n *Node) stored(ctx context.Context) (all []proto.Stored, err error) {
	at := map[bitcask.Partition]*proto.Stored{}
	for _, d := range n.disks {
		partitions, err := d.Partitions()
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			if ctx.Err() != nil {
				return nil, object.Errorf(object.CodeDeadline, object.NotDone, "what is stored was being added up: %w", context.Cause(ctx))
			}
			s := at[p]
			if s == nil {
				s = &proto.Stored{Partition: ring.Partition(p)}
				at[p] = s
			}
			slots := map[int64]uint64{}
			err := d.Usage(p, func(_ uint64, slot expiry.Slot, sizeBytes int64) {
				if slot < 0 {
					s.Plain += uint64(sizeBytes)
				} else {
					slots[int64(slot)] += uint64(sizeBytes)
				}
			})
			if err != nil {
				return nil, err
			}
			for slot, size := range slots {
				s.Timed = append(s.Timed, proto.SlotBytes{Slot: slot, Bytes: size})
			}
		}
	}
	for _, s := range at {
		slices.SortFunc(s.Timed, func(a, b proto.SlotBytes) int { return int(a.Slot - b.Slot) })
		if s.Plain > 0 || len(s.Timed) > 0 {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b proto.Stored) int { return a.Partition.Compare(b.Partition) })
	return all, nil
}

// reportDisks tells of the data directories, those that are not in use as well.
func (n *Node) reportDisks() (all []proto.Disk) {
	for i, d := range n.disks {
		s := d.Stats()
		disk := proto.Disk{
			ID: d.Identity().Disk.String(), Path: n.paths[i], FreeBytes: uint64(max(0, s.FreeBytes)),
			Doubts: int(s.Doubts), LowSpace: s.LowSpace,
		}
		partitions, err := d.Partitions()
		for _, p := range partitions {
			err = errors.Join(err, d.Usage(p, func(_ uint64, _ expiry.Slot, sizeBytes int64) { disk.StoredBytes += uint64(sizeBytes) }))
		}
		if err != nil {
			disk.Failed = err.Error()
		}
		all = append(all, disk)
	}
	for _, f := range n.failed {
		all = append(all, proto.Disk{Path: f.path, Failed: f.err.Error()})
	}
	for _, id := range n.missing {
		all = append(all, proto.Disk{ID: id, Failed: "none of the data directories is this disk"})
	}
	return all
}
