package ring

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxBits bounds the number of partitions of a ring: 2^16.
const MaxBits = 16

// ErrPartition is wrapped by every error of ParsePartition.
var ErrPartition = errors.New("not a partition")

// A Partition is a range of the 64-bit hash space: the hashes whose top Bits
// bits are Prefix. Partitions of rings with different numbers of partitions
// are different values, and different directories. The zero Partition is the
// whole space.
type Partition struct {
	Bits   uint8  // 0..MaxBits
	Prefix uint32 // < 2^Bits
}

// PartitionOf returns the partition that holds the hash in a ring of 2^bits
// partitions. bits must be at most MaxBits.
func PartitionOf(hash uint64, bits uint8) Partition {
	checkBits(bits)
	return Partition{bits, uint32(hash >> (64 - bits))} // a shift by 64 gives 0
}

// Range returns the first and the last hash of the partition, both inclusive.
func (p Partition) Range() (first, last uint64) {
	checkBits(p.Bits)
	first = uint64(p.Prefix) << (64 - p.Bits)
	return first, first | math.MaxUint64>>p.Bits
}

// Contains reports whether the hash lies in the partition.
func (p Partition) Contains(hash uint64) bool {
	return PartitionOf(hash, p.Bits) == p
}

// Overlaps reports whether the two partitions have a hash in common: one of
// them then holds the whole other.
func (p Partition) Overlaps(q Partition) bool {
	first, _ := p.Range()
	other, _ := q.Range()
	return p.Contains(other) || q.Contains(first)
}

// Compare orders partitions by bits, then by prefix: the order of their names.
func (p Partition) Compare(q Partition) int {
	return cmp.Or(cmp.Compare(p.Bits, q.Bits), cmp.Compare(p.Prefix, q.Prefix))
}

// String names the partition as its directory is named: the bits in decimal, a
// dash, the prefix in lower hexadecimal with one digit for every four bits or
// part of them, at least one. "6-0a" is partition 10 of 64, "0-0" everything.
func (p Partition) String() string {
	return string(p.AppendTo(make([]byte, 0, len("16-ffff"))))
}

// MarshalText returns what String returns.
func (p Partition) MarshalText() ([]byte, error) { return p.AppendTo(nil), nil }

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (p *Partition) UnmarshalText(text []byte) error {
	parsed, err := ParsePartition(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// AppendTo appends the partition's name to dst.
func (p Partition) AppendTo(dst []byte) []byte {
	const digits = "0123456789abcdef"
	dst = strconv.AppendUint(dst, uint64(p.Bits), 10)
	dst = append(dst, '-')
	for i := hexDigits(p.Bits) - 1; i >= 0; i-- {
		dst = append(dst, digits[p.Prefix>>(4*i)&0xf])
	}
	return dst
}

// ParsePartition parses a name that String made, and no other spelling of it:
// a directory has one name. Errors wrap ErrPartition.
func ParsePartition(name string) (Partition, error) {
	bits, prefix, found := strings.Cut(name, "-")
	if !found {
		return Partition{}, partitionError(name)
	}
	b, err := strconv.ParseUint(bits, 10, 8)
	if err != nil || b > MaxBits {
		return Partition{}, partitionError(name)
	}
	v, err := strconv.ParseUint(prefix, 16, 32)
	if err != nil || v >= 1<<b {
		return Partition{}, partitionError(name)
	}
	p := Partition{uint8(b), uint32(v)}
	if p.String() != name {
		return Partition{}, partitionError(name)
	}
	return p, nil
}

func partitionError(name string) error {
	return fmt.Errorf("partition %.20q: want <bits>-<prefix in hexadecimal>, such as 6-0a: %w", name, ErrPartition)
}

// hexDigits returns how many hexadecimal digits a prefix of so many bits takes.
func hexDigits(bits uint8) int { return max(1, (int(bits)+3)/4) }

func checkBits(bits uint8) {
	if bits > MaxBits {
		panic(fmt.Sprintf("ring: BUG: a partition of %d bits", bits))
	}
}
