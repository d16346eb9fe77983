package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrJSON is what every malformed JSON text is. Nothing was done with it, and
// trying again will not help.
var ErrJSON = errors.New("malformed JSON")

// A JSONError says where a text is malformed and why.
type JSONError struct {
	Offset int // bytes from the start of the text
	Reason string
}

// Error gives the offset and the reason.
func (e *JSONError) Error() string {
	return fmt.Sprintf("malformed JSON at byte %d: %s", e.Offset, e.Reason)
}

// Is makes every JSONError an ErrJSON.
func (e *JSONError) Is(target error) bool { return target == ErrJSON }

// AppendMsgpack appends the msgpack form of text, one JSON value with white
// space around it or without, to dst. The same text always gives the same bytes:
//
//   - a number without fraction and exponent that fits int64 or uint64 becomes
//     the shortest integer, any other a float64; "-0" becomes 0;
//   - members of an object keep their order, and names that repeat are kept;
//   - what is not UTF-8 in a string, and half a surrogate pair, becomes U+FFFD;
//   - headers are the shortest there are.
//
// Values may be nested as deep as Validate allows. A number beyond float64 is an
// error. Nothing is allocated but dst, which grows by at most three times the
// length of text. The error is a *JSONError; dst is then as it was.
func AppendMsgpack(dst, text []byte) ([]byte, error) {
	p := transcoder{text: text, dst: dst}
	p.value(0)
	if p.reason == "" {
		if p.space(); p.at < len(p.text) {
			p.fail("something follows the value")
		}
	}
	if p.reason != "" {
		return dst, &JSONError{p.at, p.reason}
	}
	return p.dst, nil
}

// A transcoder turns JSON into msgpack in one pass. After a failure reason is
// set, at is where, and nothing more may be asked of it.
type transcoder struct {
	text   []byte
	at     int // offset in text of the next byte
	dst    []byte
	reason string
}

func (p *transcoder) fail(reason string) { p.reason = reason }

// space skips white space.
func (p *transcoder) space() {
	at := p.at
	for at < len(p.text) && isSpace(p.text[at]) {
		at++
	}
	p.at = at
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// peek is the next byte, 0 at the end.
func (p *transcoder) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// value transcodes the next value, depth containers deep. It recurses MaxDepth
// times at most.
func (p *transcoder) value(depth int) {
	p.space()
	switch c := p.peek(); {
	case c == '"':
		p.string()
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			p.fail(reasonDepth)
			return
		}
		p.container(c, depth+1)
	case c == '-' || c-'0' <= 9:
		p.number()
	case c == 't':
		p.literal("true", 0xc3)
	case c == 'f':
		p.literal("false", 0xc2)
	case c == 'n':
		p.literal("null", 0xc0)
	case p.at == len(p.text):
		p.fail("it ends where a value should be")
	default:
		p.fail("no value begins like this")
	}
}

func (p *transcoder) literal(word string, code byte) {
	if len(p.text)-p.at < len(word) || string(p.text[p.at:p.at+len(word)]) != word {
		p.fail("no value begins like this")
		return
	}
	p.at += len(word)
	p.dst = append(p.dst, code)
}

// container transcodes an object or an array. Its header is written when the
// count is known; where it needs more than a byte, the elements move up.
func (p *transcoder) container(open byte, depth int) {
	header, count, end := len(p.dst), 0, open+2 // '{'+2 is '}', '['+2 is ']'
	p.dst = append(p.dst, 0)
	p.at++
	p.space()
	for p.peek() != end {
		if count > 0 {
			if p.peek() != ',' {
				p.fail("want , or the end of the object or array")
				return
			}
			p.at++
		}
		if open == '{' && !p.name() {
			return
		}
		if p.value(depth); p.reason != "" {
			return
		}
		count++
		p.space()
	}
	p.at++
	small, code16 := byte(0x90), byte(0xdc)
	if open == '{' {
		small, code16 = 0x80, 0xde
	}
	p.header(header, count, 15, small, code16)
}

// name transcodes the name of a member and skips the colon.
func (p *transcoder) name() bool {
	p.space()
	if p.peek() != '"' {
		p.fail("want a name in quotes")
		return false
	}
	if p.string(); p.reason != "" {
		return false
	}
	p.space()
	if p.peek() != ':' {
		p.fail("want : after a name")
		return false
	}
	p.at++
	return true
}

// header fills in the header of what follows the byte dst[at]. Counts up to
// most are in the first byte; code16 and the code after it have 2 and 4 bytes.
func (p *transcoder) header(at, count, most int, small, code16 byte) {
	switch {
	case count <= most:
		p.dst[at] = small | byte(count)
	case count < 1<<16:
		p.shift(at+1, 2)
		p.dst[at] = code16
		binary.BigEndian.PutUint16(p.dst[at+1:], uint16(count))
	default:
		p.shift(at+1, 4)
		p.dst[at] = code16 + 1
		binary.BigEndian.PutUint32(p.dst[at+1:], uint32(count))
	}
}

// shift makes room for n bytes, at most 4, at dst[at].
func (p *transcoder) shift(at, n int) {
	p.dst = append(p.dst, "    "[:n]...)
	copy(p.dst[at+n:], p.dst[at:])
}
