package event

import (
	"strconv"
	"strings"
)

// An IndexKey names one row of the index: the blobs of one second of one dc, or
// the late ones that arrived in that second. Its text is
//
//	epoch:dc         or    epoch:dc:late
//
// and "epoch-dc", as existing pushers write it, is another text of the same key:
// ParseIndexKey takes both, String writes the first. Who places or compares keys
// by their text does so with String's.
type IndexKey struct {
	Epoch int64 // seconds since the Unix epoch, UTC; the second of arrival if Late
	DC    string
	Late  bool
}

const lateSuffix = ":late"

// ParseIndexKey parses the text of an index key in either form. DC aliases key.
// The error is a *KeyError.
func ParseIndexKey(key string) (IndexKey, error) {
	n := digitsAt(key)
	if n == len(key) || key[n] != ':' && key[n] != '-' {
		return IndexKey{}, keyError(key, "want epoch:dc or epoch:dc:late")
	}
	epoch, reason := parseEpoch(key[:n])
	if reason != "" {
		return IndexKey{}, keyError(key, reason)
	}
	dc, late := strings.CutSuffix(key[n+1:], lateSuffix)
	if !ValidName(dc) {
		return IndexKey{}, keyError(key, "dc must be "+nameGrammar)
	}
	return IndexKey{Epoch: epoch, DC: dc, Late: late}, nil
}

// Validate reports what is wrong with an index key that was not parsed, as a
// *KeyError.
func (k IndexKey) Validate() error {
	switch {
	case k.Epoch < 1 || k.Epoch > MaxEpoch:
		return keyError(k.String(), reasonEpoch)
	case !ValidName(k.DC):
		return keyError(k.String(), "dc must be "+nameGrammar)
	}
	return nil
}

// String is the canonical text of the key. It does not check it.
func (k IndexKey) String() string {
	return string(k.AppendTo(make([]byte, 0, 16+1+MaxNameBytes+len(lateSuffix))))
}

// AppendTo appends the canonical text of the key to dst. It does not check it.
func (k IndexKey) AppendTo(dst []byte) []byte {
	dst = strconv.AppendInt(dst, k.Epoch, 10)
	dst = append(append(dst, ':'), k.DC...)
	if k.Late {
		dst = append(dst, lateSuffix...)
	}
	return dst
}
