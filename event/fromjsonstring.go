package event

import (
	"unicode/utf16"
	"unicode/utf8"
)

// string transcodes a string. dst[start] is kept for its header.
func (p *transcoder) string() {
	start := len(p.dst)
	p.dst = append(p.dst, 0)
	p.at++
	for {
		plain := plainBytes(p.text[p.at:])
		p.dst = append(p.dst, p.text[p.at:p.at+plain]...)
		p.at += plain
		switch c := p.peek(); {
		case c == '"':
			p.at++
			p.stringHeader(start)
			return
		case p.at == len(p.text):
			p.fail("it ends inside a string")
			return
		case c == '\\':
			if !p.escape() {
				return
			}
		case c < ' ':
			p.fail("a control character in a string must be escaped")
			return
		default: // not ASCII
			r, n := utf8.DecodeRune(p.text[p.at:])
			p.dst = utf8.AppendRune(p.dst, r)
			p.at += n
		}
	}
}

// stringHeader fills in the header of the string that follows the byte
// dst[start].
func (p *transcoder) stringHeader(start int) {
	if n := len(p.dst) - start - 1; n > 31 && n < 1<<8 {
		p.shift(start+1, 1)
		p.dst[start], p.dst[start+1] = 0xd9, byte(n)
	} else {
		p.header(start, n, 31, 0xa0, 0xda)
	}
}

// plainBytes counts the bytes s begins with that stand for themselves in a
// string.
func plainBytes(s []byte) int {
	for i, c := range s {
		if !plainByte[c] {
			return i
		}
	}
	return len(s)
}

// plainByte holds the bytes of a string that stand for themselves.
var plainByte = func() (t [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// escape transcodes what begins with a backslash.
func (p *transcoder) escape() bool {
	if p.at+1 >= len(p.text) {
		p.at = len(p.text)
		p.fail("it ends inside a string")
		return false
	}
	c := p.text[p.at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return p.unicodeEscape()
	default:
		p.fail("no escape of JSON")
		return false
	}
	p.dst = append(p.dst, c)
	p.at += 2
	return true
}

// unicodeEscape transcodes \uXXXX, or two of them that are one character.
func (p *transcoder) unicodeEscape() bool {
	r, ok := hex4(p.text[p.at:])
	if !ok {
		p.fail("want four hexadecimal digits after \\u")
		return false
	}
	p.at += 6
	if utf16.IsSurrogate(r) {
		low, _ := hex4(p.text[p.at:])
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError { // else half a pair
			p.at += 6
		}
	}
	p.dst = utf8.AppendRune(p.dst, r)
	return true
}

// hex4 reads \uXXXX.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range s[2:6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
