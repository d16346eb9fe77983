package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

const (
	readBufferBytes = 8 << 10   // what is read ahead: many small frames in one call
	firstStepBytes  = 1 << 20   // what a large payload is given before any of it has arrived
	earnBytes       = 4 << 10   // what must have arrived before a buffer over readBufferBytes is taken
	minBytesPerSec  = 256 << 10 // slower than this, a peer is as good as gone
)

// A reader takes frames off a connection. One goroutine uses it.
//
// Every read has a deadline. Between frames it is the idle time, after which
// onIdle decides; inside a frame it is the frame time, so that a peer that
// sends a byte now and then holds the connection no longer than one that is
// silent.
type reader struct {
	nc           net.Conn
	idleTimeout  time.Duration
	frameTimeout time.Duration // for a header; a payload gets its bytes' time in addition
	// onIdle is called when nothing arrived between frames for idleTimeout. It
	// returns how much longer to wait, or the error to end with.
	onIdle func() (time.Duration, error)

	buf      []byte
	at, end  int       // buf[at:end] has arrived and is not yet used
	deadline time.Time // as set on nc
	wasLarge bool      // the last payload was over readBufferBytes

	mu      sync.Mutex
	waiting bool // between frames
	stopped bool // by interrupt
}

// errInterrupted is what header returns after interrupt.
var errInterrupted = errors.New("interrupted between frames")

func newReader(nc net.Conn, idle, frame time.Duration, onIdle func() (time.Duration, error)) *reader {
	return &reader{nc: nc, idleTimeout: idle, frameTimeout: frame, onIdle: onIdle, buf: make([]byte, readBufferBytes)}
}

// header reads the next frame's header. io.EOF means the peer closed between
// frames; every other error, too, ends the connection.
func (r *reader) header() (Header, error) {
	if r.end == r.at {
		if err := r.awaitFrame(); err != nil {
			return Header{}, err
		}
	}
	if r.end-r.at < HeaderBytes {
		r.setDeadline(time.Now().Add(r.frameTimeout))
		if err := r.fill(HeaderBytes); err != nil {
			return Header{}, inFrame(err)
		}
	}
	h, err := ParseHeader(r.buf[r.at:r.end])
	r.at += HeaderBytes
	return h, err
}

// awaitFrame waits, idle, for the first byte of a frame.
func (r *reader) awaitFrame() error {
	for wait := r.idleTimeout; ; {
		if !r.beginWait(wait) {
			return errInterrupted
		}
		err := r.fill(1)
		if r.endWait() && err != nil {
			return errInterrupted
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if wait, err = r.onIdle(); err != nil {
			return err
		}
	}
}

// beginWait sets the deadline of a wait between frames, unless there is to be
// none.
func (r *reader) beginWait(wait time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	r.waiting = true
	// A deadline that is a little early only makes onIdle ask sooner; setting it
	// anew for every frame would cost more than it is worth.
	if now := time.Now(); r.deadline.After(now.Add(wait)) || r.deadline.Before(now.Add(wait-wait/4)) {
		r.setDeadline(now.Add(wait))
	}
	return true
}

// endWait tells whether the wait was interrupted, or should have been.
func (r *reader) endWait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = false
	return r.stopped
}

// interrupt makes header return instead of waiting for a frame to begin. A frame
// that has begun is still read: all waits inside one set their own deadline. It
// may be called by any goroutine.
func (r *reader) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.waiting {
		_ = r.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, which the read reports
	}
}

// payload reads the meta and body that follow h into one Buffer, which the
// caller must release; a frame without either has a nil Buffer. It checks the
// meta's CRC. The caller has judged the lengths.
func (r *reader) payload(h *Header) (buf *object.Buffer, err error) {
	n := int(h.MetaBytes) + int(h.BodyBytes)
	r.wasLarge = n > readBufferBytes
	if n > 0 {
		if r.end-r.at < n {
			r.setDeadline(time.Now().Add(r.frameTimeout + transferTime(n)))
		}
		if buf, err = r.collect(n); err != nil {
			return nil, inFrame(err)
		}
	}
	if err := checkMeta(h, buf); err != nil {
		return nil, err
	}
	return buf, nil
}

func checkMeta(h *Header, buf *object.Buffer) error {
	var meta []byte
	if buf != nil {
		meta = buf.Bytes()[:h.MetaBytes]
	}
	if metaCRC(meta) == h.MetaCRC {
		return nil
	}
	if buf != nil {
		buf.Release()
	}
	return fmt.Errorf("%w: the meta's CRC does not match", ErrFrame)
}

// collect reads n bytes into a Buffer. No more than firstStepBytes are taken on
// the word of a length field, and not those before the first few have arrived;
// a larger Buffer grows fourfold as it fills.
func (r *reader) collect(n int) (*object.Buffer, error) {
	if n > len(r.buf) && r.end-r.at < earnBytes {
		if err := r.fill(earnBytes); err != nil {
			return nil, err
		}
	}
	buf := object.NewBuffer(min(n, firstStepBytes))
	for have := 0; ; {
		if err := r.readFull(buf.Bytes()[have:]); err != nil {
			buf.Release()
			return nil, err
		}
		if have = len(buf.Bytes()); have == n {
			return buf, nil
		}
		larger := object.NewBuffer(min(n, 4*have))
		copy(larger.Bytes(), buf.Bytes())
		buf.Release()
		buf = larger
	}
}

// discard reads the n bytes of a payload that nobody wants.
func (r *reader) discard(h *Header) error {
	n := int(h.MetaBytes) + int(h.BodyBytes)
	r.wasLarge = false
	if r.end-r.at < n {
		r.setDeadline(time.Now().Add(r.frameTimeout + transferTime(n)))
	}
	for n > 0 {
		if r.at == r.end {
			if err := r.fill(1); err != nil {
				return inFrame(err)
			}
		}
		step := min(n, r.end-r.at)
		r.at += step
		n -= step
	}
	return nil
}

// readFull fills p from what has arrived, then straight from the connection.
func (r *reader) readFull(p []byte) error {
	n := copy(p, r.buf[r.at:r.end])
	r.at += n
	if n == len(p) {
		return nil
	}
	_, err := io.ReadFull(r.nc, p[n:])
	return err
}

// fill reads until at least n bytes, no more than the buffer holds, are ready.
// After a large payload another is likely: then it reads ahead only what a
// header and a meta need, so that the payload goes straight to its Buffer.
func (r *reader) fill(n int) error {
	if r.at == r.end {
		r.at, r.end = 0, 0
	} else if r.at+n > len(r.buf) {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	limit := len(r.buf)
	if r.wasLarge {
		limit = min(limit, max(r.at+n, r.end+512))
	}
	got, err := io.ReadAtLeast(r.nc, r.buf[r.end:limit], n-(r.end-r.at))
	r.end += got
	return err
}

func (r *reader) setDeadline(t time.Time) {
	r.deadline = t
	_ = r.nc.SetReadDeadline(t) // fails only on a closed connection, which the read reports
}

// inFrame turns the end of a stream inside a frame into what it is.
func inFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: the rest of it never came", ErrFrame)
	}
	return err
}

// transferTime is the longest that n bytes may take on their way.
func transferTime(n int) time.Duration {
	return time.Duration(n) * time.Second / minBytesPerSec
}
