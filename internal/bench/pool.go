package bench

import "math/rand/v2"

// A Pool makes values that do not compress, that cost nothing to make or to
// compare with, and that differ: windows of random bytes.
type Pool struct{ b []byte }

// stride is how far windows begin from each other: odd, so that they take all
// offsets before one comes again.
const stride = 1_000_003

// NewPool returns a Pool of so many random bytes, all of them in memory.
func NewPool(sizeBytes int, seed uint64) *Pool {
	b := make([]byte, sizeBytes)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(b) //nolint:errcheck // it never fails
	return &Pool{b}
}

// Value returns the n-th value of a size. The caller must not change it.
func (p *Pool) Value(n uint64, sizeBytes int) []byte {
	from := n * stride % uint64(len(p.b)-sizeBytes)
	return p.b[from : from+uint64(sizeBytes) : from+uint64(sizeBytes)]
}
