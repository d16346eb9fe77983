package node

import (
	"errors"
	"testing"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestAheadCountsAtOnce: how far ahead an epoch may be is what is agreed at present,
// more or less than what the node began with.
func TestAheadCountsAtOnce(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, numbered(1, 3)...)
	nodes := c.startAll(numbered(1, 3)...)
	now, chunk := c.clock.Load(), uint64(0)
	take := func(ahead int64) error {
		chunk++
		return putOnce(t, nodes[0], c.blobAt(now+ahead, chunk))
	}
	agree := func(ahead int64) {
		s := c.present().Settings
		s.AheadSeconds = ahead
		c.do(agreed.Command{Kind: agreed.SetSettings, Settings: s})
		for _, n := range nodes {
			until(t, "all have adopted it", func() bool { return n.info().AheadSeconds == ahead })
		}
	}
	for _, ahead := range []int64{c.present().Settings.AheadSeconds, 300, 2, 0, 7} {
		agree(ahead)
		if err := take(ahead); err != nil {
			t.Errorf("%d seconds are allowed: %v", ahead, err)
		}
		if err := take(ahead + 1); !errors.Is(err, object.CodeTooFarAhead) {
			t.Errorf("%d seconds are allowed, %d ahead: %v", ahead, ahead+1, err)
		}
	}
}
