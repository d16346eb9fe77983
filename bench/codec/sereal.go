package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/mayflydb/mayfly/event"
	"github.com/vmihailenco/msgpack/v5"
)

// serealDocument is the Sereal v3 document of an event given as msgpack, its
// members in the same order, which the library's encoder of Go maps would not
// keep. It panics on what JSON cannot say: events here come from JSON.
func serealDocument(doc []byte) []byte {
	if err := event.Validate(doc); err != nil {
		panic(err)
	}
	out := []byte{0x3d, 0xf3, 'r', 'l', 3, 0} // magic, version 3 uncompressed, no header
	return (&serealWriter{in: doc}).value(out)
}

// Tags of Sereal.
const (
	serealVarint  = 0x20
	serealZigzag  = 0x21
	serealDouble  = 0x23
	serealUndef   = 0x25
	serealUTF8    = 0x27
	serealRefN    = 0x28
	serealHash    = 0x2a
	serealArray   = 0x2b
	serealFalse   = 0x3a
	serealTrue    = 0x3b
	serealRefs    = 0x40 // array references with up to 15 elements; hashes from 0x50
	serealHashRef = 0x50
	serealShort   = 0x60 // binary of up to 31 bytes
)

// A serealWriter turns msgpack that AppendMsgpack made into Sereal.
type serealWriter struct{ in []byte }

func (w *serealWriter) value(out []byte) []byte {
	n, err := event.Skip(w.in)
	if err != nil {
		panic(err)
	}
	switch c := w.in[0]; {
	case c&0xf0 == 0x80, c == 0xde, c == 0xdf:
		return w.container(out, serealHashRef, serealHash, 2)
	case c&0xf0 == 0x90, c == 0xdc, c == 0xdd:
		return w.container(out, serealRefs, serealArray, 1)
	}
	var v any
	if err := msgpack.Unmarshal(w.in[:n], &v); err != nil {
		panic(err)
	}
	w.in = w.in[n:]
	return appendSerealScalar(out, v)
}

// container writes an array or, with two values an element, a hash.
func (w *serealWriter) container(out []byte, short, long byte, values int) []byte {
	c, n := w.in[0], 0
	switch {
	case c < 0xa0:
		n, w.in = int(c&15), w.in[1:]
	case c == 0xdc || c == 0xde:
		n, w.in = int(binary.BigEndian.Uint16(w.in[1:])), w.in[3:]
	default:
		n, w.in = int(binary.BigEndian.Uint32(w.in[1:])), w.in[5:]
	}
	if n < 16 {
		out = append(out, short|byte(n))
	} else {
		out = binary.AppendUvarint(append(out, serealRefN, long), uint64(n))
	}
	for range n * values {
		out = w.value(out)
	}
	return out
}

func appendSerealScalar(out []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(out, serealUndef)
	case bool:
		if v {
			return append(out, serealTrue)
		}
		return append(out, serealFalse)
	case string:
		return appendSerealString(out, v)
	case float64:
		return binary.LittleEndian.AppendUint64(append(out, serealDouble), math.Float64bits(v))
	case uint64:
		return appendSerealUint(out, v)
	case uint8:
		return appendSerealUint(out, uint64(v))
	case uint16:
		return appendSerealUint(out, uint64(v))
	case uint32:
		return appendSerealUint(out, uint64(v))
	case int8:
		return appendSerealInt(out, int64(v))
	case int16:
		return appendSerealInt(out, int64(v))
	case int32:
		return appendSerealInt(out, int64(v))
	case int64:
		return appendSerealInt(out, v)
	}
	panic(fmt.Sprintf("codec: BUG: %T in an event", v))
}

func appendSerealString(out []byte, s string) []byte {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	if ascii && len(s) < 32 {
		return append(append(out, serealShort|byte(len(s))), s...)
	}
	return append(binary.AppendUvarint(append(out, serealUTF8), uint64(len(s))), s...)
}

func appendSerealUint(out []byte, n uint64) []byte {
	if n < 16 {
		return append(out, byte(n))
	}
	return binary.AppendUvarint(append(out, serealVarint), n)
}

func appendSerealInt(out []byte, n int64) []byte {
	switch {
	case n >= 0:
		return appendSerealUint(out, uint64(n))
	case n >= -16:
		return append(out, byte(32+n))
	}
	return binary.AppendUvarint(append(out, serealZigzag), uint64(n<<1)^uint64(n>>63))
}
