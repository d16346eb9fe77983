package event

import (
	"iter"
	"math"
	"slices"
)

// MaxChunkBytes bounds a chunk: a blob as stored stays below it, unless one
// event alone does not.
const MaxChunkBytes = 500_000

// guessedRatio is document bytes per stored byte, before anything is known.
const guessedRatio = 4

// Chunks makes blobs of all the events, in order, each below MaxChunkBytes as
// stored or of a single event: one blob where that suffices, about equal ones
// where it does not. Without events there is none. buf is used for every blob
// and grows as needed: a blob is valid until the next is asked for. The events
// stay until Reset, and b must not be used before the walk ends.
func (b *Builder) Chunks(buf []byte) iter.Seq2[[]byte, BlobInfo] {
	return b.chunksBelow(MaxChunkBytes, buf)
}

// chunksBelow is Chunks with another bound, bytes.
//
// What a blob will need is guessed from the ratio of the one before. A blob that
// comes out too large is made again of fewer events, at least a tenth fewer
// bytes; as builders keep the ratio from second to second, that is rare.
func (b *Builder) chunksBelow(bound int, buf []byte) iter.Seq2[[]byte, BlobInfo] {
	return func(yield func([]byte, BlobInfo) bool) {
		ratio := b.ratio
		if ratio == 0 {
			ratio = guessedRatio
		}
		var raw, stored int
		for from := 0; from < len(b.ends); {
			to := b.chunkEnd(from, len(b.ends), ratio, bound)
			var info BlobInfo
			for {
				buf, info = b.seal(buf[:0], from, to)
				ratio = float64(info.RawBytes) / float64(info.StoredBytes)
				if info.StoredBytes < bound || to-from == 1 {
					break
				}
				to = b.chunkEnd(from, to-1, ratio, bound)
			}
			raw += info.RawBytes
			stored += info.StoredBytes
			b.ratio = float64(raw) / float64(stored)
			if !yield(buf, info) {
				return
			}
			from = to
		}
	}
}

// chunkEnd is the end of the next chunk of the events from up to, not including,
// last: an equal part of them, if as many chunks are made as are needed to fill
// nine tenths of each.
func (b *Builder) chunkEnd(from, last int, ratio float64, bound int) int {
	first := b.start(from)
	bytes := float64(b.start(last) - first)
	parts := math.Ceil(bytes / (0.9 * float64(bound) * ratio))
	if parts <= 1 {
		return last
	}
	end, exact := slices.BinarySearch(b.ends, uint32(first)+uint32(bytes/parts))
	if exact {
		end++
	}
	return min(max(end, from+1), last)
}
