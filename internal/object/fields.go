package object

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Metadata is a run of fields, opaque to the store, in ascending order of name
// and each name once, so that equal metadata has equal bytes:
//
//	offset  size  field
//	0       2     name length, bytes, at least 1
//	2       4     value length, bytes
//	6       …     name, value
const fieldHeadSize = 6

// AppendField appends one metadata field. Names must be appended in ascending order.
func AppendField(dst []byte, name string, value []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	return append(append(dst, name...), value...)
}

// Fields walks metadata. It stops at the first fault, which [ValidateFields]
// reports. Names and values alias b.
func Fields(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for len(b) > 0 {
			name, value, rest, err := cutField(b)
			if err != nil || !yield(name, value) {
				return
			}
			b = rest
		}
	}
}

// ValidateFields checks that b is well-formed, canonical metadata.
func ValidateFields(b []byte) error {
	last := ""
	for len(b) > 0 {
		name, _, rest, err := cutField(b)
		if err != nil {
			return err
		}
		if string(name) <= last {
			return fmt.Errorf("%w: metadata field %q is out of order", ErrCorrupt, name)
		}
		last, b = string(name), rest
	}
	return nil
}

func cutField(b []byte) (name, value, rest []byte, err error) {
	if len(b) < fieldHeadSize {
		return nil, nil, nil, fmt.Errorf("%w: metadata ends inside a field", ErrCorrupt)
	}
	n, v := int(binary.LittleEndian.Uint16(b)), uint64(binary.LittleEndian.Uint32(b[2:]))
	if n < 1 || uint64(len(b)-fieldHeadSize) < uint64(n)+v {
		return nil, nil, nil, fmt.Errorf("%w: metadata ends inside a field", ErrCorrupt)
	}
	b = b[fieldHeadSize:]
	return b[:n], b[n : n+int(v)], b[n+int(v):], nil
}
