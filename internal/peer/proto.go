package peer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// The operations; see the package comment.
const (
	OpPut  uint8 = 32
	OpGet  uint8 = 33
	OpHead uint8 = 34
	OpRow  uint8 = 35
)

// Serves tells whether an operation of the wire is one of this package's.
func Serves(op uint8) bool { return op >= OpPut && op <= OpRow || op == OpAdopted }

// The index's own bucket, for the placement of its rows.
const (
	rowBucketType = "default"
	rowBucket     = "epochs"
)

// errArguments: the bytes are not the arguments or the answer of an operation.
var errArguments = errors.New("the arguments are malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", errArguments, what) }

// A Ref names an object and says where it belongs.
type Ref struct {
	Type, Bucket, Key []byte
	Hash              uint64 // ring.Hash of the three
}

// appendName appends the encoding of a name, whose parts must have passed the
// bounds of [object.Header].
func appendName(dst, bucketType, bucket, key []byte) []byte {
	return appendText(appendText(appendText(dst, bucketType), bucket), key)
}

func appendText(dst, s []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// parseName decodes a name and places it. The Ref aliases b.
func parseName(b []byte) (Ref, error) {
	var part [3][]byte
	for i, limit := range [...]int{object.MaxNameBytes, object.MaxNameBytes, object.MaxKeyBytes} {
		if len(b) < 2 {
			return Ref{}, malformed("a name that is cut short")
		}
		n := int(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if n < 1 || n > limit || n > len(b) {
			return Ref{}, malformed(fmt.Sprintf("a part of a name of %d bytes; it has 1 to %d", n, min(limit, len(b))))
		}
		part[i], b = b[:n:n], b[n:]
	}
	if len(b) > 0 {
		return Ref{}, malformed("a name with more behind it")
	}
	return Ref{part[0], part[1], part[2], ring.Hash(part[0], part[1], part[2])}, nil
}

// A state is what a replica knows of a key.
type state uint8

const (
	absent  state = 1
	expired state = 2
	found   state = 3
)

// A verdict is the meta of an answer to a read.
type verdict struct {
	state    state
	complete bool
}

func appendVerdict(dst []byte, v verdict) []byte {
	complete := byte(0)
	if v.complete {
		complete = 1
	}
	return append(dst, byte(v.state), complete)
}

// verdicts are all there are, encoded, by state and complete.
var verdicts = func() (all [found + 1][2][]byte) {
	for s := absent; s <= found; s++ {
		all[s] = [2][]byte{appendVerdict(nil, verdict{s, false}), appendVerdict(nil, verdict{s, true})}
	}
	return all
}()

// encoded returns the encoding, which is shared and not to be changed.
func (v verdict) encoded() []byte {
	if v.complete {
		return verdicts[v.state][1]
	}
	return verdicts[v.state][0]
}

// appendRowMeta appends what comes with a row: the verdict, and the checksum of
// the row's encoding, for rows, unlike records, bring none of their own.
func appendRowMeta(dst []byte, v verdict, row []byte) []byte {
	return binary.LittleEndian.AppendUint64(appendVerdict(dst, v), object.Checksum(row))
}

// parseRowMeta decodes what came with a row, and verifies the row's bytes.
func parseRowMeta(meta, row []byte) (verdict, error) {
	if len(meta) != 10 {
		return verdict{}, malformed(fmt.Sprintf("%d bytes with a row", len(meta)))
	}
	if binary.LittleEndian.Uint64(meta[2:]) != object.Checksum(row) {
		return verdict{}, malformed("a row that was damaged on its way")
	}
	return parseVerdict(meta[:2])
}

func parseVerdict(b []byte) (verdict, error) {
	if len(b) != 2 || b[0] < byte(absent) || b[0] > byte(found) || b[1] > 1 {
		return verdict{}, malformed(fmt.Sprintf("a verdict of % x", b[:min(len(b), 8)]))
	}
	return verdict{state(b[0]), b[1] == 1}, nil
}
