package ring

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// affinity is a number as good as random, and always the same, for a node and
// a partition: the highest wins, as in rendezvous hashing (Thaler and
// Ravishankar, 1998). It is xxhash64 over the node's id, the partition's bits
// as one byte and its prefix as four.
func affinity(p Partition, id NodeID) uint64 {
	var input [21]byte
	copy(input[:16], id[:])
	input[16] = p.Bits
	binary.LittleEndian.PutUint32(input[17:], p.Prefix)
	return xxhash.Sum64(input[:])
}
