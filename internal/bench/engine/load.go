package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

const (
	slotSeconds = int64(3600)
	firstEpoch  = int64(1_763_712_000) // the start of a slot
)

var (
	typeName   = []byte("default")
	bucketName = []byte("events")
)

// pool is random bytes that values are windows of.
var pool = sync.OnceValue(func() []byte {
	b := make([]byte, 0, 64<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for len(b) < cap(b) {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b
})

// valueOf returns the value of operation i; values are not written to.
func valueOf(i int64, size int) []byte {
	p := pool()
	return p[uint64(i)*4093%uint64(len(p)-size):][:size]
}

// appendKey appends the key of operation i in the second of that epoch.
func appendKey(dst []byte, epoch, i int64) []byte {
	return fmt.Appendf(dst, "%d:1:WEB:app:%d", epoch, i)
}

// encode makes a record as a client does, checksums included, and returns it with its
// placement hash. The caller releases it.
func encode(epoch int64, key, value []byte) (uint64, object.Record, error) {
	rec, err := object.Encode(object.Header{
		Kind: object.Value, TimestampMicros: epoch * 1e6, Type: typeName, Bucket: bucketName, Key: key, Writer: []byte("bench"),
	}, value)
	return ring.HashBytes(typeName, bucketName, key), rec, err
}

// A putter takes a record.
type putter interface {
	put(hash uint64, rec *object.Record) error
}

// puts measures the encoding and putting of ops records by some writers.
func puts(p putter, writers int, ops int64, size int) (Sample, error) {
	keys := make([][]byte, writers)
	return measure(writers, ops, int64(size), func(g int, i int64) error {
		keys[g] = appendKey(keys[g][:0], firstEpoch, i)
		hash, rec, err := encode(firstEpoch, keys[g], valueOf(i, size))
		if err != nil {
			return err
		}
		err = p.put(hash, &rec)
		rec.Release()
		return err
	})
}

// warmUp puts a few small records, so that every file is there.
func warmUp(p putter) error {
	for i := range int64(1024) {
		hash, rec, err := encode(firstEpoch, appendKey(nil, firstEpoch, -1-i), nil)
		if err != nil {
			return err
		}
		err = p.put(hash, &rec)
		rec.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func sizeText(n int) string {
	if n >= 1<<10 {
		return fmt.Sprintf("%d KB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// countText writes a number with a space between each three digits.
func countText(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
