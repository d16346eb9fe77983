package event

// TimedEpoch is the epoch, in seconds since the Unix epoch, of a key of any
// timed bucket: such a key begins with "<epoch>:", or, as some writers of the
// index have it, "<epoch>-". What follows is not looked at. It allocates nothing
// unless it fails; the error is a *KeyError.
func TimedEpoch[S ~string | ~[]byte](key S) (int64, error) {
	n := digitsAt(key)
	if n == len(key) || key[n] != ':' && key[n] != '-' {
		return 0, keyError(quotable(key), "a key of a timed bucket begins with <epoch>:")
	}
	epoch, reason := parseEpoch(key[:n])
	if reason != "" {
		return 0, keyError(quotable(key), reason)
	}
	return epoch, nil
}

const reasonEpoch = "epoch must be a decimal number of seconds from 1 to 2^53, without sign or leading zero"

// parseEpoch parses an epoch that is all of s.
func parseEpoch[S ~string | ~[]byte](s S) (epoch int64, reason string) {
	const maxDigits = 16 // of 2^53
	if len(s) == 0 || len(s) > maxDigits || s[0] == '0' || digitsAt(s) != len(s) {
		return 0, reasonEpoch
	}
	n := parseDigits(s)
	if n > MaxEpoch {
		return 0, reasonEpoch
	}
	return int64(n), ""
}

// digitsAt counts the decimal digits s begins with, up to 20.
func digitsAt[S ~string | ~[]byte](s S) int {
	n := 0
	for n < len(s) && n < 20 && s[n]-'0' <= 9 {
		n++
	}
	return n
}

// parseDigits is the number of at most 19 decimal digits.
func parseDigits[S ~string | ~[]byte](s S) (n uint64) {
	for i := range len(s) {
		n = n*10 + uint64(s[i]-'0')
	}
	return n
}

// quotable is as much of key as an error may quote.
func quotable[S ~string | ~[]byte](key S) string {
	return string(key[:min(len(key), maxQuotedKey+1)])
}
