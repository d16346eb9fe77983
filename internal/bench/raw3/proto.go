// Package raw3 is the floor that "mayfly bench cluster" measures against: a
// replicated write and nothing else. One process takes each blob over TCP,
// appends it to a file, forwards it to two others that do the same, and answers
// when two of the three have written. There is no checksum, no sync, no repair,
// no index on disk, no expiry, and no way to start again with the data.
//
// It is a reference, not a limit: connections write to the one file side by
// side, as they come, and a connection has one request under way.
package raw3

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A request, integers little-endian:
//
//	offset  size  field
//	0       1     operation: 'P' put, 'R' keep a copy (from another node), 'G' get
//	1       2     key length, bytes, 1..maxKey
//	3       4     value length, bytes, 0..MaxValue; 0 in a get
//	7       k     key
//	7+k     v     value
//
// The answer to a put is a status byte; to a get a status byte, the length of
// the value in 4 bytes, and the value. Another status than statusOK has no more
// behind it.
const (
	headBytes   = 7
	answerBytes = 5
	maxKey      = 1 << 10  // bytes
	MaxValue    = 50 << 20 // bytes; also the most a node allocates on a bad length

	opPut  = 'P'
	opCopy = 'R'
	opGet  = 'G'

	statusOK     = 0
	statusFailed = 1 // a put: fewer than two copies are known to be written
	statusAbsent = 2 // a get: this node has no copy
)

// A head is the fixed part of a request.
type head struct {
	op    byte
	key   int // bytes
	value int // bytes
}

func (h head) size() int { return headBytes + h.key + h.value }

var errRequest = errors.New("raw3: not a request")

func appendHead(dst []byte, h head) []byte {
	dst = append(dst, h.op)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.key))
	return binary.LittleEndian.AppendUint32(dst, uint32(h.value))
}

// parseHead reads the first headBytes bytes of a request.
func parseHead(b []byte) (head, error) {
	if len(b) < headBytes {
		return head{}, fmt.Errorf("%w: %d bytes", errRequest, len(b))
	}
	h := head{op: b[0], key: int(binary.LittleEndian.Uint16(b[1:])), value: int(binary.LittleEndian.Uint32(b[3:]))}
	switch {
	case h.op != opPut && h.op != opCopy && h.op != opGet:
		return head{}, fmt.Errorf("%w: operation %d", errRequest, h.op)
	case h.key == 0 || h.key > maxKey || h.value > MaxValue || h.op == opGet && h.value != 0:
		return head{}, fmt.Errorf("%w: a key of %d bytes and a value of %d", errRequest, h.key, h.value)
	}
	return h, nil
}
