package event

import (
	"fmt"
	"strconv"
)

// MaxChunkNumber is the greatest number a chunk may have: 19 nines.
const MaxChunkNumber = 9_999_999_999_999_999_999

const (
	maxChunkDigits = 19
	hexDigits      = 16                                                                 // of an incarnation or a checksum
	maxChunkBytes  = hexDigits + len("-") + maxChunkDigits + len(loserMark) + hexDigits // of a chunk
	loserMark      = "-x"
)

// ChunkParts are the parts of a chunk.
type ChunkParts struct {
	Incarnation    uint64 // of the pushing process, if HasIncarnation
	N              uint64 // 0..MaxChunkNumber
	Loser          uint64 // xxhash64 of the value that lost its key, if HasLoser
	HasIncarnation bool
	HasLoser       bool
}

// PlainChunk is the chunk "<n>", as existing pushers number theirs. It panics if
// n is over MaxChunkNumber.
func PlainChunk(n uint64) string {
	return string(ChunkParts{N: n}.AppendTo(make([]byte, 0, maxChunkBytes)))
}

// Chunk is the chunk "<incarnation>-<n>": no two processes can share it, nor two
// starts of one. It panics if n is over MaxChunkNumber.
func Chunk(incarnation, n uint64) string {
	p := ChunkParts{Incarnation: incarnation, HasIncarnation: true, N: n}
	return string(p.AppendTo(make([]byte, 0, maxChunkBytes)))
}

// ParseChunk parses a chunk: a decimal number of at most 19 digits without
// leading zeros, or 16 lower case hexadecimal digits, "-" and such a number;
// either may be followed by "-x" and 16 lower case hexadecimal digits. The error
// is a *KeyError.
func ParseChunk(chunk string) (ChunkParts, error) {
	p, reason := parseChunk(chunk)
	if reason != "" {
		return ChunkParts{}, keyError(chunk, reason)
	}
	return p, nil
}

const reasonChunk = "chunk must be <number>, or <16 hex digits>-<number>, either with -x<16 hex digits> or without; " +
	"numbers have 1 to 19 digits and no leading zero, hex digits are 0-9 a-f"

func parseChunk(s string) (p ChunkParts, reason string) {
	if cut := len(s) - hexDigits - len(loserMark); cut > 0 && s[cut:cut+len(loserMark)] == loserMark {
		p.Loser, p.HasLoser = parseHex(s[cut+len(loserMark):])
		if !p.HasLoser {
			return ChunkParts{}, reasonChunk
		}
		s = s[:cut]
	}
	if len(s) > hexDigits && s[hexDigits] == '-' {
		p.Incarnation, p.HasIncarnation = parseHex(s[:hexDigits])
		if !p.HasIncarnation {
			return ChunkParts{}, reasonChunk
		}
		s = s[hexDigits+1:]
	}
	if len(s) == 0 || len(s) > maxChunkDigits || digitsAt(s) != len(s) || s[0] == '0' && len(s) > 1 {
		return ChunkParts{}, reasonChunk
	}
	p.N = parseDigits(s)
	return p, ""
}

// String is the text of the chunk. It panics if N is over MaxChunkNumber.
func (p ChunkParts) String() string {
	return string(p.AppendTo(make([]byte, 0, maxChunkBytes)))
}

// AppendTo appends the text of the chunk to dst. It panics if N is over
// MaxChunkNumber.
func (p ChunkParts) AppendTo(dst []byte) []byte {
	if p.N > MaxChunkNumber {
		panic(fmt.Sprintf("event: BUG: chunk number %d", p.N))
	}
	if p.HasIncarnation {
		dst = append(appendHex(dst, p.Incarnation), '-')
	}
	dst = strconv.AppendUint(dst, p.N, 10)
	if p.HasLoser {
		dst = appendHex(append(dst, loserMark...), p.Loser)
	}
	return dst
}

// LoserKey is the key under which a value is kept that lost k to another value:
// k with its chunk marked by the value's xxhash64. A mark that k already has is
// replaced, so that all values of one chunk are named alike.
func (k Key) LoserKey(valueChecksum uint64) Key {
	base := k.Chunk
	if p, reason := parseChunk(k.Chunk); reason == "" && p.HasLoser {
		base = base[:len(base)-hexDigits-len(loserMark)]
	}
	k.Chunk = string(appendHex(append(append(make([]byte, 0, maxChunkBytes), base...), loserMark...), valueChecksum))
	return k
}

// parseHex parses exactly 16 lower case hexadecimal digits.
func parseHex(s string) (n uint64, ok bool) {
	if len(s) != hexDigits {
		return 0, false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c-'0' <= 9:
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func appendHex(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}
