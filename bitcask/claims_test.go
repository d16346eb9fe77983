package bitcask

import (
	"math/rand/v2"
	"testing"
)

// Claims are a map by hash, in whatever order they come and go.
func TestClaimsAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var c claims
	want := map[uint64]*putOp{}
	for i := range 20_000 {
		hash := rng.Uint64N(20) // in few chains
		if got := c.find(hash); got != want[hash] {
			t.Fatalf("step %d: under hash %d: %p, want %p", i, hash, got, want[hash])
		}
		switch op := want[hash]; {
		case op != nil && i/1000%2 == 0 || op != nil && rng.IntN(2) == 0: // fewer and more in turns
			c.remove(op)
			delete(want, hash)
		case op == nil:
			op = &putOp{hash: hash}
			c.add(op)
			want[hash] = op
		}
	}
	for _, op := range want {
		c.remove(op)
	}
	if c.first != nil || c.others != 0 || *c.chains != [8]*putOp{} {
		t.Errorf("without puts: %+v", c)
	}
}
