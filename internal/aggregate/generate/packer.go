package generate

import (
	"encoding/binary"
	"math"
)

// A packer appends msgpack to b, each value with the shortest header there is.
// The caller sees to it that maps and arrays get as many values as announced.
type packer struct{ b []byte }

func (p *packer) mapOf(members int) { p.container(members, 0x80, 0xde) }

func (p *packer) arrayOf(elements int) { p.container(elements, 0x90, 0xdc) }

// container appends the header of a map or array: fix is the code of an empty
// one, long that of one with a 16-bit count.
func (p *packer) container(n int, fix, long byte) {
	switch {
	case n < 16:
		p.b = append(p.b, fix|byte(n))
	case n < 1<<16:
		p.b = binary.BigEndian.AppendUint16(append(p.b, long), uint16(n))
	default:
		p.b = binary.BigEndian.AppendUint32(append(p.b, long+1), uint32(n))
	}
}

func (p *packer) string(s string) {
	p.stringHeader(len(s))
	p.b = append(p.b, s...)
}

func (p *packer) stringHeader(n int) {
	switch {
	case n < 32:
		p.b = append(p.b, 0xa0|byte(n))
	case n < 1<<8:
		p.b = append(p.b, 0xd9, byte(n))
	case n < 1<<16:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xda), uint16(n))
	default:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xdb), uint32(n))
	}
}

// hex appends n as a string of 16 hexadecimal digits.
func (p *packer) hex(n uint64) {
	const digits = "0123456789abcdef"
	p.stringHeader(16)
	for shift := 60; shift >= 0; shift -= 4 {
		p.b = append(p.b, digits[n>>shift&15])
	}
}

func (p *packer) int(n int64) {
	switch {
	case n >= 0 && n < 1<<7, n < 0 && n >= -1<<5:
		p.b = append(p.b, byte(n))
	case n >= 0 && n < 1<<8:
		p.b = append(p.b, 0xcc, byte(n))
	case n >= 0 && n < 1<<16:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xcd), uint16(n))
	case n >= 0 && n < 1<<32:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xce), uint32(n))
	case n >= 0:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xcf), uint64(n))
	case n >= math.MinInt8:
		p.b = append(p.b, 0xd0, byte(n))
	case n >= math.MinInt16:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xd2), uint32(n))
	default:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xd3), uint64(n))
	}
}

func (p *packer) float(f float64) {
	p.b = binary.BigEndian.AppendUint64(append(p.b, 0xcb), math.Float64bits(f))
}

func (p *packer) bool(v bool) {
	if v {
		p.b = append(p.b, 0xc3)
	} else {
		p.b = append(p.b, 0xc2)
	}
}

func (p *packer) null() { p.b = append(p.b, 0xc0) }

// Members of a map.

func (p *packer) member(name, value string)          { p.string(name); p.string(value) }
func (p *packer) intMember(name string, n int64)     { p.string(name); p.int(n) }
func (p *packer) boolMember(name string, v bool)     { p.string(name); p.bool(v) }
func (p *packer) hexMember(name string, n uint64)    { p.string(name); p.hex(n) }
func (p *packer) floatMember(name string, f float64) { p.string(name); p.float(f) }
