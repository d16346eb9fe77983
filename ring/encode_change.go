package ring

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A change as bytes: in the agreed state. Integers are little-endian; the
// layout is format 1. Equal changes have equal bytes.
//
//	offset  size  field
//	0       4     magic "MFRC"
//	4       1     format, 1
//	5       1     phase: 0 idle, 1 proposed, 2 fixed
//	6       2     zero
//	8       8     round
//	16      8     boundary, a slot, signed
//	24      2     m, number of members, 0..4096
//	26      2     zero
//	28    17m     members, ascending by id:
//	                16  id, not all zero
//	                 1  1 if its promise is missing, else 0
//	…       8     xxhash64 of all before
//
// A promise as bytes: on a member's disk.
//
//	offset  size  field
//	0       4     magic "MFRP"
//	4       1     format, 1
//	5       1     1 if lifted, else 0
//	6       1     1 if fixed, else 0
//	7       1     zero
//	8       8     round
//	16      8     boundary, a slot, signed
//	24      8     xxhash64 of all before
//
// Nothing may follow. A decoder accepts exactly what an encoder can write.
const (
	changeMagic       = "MFRC"
	changeFormat      = 1
	changeHeaderSize  = 28
	promiseMagic      = "MFRP"
	promiseFormat     = 1
	promiseHeaderSize = 24
)

// AppendBinary appends the change's bytes to dst. The error wraps ErrRing: it is
// not a change that Step returns.
func (c Change) AppendBinary(dst []byte) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("change: %w", err)
	}
	start := len(dst)
	dst = append(dst, changeMagic...)
	dst = append(dst, changeFormat, byte(c.Phase), 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, c.Round)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Boundary))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(c.Members)))
	dst = append(dst, 0, 0)
	for _, id := range c.Members {
		dst = append(dst, id[:]...)
		dst = append(dst, flag(slices.Contains(c.Waiting, id)))
	}
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[start:])), nil
}

// MarshalBinary returns the change's bytes, as AppendBinary does.
func (c Change) MarshalBinary() ([]byte, error) { return c.AppendBinary(nil) }

// UnmarshalChange returns the change whose bytes b is, whole. It keeps nothing
// of b. Errors wrap ErrCorrupt, ErrFormat or ErrRing.
func UnmarshalChange(b []byte) (Change, error) {
	body, err := openDocument(b, changeMagic, changeFormat, changeHeaderSize)
	if err != nil {
		return Change{}, fmt.Errorf("change: %w", err)
	}
	d := decoder{rest: body}
	var c Change
	c.Phase = Phase(d.uint8())
	d.zeroes(2)
	c.Round, c.Boundary = d.uint64(), int64(d.uint64())
	count := int(d.uint16())
	d.zeroes(2)
	for i := 0; i < count && !d.failed; i++ {
		var id NodeID
		copy(id[:], d.take(len(id)))
		c.Members = append(c.Members, id)
		if d.flag() {
			c.Waiting = append(c.Waiting, id)
		}
	}
	if d.failed || len(d.rest) != 0 {
		return Change{}, fmt.Errorf("change: lengths do not add up: %w", ErrCorrupt)
	}
	if err := c.validate(); err != nil {
		return Change{}, fmt.Errorf("change: %w", err)
	}
	return c, nil
}

// validate checks what Step keeps: members in order, and nobody is waited for
// who is none, or while nothing is proposed.
func (c Change) validate() error {
	switch {
	case c.Phase > Fixed:
		return fmt.Errorf("%v: %w", c.Phase, ErrRing)
	case len(c.Members) > MaxNodes:
		return fmt.Errorf("%d members, want at most %d: %w", len(c.Members), MaxNodes, ErrRing)
	case c.Phase != Proposed && len(c.Waiting) > 0:
		return fmt.Errorf("%v, and waits for %d members: %w", c.Phase, len(c.Waiting), ErrRing)
	}
	for i, id := range c.Members {
		if id.IsZero() || i > 0 && c.Members[i-1].Compare(id) >= 0 {
			return fmt.Errorf("member %v is there twice or out of order: %w", id, ErrRing)
		}
	}
	for i, id := range c.Waiting {
		if _, member := slices.BinarySearchFunc(c.Members, id, NodeID.Compare); !member || i > 0 && c.Waiting[i-1].Compare(id) >= 0 {
			return fmt.Errorf("waiting for %v, which is no member, there twice or out of order: %w", id, ErrRing)
		}
	}
	return nil
}

// MarshalBinary returns the promise's bytes. The error is always nil.
func (p Promise) MarshalBinary() ([]byte, error) {
	dst := append([]byte(promiseMagic), promiseFormat, flag(p.Lifted), flag(p.Fixed), 0)
	dst = binary.LittleEndian.AppendUint64(dst, p.Round)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Boundary))
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst)), nil
}

// UnmarshalPromise returns the promise whose bytes b is, whole. Errors wrap
// ErrCorrupt or ErrFormat.
func UnmarshalPromise(b []byte) (Promise, error) {
	body, err := openDocument(b, promiseMagic, promiseFormat, promiseHeaderSize)
	if err != nil {
		return Promise{}, fmt.Errorf("promise: %w", err)
	}
	d := decoder{rest: body}
	p := Promise{Lifted: d.flag(), Fixed: d.flag()}
	d.zeroes(1)
	p.Round, p.Boundary = d.uint64(), int64(d.uint64())
	if d.failed || len(d.rest) != 0 {
		return Promise{}, fmt.Errorf("promise: lengths do not add up: %w", ErrCorrupt)
	}
	return p, nil
}
