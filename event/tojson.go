package event

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends doc, one msgpack value that Validate accepts, to dst as
// JSON on one line, for people and tools to read. Integers stay integers, floats
// keep a fraction or an exponent, and members keep their order. What JSON does
// not have becomes:
//
//   - NaN and infinities: null
//   - bin: a string, base64
//   - ext: {"ext":type,"data":"base64"}
//   - what is not UTF-8 in a string: U+FFFD
//   - keys that are no strings: the text of the nil, boolean or number; bin as
//     above; maps, arrays and ext as base64 of their msgpack
//
// The error is a *MsgpackError; dst is then as it was.
func AppendJSON(dst, doc []byte) ([]byte, error) {
	if err := Validate(doc); err != nil {
		return dst, err
	}
	dst, _ = appendJSON(dst, doc)
	return dst, nil
}

// appendJSON appends the value valid begins with and returns what follows it.
// The bytes have been validated, so it recurses MaxDepth times at most.
func appendJSON(dst, valid []byte) (out, rest []byte) {
	c := valid[0]
	shape := shapes[c]
	if isContainer(shape) {
		size, count, _ := longShape(valid, shape)
		if isMap(c) {
			return appendJSONMap(dst, valid[size:], count/2)
		}
		return appendJSONArray(dst, valid[size:], count)
	}
	n, body := scalar(valid)
	value, rest := valid[:n], valid[n:]
	switch {
	case isStr(c):
		dst = appendJSONString(dst, value[body:])
	case isBin(c):
		dst = appendBase64(dst, value[body:])
	case isExt(c):
		dst = append(dst, `{"ext":`...)
		dst = strconv.AppendInt(dst, int64(int8(value[body-1])), 10)
		dst = append(dst, `,"data":`...)
		dst = append(appendBase64(dst, value[body:]), '}')
	default:
		dst = appendJSONSimple(dst, value)
	}
	return dst, rest
}

// scalar is the length of the value valid begins with, which is no container,
// and the offset of its bytes if it is a str, bin or ext.
func scalar(valid []byte) (n, body int) {
	c := valid[0]
	shape := shapes[c]
	if shape < shapeLong {
		body = 1
		if c >= 0xd4 && c <= 0xd8 {
			body = 2
		}
		return int(shape), body
	}
	n, _, _ = longShape(valid, shape)
	length, _ := lengthAt(valid, shape)
	return n, n - int(length)
}

func appendJSONArray(dst, valid []byte, count uint64) (out, rest []byte) {
	dst = append(dst, '[')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, valid = appendJSON(dst, valid)
	}
	return append(dst, ']'), valid
}

func appendJSONMap(dst, valid []byte, pairs uint64) (out, rest []byte) {
	dst = append(dst, '{')
	for i := range pairs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, valid = appendJSONKey(dst, valid)
		dst = append(dst, ':')
		dst, valid = appendJSON(dst, valid)
	}
	return append(dst, '}'), valid
}

// appendJSONKey appends the key valid begins with as a string. A key that has
// parts is not rendered as JSON in quotes: what would have to be escaped doubles
// with each level.
func appendJSONKey(dst, valid []byte) (out, rest []byte) {
	c := valid[0]
	switch {
	case isContainer(shapes[c]) || isExt(c):
		n, _ := walk(valid, MaxDepth)
		return appendBase64(dst, valid[:n]), valid[n:]
	case isStr(c) || isBin(c):
		return appendJSON(dst, valid)
	}
	dst, rest = appendJSON(append(dst, '"'), valid)
	return append(dst, '"'), rest
}

// appendJSONSimple appends a nil, boolean, integer or float.
func appendJSONSimple(dst, value []byte) []byte {
	switch c := value[0]; c {
	case 0xc0:
		return append(dst, "null"...)
	case 0xc2:
		return append(dst, "false"...)
	case 0xc3:
		return append(dst, "true"...)
	case 0xca:
		return appendFloat(dst, float64(math.Float32frombits(binary.BigEndian.Uint32(value[1:]))), 32)
	case 0xcb:
		return appendFloat(dst, math.Float64frombits(binary.BigEndian.Uint64(value[1:])), 64)
	}
	n, negative := integer(value)
	if negative {
		return strconv.AppendInt(dst, int64(n), 10)
	}
	return strconv.AppendUint(dst, n, 10)
}

// integer is the value of an integer; a negative one is n as an int64.
func integer(value []byte) (n uint64, negative bool) {
	switch c := value[0]; c {
	case 0xcc:
		return uint64(value[1]), false
	case 0xcd:
		return uint64(binary.BigEndian.Uint16(value[1:])), false
	case 0xce:
		return uint64(binary.BigEndian.Uint32(value[1:])), false
	case 0xcf:
		return binary.BigEndian.Uint64(value[1:]), false
	case 0xd0:
		n = uint64(int8(value[1]))
	case 0xd1:
		n = uint64(int16(binary.BigEndian.Uint16(value[1:])))
	case 0xd2:
		n = uint64(int32(binary.BigEndian.Uint32(value[1:])))
	case 0xd3:
		n = binary.BigEndian.Uint64(value[1:])
	default: // fixint
		n = uint64(int8(c))
	}
	return n, int64(n) < 0
}

// appendFloat appends the shortest text that reads back as f and cannot be taken
// for an integer.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, bits)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, bits)
	if slices.Contains(dst[start:], '.') {
		return dst
	}
	return append(dst, ".0"...)
}

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

func appendJSONString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for len(s) > 0 {
		n := plainBytes(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			break
		}
		switch c := s[0]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default: // not ASCII, or DEL
			r, size := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[size:]
			continue
		}
		s = s[1:]
	}
	return append(dst, '"')
}
