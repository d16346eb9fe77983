package bucket

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// An ID names a bucket's directory: xxhash64 with seed 0 over the bucket type
// and the name, each behind its length as two little-endian bytes. It needs no
// agreement; that two buckets have the same one shows in the names that every
// segment's header carries.
type ID uint64

// IDOf returns the id of a bucket. Both names must have passed CheckNames.
func IDOf(bucketType, name string) ID {
	var onStack [4 + 2*MaxNameBytes]byte
	input := appendName(onStack[:0], bucketType)
	input = appendName(input, name)
	return ID(xxhash.Sum64(input))
}

func appendName(dst []byte, name string) []byte {
	if len(name) > MaxNameBytes {
		panic(fmt.Sprintf("bucket: BUG: an unchecked name of %d bytes", len(name)))
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name)))
	return append(dst, name...)
}

// String returns the id as 16 lower hexadecimal digits: the directory's name.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseID parses what String returns, and no other spelling of it. Errors wrap
// ErrInvalid.
func ParseID(text string) (ID, error) {
	v, err := strconv.ParseUint(text, 16, 64)
	if id := ID(v); err == nil && id.String() == text {
		return id, nil
	}
	return 0, fmt.Errorf("bucket id %.40q: want 16 lower hexadecimal digits: %w", text, ErrInvalid)
}

// MaxKeyBytes bounds the keys of objects.
const MaxKeyBytes = 4096

// CheckKey says whether a key has an allowed length, 1 to MaxKeyBytes. What
// the bytes are does not matter here; keys of timed buckets must also begin
// with an epoch. Errors wrap ErrInvalid.
func CheckKey[K ~string | ~[]byte](key K) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("key is empty: %w", ErrInvalid)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("key %.40q…: %d bytes, want at most %d: %w", key, len(key), MaxKeyBytes, ErrInvalid)
	}
	return nil
}
