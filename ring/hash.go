package ring

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the placement hash of an object: where it lives, in every ring.
// It is xxhash64 with seed 0 over three strings, each behind its length as two
// little-endian bytes:
//
//	offset   size  field
//	0        2     t, length of the bucket type in bytes
//	2        t     bucket type
//	2+t      2     b, length of the bucket's name in bytes
//	4+t      b     bucket
//	4+t+b    2     k, length of the key in bytes
//	6+t+b    k     key
//
// The lengths keep ("a", "bc") and ("ab", "c") apart. docs/format-ring.md has
// golden values. Names and keys are checked at the doors to be far shorter
// than 65536 bytes; Hash panics on a longer one. It does not allocate.
func Hash[N, K ~string | ~[]byte](bucketType, bucket N, key K) uint64 {
	var short [128]byte // nearly every object's type, bucket and key fit
	if 6+len(bucketType)+len(bucket)+len(key) > len(short) {
		return hashLong(bucketType, bucket, key)
	}
	input := appendString(short[:0], bucketType)
	input = appendString(input, bucket)
	input = appendString(input, key)
	return xxhash.Sum64(input)
}

// HashBytes is Hash for callers that take it as a value.
func HashBytes(bucketType, bucket, key []byte) uint64 { return Hash(bucketType, bucket, key) }

// hashLong is Hash without a buffer for the whole.
func hashLong[N, K ~string | ~[]byte](bucketType, bucket N, key K) uint64 {
	var digest xxhash.Digest
	digest.Reset()
	writeString(&digest, bucketType)
	writeString(&digest, bucket)
	writeString(&digest, key)
	return digest.Sum64()
}

func appendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, length(s))
	return append(dst, s...)
}

func writeString[S ~string | ~[]byte](digest *xxhash.Digest, s S) {
	var piece [256]byte
	binary.LittleEndian.PutUint16(piece[:], length(s))
	digest.Write(piece[:2])
	for len(s) > 0 {
		n := copy(piece[:], s)
		digest.Write(piece[:n])
		s = s[n:]
	}
}

func length[S ~string | ~[]byte](s S) uint16 {
	if len(s) > math.MaxUint16 {
		panic(fmt.Sprintf("ring: BUG: a name or key of %d bytes to hash", len(s)))
	}
	return uint16(len(s))
}
