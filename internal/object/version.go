package object

import (
	"cmp"
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// A Version orders the records of one key, everywhere the same way: by
// timestamp, then a tombstone over a value, then the header's CRC. Two records
// of a key with one version are the same record.
type Version struct {
	TimestampMicros int64 // microseconds since the Unix epoch, UTC
	Tombstone       bool
	HeaderCRC       uint32
}

// Version returns the header's version.
func (h *Header) Version() Version {
	return Version{h.TimestampMicros, h.Kind == Tombstone, h.CRC}
}

// Compare returns -1, 0 or +1 as v is less than, the same as or greater than w.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(v.TimestampMicros, w.TimestampMicros); c != 0 {
		return c
	}
	if v.Tombstone != w.Tombstone {
		if v.Tombstone {
			return 1
		}
		return -1
	}
	return cmp.Compare(v.HeaderCRC, w.HeaderCRC)
}

// Short folds a version into 32 bits, for tables that only ask whether two
// versions differ.
func (v Version) Short() uint32 {
	b := v.encode(0)
	h := xxhash.Sum64(b[8:])
	return uint32(h ^ h>>32)
}

// encode lays a version out behind a placement hash:
//
//	offset  size  field
//	0       8     placement hash
//	8       8     timestamp, microseconds
//	16      4     header CRC
//	20      1     1 for a tombstone
func (v Version) encode(hash uint64) [21]byte {
	var b [21]byte
	binary.LittleEndian.PutUint64(b[0:], hash)
	binary.LittleEndian.PutUint64(b[8:], uint64(v.TimestampMicros))
	binary.LittleEndian.PutUint32(b[16:], v.HeaderCRC)
	if v.Tombstone {
		b[20] = 1
	}
	return b
}

// A Digest is a commutative sum over the versions of a set of objects: two
// replicas with equal digests hold the same versions, whatever the order they
// came in. It is the sum, modulo 2^128, of a 128-bit hash of each (placement
// hash, version). It protects against accident, not against malice.
type Digest struct{ Hi, Lo uint64 }

// Add adds the object with that placement hash and version.
func (d *Digest) Add(hash uint64, v Version) { d.Merge(digestOf(hash, v)) }

// Remove takes away an object that was added.
func (d *Digest) Remove(hash uint64, v Version) {
	s := digestOf(hash, v)
	var borrow uint64
	d.Lo, borrow = bits.Sub64(d.Lo, s.Lo, 0)
	d.Hi, _ = bits.Sub64(d.Hi, s.Hi, borrow)
}

// Merge adds a digest of other objects.
func (d *Digest) Merge(s Digest) {
	var carry uint64
	d.Lo, carry = bits.Add64(d.Lo, s.Lo, 0)
	d.Hi, _ = bits.Add64(d.Hi, s.Hi, carry)
}

// digestOf hashes one object's version twice, the second time over bytes that
// begin with the first hash's complement in place of the placement hash.
func digestOf(hash uint64, v Version) Digest {
	b := v.encode(hash)
	lo := xxhash.Sum64(b[:])
	c := v.encode(^lo)
	return Digest{Hi: xxhash.Sum64(c[:]), Lo: lo}
}
