package object

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	minClassBits = 9  // 512 bytes, the smallest pooled buffer
	maxClassBits = 20 // 1 MiB, the largest pooled buffer; chunks stay under 500 KB
	numClasses   = maxClassBits - minClassBits + 1
	unpooled     = -1
)

// A Buffer is a run of bytes with a count of its users. One Buffer carries a
// value from the socket to the file and to the peers without a copy: whoever
// hands it on calls Retain first, and everybody calls Release once when done.
// The last Release gives the memory back for reuse.
//
// The bytes are written by the one who made the Buffer, before anybody else
// sees it, and only read afterwards. Retain and Release may be called by any
// goroutine; using a Buffer after one's own Release is a bug, which a build
// with the race detector turns into a panic.
type Buffer struct {
	b     []byte
	refs  atomic.Int32
	class int8
}

var (
	poison atomic.Bool // released buffers are overwritten
	fresh  atomic.Bool // released buffers are not used again

	classes     [numClasses]sync.Pool
	liveBytes   atomic.Int64
	liveBuffers atomic.Int64
)

// NewBuffer returns a Buffer of n bytes with one user. The bytes are not
// cleared: the caller overwrites all of them. Sizes up to 1 MiB come from
// pools of powers of two; larger ones are allocated exactly.
func NewBuffer(n int) *Buffer {
	if n < 0 {
		panic("object: BUG: a buffer of negative size")
	}
	class := classOf(n)
	var b *Buffer
	if class == unpooled {
		b = &Buffer{b: make([]byte, n), class: unpooled}
	} else if v := classes[class].Get(); v != nil {
		b = v.(*Buffer)
		b.b = b.b[:n]
	} else {
		b = &Buffer{b: make([]byte, n, 1<<(class+minClassBits)), class: int8(class)}
	}
	b.refs.Store(1)
	liveBytes.Add(int64(cap(b.b)))
	liveBuffers.Add(1)
	return b
}

// classOf returns the index of the smallest class that holds n bytes.
func classOf(n int) int {
	if n > 1<<maxClassBits {
		return unpooled
	}
	return max(bits.Len(uint(max(n, 1)-1)), minClassBits) - minClassBits
}

// Bytes returns the Buffer's bytes. They are valid until the caller's Release.
func (b *Buffer) Bytes() []byte {
	if poison.Load() && b.refs.Load() <= 0 {
		panic("object: BUG: a released buffer is read")
	}
	return b.b
}

// Cap returns how many bytes the Buffer could hold: what it costs.
func (b *Buffer) Cap() int { return cap(b.b) }

// Trim shortens the Buffer to its first n bytes, for a maker that asked for more
// than it filled. Only the single user of a fresh Buffer may call it.
func (b *Buffer) Trim(n int) { b.b = b.b[:n] }

// Retain adds a user and returns b.
func (b *Buffer) Retain() *Buffer {
	if b.refs.Add(1) <= 1 {
		panic("object: BUG: a released buffer is retained")
	}
	return b
}

// Release takes one user away; the last one gives the memory back.
func (b *Buffer) Release() {
	left := b.refs.Add(-1)
	if left > 0 {
		return
	}
	if left < 0 {
		panic("object: BUG: a buffer is released twice")
	}
	liveBytes.Add(-int64(cap(b.b)))
	liveBuffers.Add(-1)
	if poison.Load() {
		full := b.b[:cap(b.b)]
		for i := range full {
			full[i] = 0xdb
		}
	}
	if b.class != unpooled && !fresh.Load() {
		classes[b.class].Put(b)
	}
}

func init() { poison.Store(poisonDefault) }

// DebugBuffers makes every use of a Buffer after its release show, from now on:
// released bytes are overwritten and stay so, as no memory is used again. It is
// for simulations.
func DebugBuffers() {
	poison.Store(true)
	fresh.Store(true)
}

// Live tells how many Buffers are in use now, and the bytes they occupy. It is
// what the node reports as memory in flight; a test that ends with more than it
// began with has leaked.
func Live() (buffers, sizeBytes int64) { return liveBuffers.Load(), liveBytes.Load() }
