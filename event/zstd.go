package event

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// How this package compresses; docs/codec.md has the measurements behind it.
// Neither is part of the format: any level and window makes valid blobs.
const (
	encoderLevel  = zstd.SpeedFastest
	encoderWindow = 1 << 20 // bytes
)

// maxCoders bounds how many blobs are encoded, and how many decoded, at once;
// others wait. An encoder holds about 2 MiB.
const maxCoders = 16

// encoders are shared by all goroutines: an encoder made for each blob would cost
// several times the CPU and megabytes of garbage. One zstd.Encoder could be shared
// too, but it hands out the encoders inside it in turn, and each that has been out
// of use for a while meets a cold cache: 16 of them cost 17 to 38 % more CPU. Here
// the one used last is the first to be used again, and there are never more than
// were needed at once.
var encoders = struct {
	slots chan struct{} // one taken for each encoder in use
	mu    sync.Mutex
	free  []*zstd.Encoder // guarded by mu; the one used last is last
}{slots: make(chan struct{}, maxCoders)}

// compress appends src to dst as one frame that states its content size.
func compress(dst, src []byte) []byte {
	encoders.slots <- struct{}{}
	defer func() { <-encoders.slots }()
	e := takeEncoder()
	dst = e.EncodeAll(src, dst)
	encoders.mu.Lock()
	defer encoders.mu.Unlock()
	encoders.free = append(encoders.free, e)
	return dst
}

// PrepareEncoders makes all encoders there can be, used once, so that no later
// blob waits for one to be made. It takes some milliseconds; nobody has to call it.
func PrepareEncoders() {
	for range maxCoders {
		encoders.slots <- struct{}{}
	}
	encoders.mu.Lock()
	for len(encoders.free) < maxCoders {
		e := newEncoder()
		e.EncodeAll([]byte{0}, nil)
		encoders.free = append(encoders.free, e)
	}
	encoders.mu.Unlock()
	for range maxCoders {
		<-encoders.slots
	}
}

func takeEncoder() *zstd.Encoder {
	encoders.mu.Lock()
	defer encoders.mu.Unlock()
	if n := len(encoders.free); n > 0 {
		e := encoders.free[n-1]
		encoders.free = encoders.free[:n-1]
		return e
	}
	return newEncoder()
}

func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(encoderLevel),
		zstd.WithWindowSize(encoderWindow),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithSingleSegment(true), // or a frame of under 256 bytes would not state its content size
		zstd.WithEncoderCRC(false))   // the blob has its own
	if err != nil {
		panic("event: BUG: zstd encoder: " + err.Error())
	}
	return e
}

// decoder is shared by all goroutines; what it has inside is small.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(min(runtime.GOMAXPROCS(0), maxCoders)),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRawBytes),
		zstd.WithDecoderMaxWindow(MaxRawBytes))
	if err != nil {
		panic("event: BUG: zstd decoder: " + err.Error())
	}
	return d
})

// decompress appends the content of frame, which must be rawBytes long, to dst.
// The error is ErrCorrupt.
func decompress(dst, frame []byte, rawBytes int) ([]byte, error) {
	if err := checkFrame(frame, rawBytes); err != nil {
		return nil, err
	}
	doc, err := decoder().DecodeAll(frame, dst)
	if err != nil {
		return nil, fmt.Errorf("zstd: %v: %w", err, ErrCorrupt)
	}
	if len(doc)-len(dst) != rawBytes {
		return nil, fmt.Errorf("document of %d bytes, the header says %d: %w", len(doc)-len(dst), rawBytes, ErrCorrupt)
	}
	return doc, nil
}

// maxBlock is the most a block of a zstd frame can expand to, bytes (RFC 8878,
// 3.1.1.2.4).
const maxBlock = 128 << 10

// checkFrame walks the block headers of what should be exactly one zstd frame of
// rawBytes content. The decoder allocates what the frame's header claims; after
// this walk the claim is no more than the blocks that are really there can
// expand to.
func checkFrame(frame []byte, rawBytes int) error {
	var h zstd.Header
	if err := h.Decode(frame); err != nil || h.Skippable || h.DictionaryID != 0 || !h.HasFCS {
		return fmt.Errorf("payload is not a zstd frame with a content size and without a dictionary: %w", ErrCorrupt)
	}
	if h.FrameContentSize != uint64(rawBytes) {
		return fmt.Errorf("zstd frame of %d bytes content, the header says %d: %w", h.FrameContentSize, rawBytes, ErrCorrupt)
	}
	expands, rest := 0, frame[h.HeaderSize:]
	for last := false; !last; {
		if len(rest) < 3 {
			return fmt.Errorf("zstd frame ends inside a block: %w", ErrCorrupt)
		}
		block := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		last = block&1 != 0
		size, content := block>>3, block>>3
		switch block >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 2: // compressed
			content = maxBlock
		case 3:
			return fmt.Errorf("zstd frame has a block of no known type: %w", ErrCorrupt)
		}
		if content > maxBlock || size > len(rest)-3 {
			return fmt.Errorf("zstd frame ends inside a block: %w", ErrCorrupt)
		}
		expands += content
		rest = rest[3+size:]
	}
	if h.HasCheckSum && len(rest) == 4 {
		rest = nil
	}
	if len(rest) != 0 || rawBytes > expands {
		return fmt.Errorf("zstd frame does not hold the %d bytes it claims: %w", rawBytes, ErrCorrupt)
	}
	return nil
}
