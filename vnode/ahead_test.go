package vnode

import (
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// TestAheadIsLowered: what clients put is judged by the bound of now; what another
// replica has taken before, and what may have been acknowledged in this vnode's
// name, by the one that was.
func TestAheadIsLowered(t *testing.T) {
	n := onEngine(t, vfs.NewMem())
	ahead := int64(100)
	n.cfg.AheadSeconds = func() int64 { return ahead }
	n.twoNodes()
	n.open()
	key := func(seconds int64) string { return fmt.Sprintf("%d:x", n.now.Unix()+seconds) }
	n.want("as far as allowed", n.put("timed", key(100), "v"), "stored")
	n.want("further", n.put("timed", key(101), "v"), "too far ahead")
	ahead = 3
	n.want("as far as allowed now", n.put("timed", key(3), "v"), "stored")
	n.want("as far as was allowed", n.put("timed", key(50), "v"), "too far ahead")
	rec := recordOf(t, object.Value, "timed", key(60), "v", n.now)
	n.want("another replica took it", n.repair(rec, object.Version{}), "stored")
	if got, want := n.set.firstSafe(n.now), expiry.SlotOf(n.now.Unix()+100+sinceSkewSeconds, testSlotSeconds)+1; got != want {
		t.Errorf("nothing can have been acknowledged from slot %d on, want %d", got, want)
	}
	ahead = 200
	n.want("more is allowed", n.put("timed", key(200), "v"), "stored")
	ahead = 3
	if got, want := n.set.firstSafe(n.now), expiry.SlotOf(n.now.Unix()+200+sinceSkewSeconds, testSlotSeconds)+1; got != want {
		t.Errorf("raised and lowered: nothing can have been acknowledged from slot %d on, want %d", got, want)
	}
}
