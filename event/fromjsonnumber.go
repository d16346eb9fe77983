package event

import (
	"encoding/binary"
	"math"
	"strconv"
)

// number transcodes a number.
func (p *transcoder) number() {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return
	}
	integer := true
	if p.peek() == '.' {
		p.at++
		integer = false
		if !p.digits() {
			return
		}
	}
	if p.peek()|0x20 == 'e' {
		p.at++
		integer = false
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return
		}
	}
	p.numberValue(p.text[start:p.at], integer)
}

// digits skips one or more digits.
func (p *transcoder) digits() bool {
	start := p.at
	for p.at < len(p.text) && p.text[p.at]-'0' <= 9 {
		p.at++
	}
	if p.at == start {
		p.fail("want a digit")
		return false
	}
	return true
}

// numberValue appends the number whose text is s.
func (p *transcoder) numberValue(s []byte, integer bool) {
	if integer && s[0] == '-' {
		if n, ok := parseUint(s[1:]); ok && n <= 1<<63 {
			p.dst = appendInt(p.dst, -int64(n)) // -1<<63 is its own negative
			return
		}
	} else if integer {
		if n, ok := parseUint(s); ok {
			p.dst = appendUint(p.dst, n)
			return
		}
	}
	f, err := strconv.ParseFloat(string(s), 64)
	if err != nil {
		p.at -= len(s)
		p.fail("a number beyond the range of float64")
		return
	}
	p.dst = binary.BigEndian.AppendUint64(append(p.dst, 0xcb), math.Float64bits(f))
}

// parseUint parses decimal digits; ok is false if uint64 does not hold them.
func parseUint(s []byte) (n uint64, ok bool) {
	for _, c := range s {
		d := uint64(c - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// appendUint appends the shortest msgpack form of n.
func appendUint(dst []byte, n uint64) []byte {
	switch {
	case n < 1<<7:
		return append(dst, byte(n))
	case n < 1<<8:
		return append(dst, 0xcc, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), n)
}

// appendInt appends the shortest msgpack form of n.
func appendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0:
		return appendUint(dst, uint64(n))
	case n >= -32:
		return append(dst, byte(n))
	case n >= math.MinInt8:
		return append(dst, 0xd0, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(n))
}
