package event

import (
	"strconv"
	"strings"
)

// Bounds of the parts of a key.
const (
	MaxEpoch     = 1 << 53 // seconds since the Unix epoch; what a float64 still holds exactly
	MaxNameBytes = 64      // of a dc, type or subtype
	MaxKeyBytes  = 16 + 3*(1+MaxNameBytes) + 1 + maxChunkBytes
)

// A Key names one blob. Its text is
//
//	epoch:dc:type:subtype:chunk
//
// with epoch a second since the Unix epoch, UTC, 1..2^53, decimal without sign
// or leading zero; dc, type and subtype 1 to 64 bytes of [A-Za-z0-9_.-]; and
// chunk as ParseChunk describes it. A key has exactly one text.
type Key struct {
	Epoch   int64 // seconds since the Unix epoch, UTC
	DC      string
	Type    string
	Subtype string
	Chunk   string
}

// ParseKey parses the text of a blob's key. The parts alias key. The error is a
// *KeyError.
func ParseKey(key string) (Key, error) {
	digits, rest, ok := strings.Cut(key, ":")
	if !ok {
		return Key{}, keyError(key, reasonFields)
	}
	epoch, reason := parseEpoch(digits)
	if reason != "" {
		return Key{}, keyError(key, reason)
	}
	k, reason := parseSuffix(rest)
	if reason != "" {
		return Key{}, keyError(key, reason)
	}
	k.Epoch = epoch
	return k, nil
}

// ParseSuffix makes the key of the blob that the index row of (epoch, dc) names
// suffix: "type:subtype:chunk". The parts alias the arguments. The error is a
// *KeyError.
func ParseSuffix(epoch int64, dc, suffix string) (Key, error) {
	kind, rest, ok1 := strings.Cut(suffix, ":")
	subtype, chunk, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return Key{}, keyError(suffix, "want type:subtype:chunk")
	}
	k := Key{Epoch: epoch, DC: dc, Type: kind, Subtype: subtype, Chunk: chunk}
	if reason := k.fault(); reason != "" {
		return Key{}, keyError(suffix, reason)
	}
	return k, nil
}

const reasonFields = "want epoch:dc:type:subtype:chunk"

// parseSuffix parses "dc:type:subtype:chunk".
func parseSuffix(s string) (k Key, reason string) {
	var ok1, ok2, ok3 bool
	k.DC, s, ok1 = strings.Cut(s, ":")
	k.Type, s, ok2 = strings.Cut(s, ":")
	k.Subtype, k.Chunk, ok3 = strings.Cut(s, ":")
	if !ok1 || !ok2 || !ok3 {
		return Key{}, reasonFields
	}
	return k, k.namesFault()
}

// Validate reports what is wrong with a key that was not parsed, as a *KeyError.
func (k Key) Validate() error {
	if reason := k.fault(); reason != "" {
		return keyError(k.String(), reason)
	}
	return nil
}

// String is the text of the key. It does not check it.
func (k Key) String() string {
	return string(k.AppendTo(make([]byte, 0, MaxKeyBytes)))
}

// AppendTo appends the text of the key to dst. It does not check it.
func (k Key) AppendTo(dst []byte) []byte {
	dst = strconv.AppendInt(dst, k.Epoch, 10)
	dst = append(append(dst, ':'), k.DC...)
	return k.AppendSuffix(append(dst, ':'))
}

// Suffix is "type:subtype:chunk": how a row of the index names the blob.
func (k Key) Suffix() string {
	return string(k.AppendSuffix(make([]byte, 0, MaxKeyBytes)))
}

// AppendSuffix appends what Suffix returns to dst.
func (k Key) AppendSuffix(dst []byte) []byte {
	dst = append(append(dst, k.Type...), ':')
	dst = append(append(dst, k.Subtype...), ':')
	return append(dst, k.Chunk...)
}

// Index is the key of the index row that lists the blob when it is in time.
func (k Key) Index() IndexKey { return IndexKey{Epoch: k.Epoch, DC: k.DC} }

func (k Key) fault() (reason string) {
	if k.Epoch < 1 || k.Epoch > MaxEpoch {
		return reasonEpoch
	}
	return k.namesFault()
}

func (k Key) namesFault() (reason string) {
	switch {
	case !ValidName(k.DC):
		return "dc must be " + nameGrammar
	case !ValidName(k.Type):
		return "type must be " + nameGrammar
	case !ValidName(k.Subtype):
		return "subtype must be " + nameGrammar
	}
	_, reason = parseChunk(k.Chunk)
	return reason
}

const nameGrammar = "1 to 64 of the characters A-Z a-z 0-9 _ . -"

// ValidName reports whether name may be a dc, type or subtype: 1 to 64 bytes of
// [A-Za-z0-9_.-].
func ValidName[S ~string | ~[]byte](name S) bool {
	if len(name) == 0 || len(name) > MaxNameBytes {
		return false
	}
	for i := range len(name) {
		if !nameByte[name[i]] {
			return false
		}
	}
	return true
}

// nameByte holds the bytes a dc, type or subtype may have.
var nameByte = func() (t [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-" {
		t[c] = true
	}
	return t
}()
