package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
	"github.com/mayflydb/mayfly/vnode"
)

// TestDrain: a node leaves four others. What it had is with them before it may be
// switched off, they say so, and all is found, and listed, without it.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 5)...)
	nodes := c.startAll(numbered(1, 5)...)
	c.run(40 * time.Millisecond)
	load := c.load(nodes...)
	var plain []object.Record
	for i := range 40 {
		rec := c.note(i)
		plain = append(plain, rec)
		until(t, "it is put", func() bool { return putOnce(t, nodes[i%5], rec) == nil })
	}
	until(t, "there is something in three slots", func() bool { return len(slotsOf(t, nodes[4])) >= 3 })

	leaver := councilID("n5")
	c.do(agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageLeave, Node: leaver}})
	c.commit()
	boundary := c.awaitFixed()
	until(t, "the boundary is past", func() bool { return c.clock.Load() > (boundary+1)*councilSlot })
	until(t, "n5 has left", func() bool {
		m, _ := c.present().Member(leaver)
		return m.State == agreed.Left
	})
	load.end()
	completed := 0
	c.mu.Lock()
	for i, cmd := range c.said {
		if cmd.Kind == agreed.Completed && c.results[i].Err == nil {
			completed += len(cmd.Completions)
		}
	}
	c.mu.Unlock()
	if completed == 0 {
		t.Error("it left, and nobody said that he has what it had")
	}
	h := c.present().History
	for slot := h.SlotOf(c.clock.Load()) - 50; slot < boundary+2; slot++ {
		for p := range h.At(slot).Partitions() {
			if sources, owns := h.Sources(slot, p), h.At(slot).Owns(leaver, p); len(sources) > 0 || owns {
				t.Errorf("partition %v in slot %d: sources %v, n5 owns %v", p, slot, sources, owns)
			}
		}
	}
	stop(t, nodes[4])
	load.check("without n5", nodes[:4]...)
	for i, rec := range plain {
		if got, err := getAgain(nodes[i%4], rec); err != nil || got != string(rec.Value()) {
			t.Errorf("%s: %q, %v", rec.Key, got, err)
		}
	}
	if n := bucket.DefaultN; h.Newest().N() != n || len(h.Newest().Nodes()) != 4 {
		t.Errorf("%d owners on %d nodes", h.Newest().N(), len(h.Newest().Nodes()))
	}
}

// TestUnneededPlainDataIsDropped: as nodes join, plain data goes to them, and from
// those who own it no more.
func TestUnneededPlainDataIsDropped(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	var all []object.Record
	for i := range 60 {
		rec := c.note(i)
		all = append(all, rec)
		if err := putOnce(t, nodes[i%3], rec); err != nil {
			t.Fatal(err)
		}
	}
	c.join(numbered(4, 6)...)
	nodes = append(nodes, c.startAll(numbered(4, 6)...)...)
	c.commit()
	c.awaitFixed()
	c.run(20 * time.Millisecond)
	until(t, "all newcomers have everything", func() bool {
		h := c.present().History
		for p := range h.Newest().Partitions() {
			if len(h.PlainNewcomers(p)) > 0 {
				return false
			}
		}
		return true
	})
	holders := func(rec object.Record) (n int) {
		h := c.present().History
		p := h.Newest().PartitionOf(ring.Hash(rec.Type, rec.Bucket, rec.Key))
		for _, node := range nodes {
			v, err := node.vnodes.Vnode(p)
			if err != nil {
				t.Fatal(err)
			}
			a, err := v.Get(c.now(), refOf(rec))
			if err == nil && a.State == vnode.Found {
				n++
				a.Record.Release()
			}
		}
		return n
	}
	for _, rec := range all {
		until(t, fmt.Sprintf("%s is on three nodes", rec.Key), func() bool { return holders(rec) == 3 })
	}
	for i, rec := range all {
		if got, err := getAgain(nodes[i%6], rec); err != nil || got != string(rec.Value()) {
			t.Errorf("%s: %q, %v", rec.Key, got, err)
		}
	}
}
