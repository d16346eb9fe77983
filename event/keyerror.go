package event

import (
	"errors"
	"strconv"
	"strings"
)

// ErrKey is what every malformed key is: errors.Is(err, ErrKey). Nothing was
// done with the key, and trying again will not help.
var ErrKey = errors.New("malformed key")

// A KeyError says which key is malformed and why.
type KeyError struct {
	Key    string // at most maxQuotedKey bytes of the key, a copy
	Reason string // a phrase that says what was expected
}

// maxQuotedKey bounds what an error quotes of a key, bytes.
const maxQuotedKey = 128

// Error gives the key, quoted and cut to 128 bytes, and the reason.
func (e *KeyError) Error() string {
	return "key " + strconv.Quote(e.Key) + ": " + e.Reason
}

// Is makes every KeyError an ErrKey.
func (e *KeyError) Is(target error) bool { return target == ErrKey }

func keyError(key, reason string) error {
	if len(key) > maxQuotedKey {
		key = key[:maxQuotedKey] + "…"
	}
	return &KeyError{Key: strings.Clone(key), Reason: reason}
}
