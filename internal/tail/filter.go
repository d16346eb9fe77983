package tail

import (
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

// maxPatternBytes bounds one pattern of a subscription.
const maxPatternBytes = 4096

// A filter is what a subscription wants.
type filter struct {
	dc, kind, subtype pattern
	shard, shards     uint64 // shards 0: all
}

func (f *filter) wantsDC(dc string) bool { return f.dc.matches(dc) }

// wants reports whether the blob is asked for; its dc was already.
func (f *filter) wants(b *blob) bool {
	return (f.shards == 0 || b.keyHash%f.shards == f.shard) && f.kind.matches(b.key.Type) && f.subtype.matches(b.key.Subtype)
}

// Shard returns which of n shards a blob belongs to, 0..n-1: the xxhash64 of its
// key's text, modulo n.
func Shard(key event.Key, n int) int {
	var text [event.MaxKeyBytes]byte
	return int(xxhash.Sum64(key.AppendTo(text[:0])) % uint64(n))
}

// A pattern is a list of alternatives; without any, it matches everything.
type pattern []string

// parsePattern reads alternatives separated by commas. In each, '*' stands for any
// run of characters. An empty pattern is "*".
func parsePattern(field, text string) (pattern, error) {
	if text == "" || text == "*" {
		return nil, nil
	}
	if len(text) > maxPatternBytes {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone,
			"the %s pattern has %d bytes; at most %d are taken", field, len(text), maxPatternBytes)
	}
	alternatives := strings.Split(text, ",")
	for _, a := range alternatives {
		if a == "" || len(a) > 2*event.MaxNameBytes || !validGlob(a) {
			return nil, object.Errorf(object.CodeBadRequest, object.NotDone,
				"the %s pattern %.64q is not one: it takes letters, digits, '_', '.', '-', with '*' for any run of them, and ',' between alternatives", field, a)
		}
	}
	return alternatives, nil
}

func validGlob(glob string) bool {
	for literal := range strings.SplitSeq(glob, "*") {
		if literal != "" && !event.ValidName(literal) {
			return false
		}
	}
	return true
}

func (p pattern) matches(s string) bool {
	if len(p) == 0 {
		return true
	}
	for _, glob := range p {
		if matchGlob(glob, s) {
			return true
		}
	}
	return false
}

// matchGlob matches with one point of return: the last '*' seen. That is enough,
// since what an earlier '*' took can only be shorter.
func matchGlob(glob, s string) bool {
	g, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, i
			g++
		case g < len(glob) && glob[g] == s[i]:
			g++
			i++
		case star >= 0:
			mark++
			g, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
