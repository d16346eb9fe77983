package wire

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

const (
	maxBatchBytes  = 1 << 20  // after this a batch takes no further frame: what is urgent waits no longer than that takes
	maxBatchFrames = 256      // likewise; two vectors or so a frame stay under the kernel's 1024 a call
	keptHeadBytes  = 16 << 10 // a frame's scratch larger than this is not kept
)

// A Piece is a part of a body, handed on by reference. Its Bytes alias Buf and
// are not changed while it is in use. A Piece without a Buffer is copied when
// its message is queued.
type Piece struct {
	Bytes []byte
	Buf   *object.Buffer
}

// Release ends the use of the piece's Buffer, if it has one.
func (p Piece) Release() {
	if p.Buf != nil {
		p.Buf.Release()
	}
}

// own returns p with a Buffer behind it, copying if there is none.
func (p Piece) own() Piece {
	if p.Buf != nil || len(p.Bytes) == 0 {
		return p
	}
	buf := object.NewBuffer(len(p.Bytes))
	copy(buf.Bytes(), p.Bytes)
	return Piece{buf.Bytes(), buf}
}

// An outFrame is a frame on its way out. It belongs to the writer once it is
// queued.
type outFrame struct {
	header   Header
	meta     []byte  // scratch of the frame's own
	head     []byte  // scratch: header and meta as they are sent
	pieces   []Piece // each with a use of its Buffer that is the frame's
	deadline time.Time
	owner    *sending // nil if nobody asks what became of it
}

// sending tells the maker of a frame what became of it. Guarded by the writer's
// mutex.
type sending struct {
	frame *outFrame // while it is queued
	taken bool      // it has, or may have, left
}

var framePool = sync.Pool{New: func() any { return new(outFrame) }}

func newFrame(h Header, meta []byte) *outFrame {
	f := framePool.Get().(*outFrame)
	f.header, f.deadline, f.owner = h, time.Time{}, nil
	f.meta = append(f.meta[:0], meta...)
	return f
}

func (f *outFrame) add(p Piece) {
	if len(p.Bytes) > 0 {
		f.pieces = append(f.pieces, p)
	} else {
		p.Release()
	}
}

func (f *outFrame) bodyBytes() int {
	n := 0
	for _, p := range f.pieces {
		n += len(p.Bytes)
	}
	return n
}

// size is what the frame counts for in queues.
func (f *outFrame) size() int { return HeaderBytes + len(f.meta) + f.bodyBytes() }

// recycle ends the frame and its use of all buffers.
func (f *outFrame) recycle() {
	for _, p := range f.pieces {
		p.Release()
	}
	clear(f.pieces)
	f.pieces, f.owner = f.pieces[:0], nil
	if cap(f.meta) > keptHeadBytes || cap(f.head) > keptHeadBytes || cap(f.pieces) > maxBatchFrames {
		f.meta, f.head, f.pieces = nil, nil, nil
	}
	framePool.Put(f)
}

// encode fills head. The remaining time is taken now, so that waiting in the
// queue counts.
func (f *outFrame) encode(now time.Time) {
	f.header.MetaBytes, f.header.BodyBytes = uint32(len(f.meta)), uint32(f.bodyBytes())
	f.header.MetaCRC = metaCRC(f.meta)
	if !f.deadline.IsZero() {
		f.header.RemainingMillis = uint32(min(max(f.deadline.Sub(now).Milliseconds(), 1), 1<<32-1))
	}
	f.head = append(AppendHeader(f.head[:0], &f.header), f.meta...)
}

// A writer sends frames in the order they were queued, urgent ones first, as
// many as are waiting in one call. run is the only goroutine that writes to nc.
type writer struct {
	nc      net.Conn
	timeout time.Duration // for one call; its bytes' time comes on top
	limit   int           // bytes queued beyond which enqueue waits
	stats   *counters
	wake    chan struct{} // capacity 1
	done    chan struct{} // closed when run has returned

	mu      sync.Mutex
	urgent  []*outFrame
	queue   []*outFrame
	queued  int           // bytes in both and in the batch being written
	waiting int           // goroutines in enqueue that wait for room
	room    chan struct{} // if not nil, somebody waits: closed when bytes have left
	err     error         // why nothing more is taken in
	ending  bool          // run returns when the queue is empty

	// Used by run only, kept for their memory.
	batch   []*outFrame
	vectors [][]byte
	rest    net.Buffers
}

func newWriter(nc net.Conn, timeout time.Duration, limit int, stats *counters) *writer {
	return &writer{nc: nc, timeout: timeout, limit: limit, stats: stats, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// A turn says when a queued frame is sent.
type turn uint8

const (
	inTurn       turn = iota // after what is queued; waits while the queue is full
	inTurnAtOnce             // after what is queued; never waits
	urgently                 // before what is queued; never waits
)

// enqueue takes the frame over. If the queue is full and the turn says so it
// waits, until quit is closed. An error means that nothing of the frame will be
// sent; it is the writer's own unless quit was closed, which gives errQuit.
// Those that never wait must be few or bounded by something else.
func (w *writer) enqueue(f *outFrame, quit <-chan struct{}, when turn) error {
	size := f.size()
	w.mu.Lock()
	for w.err == nil && when == inTurn && w.queued > 0 && w.queued+size > w.limit {
		w.waiting++
		err := w.awaitRoomLocked(quit)
		if w.waiting--; w.waiting == 0 {
			w.leftLocked(0) // drained may be waiting for this
		}
		if err != nil {
			w.mu.Unlock()
			f.recycle()
			return err
		}
	}
	if err := w.err; err != nil {
		w.mu.Unlock()
		f.recycle()
		return err
	}
	if f.owner != nil {
		f.owner.frame = f
	}
	if when == urgently {
		w.urgent = append(w.urgent, f)
	} else {
		w.queue = append(w.queue, f)
	}
	w.queued += size
	w.mu.Unlock()
	w.nudge()
	return nil
}

// awaitRoomLocked gives up the mutex until bytes have left or quit is closed.
func (w *writer) awaitRoomLocked(quit <-chan struct{}) error {
	if w.room == nil {
		w.room = make(chan struct{})
	}
	room := w.room
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-room:
		return nil
	case <-quit:
		return errQuit
	}
}

// drained waits until no more than the limit is queued and nobody waits for
// room, the writer has failed or quit is closed. It tells whether it had to wait.
func (w *writer) drained(quit <-chan struct{}) (waited bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && (w.queued > w.limit || w.waiting > 0) {
		waited = true
		if w.awaitRoomLocked(quit) != nil {
			break
		}
	}
	return waited
}

// withdraw takes a frame back that has not left yet. It tells whether it was
// too late: then the peer has it, or may have.
func (w *writer) withdraw(s *sending) (taken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.taken || s.frame == nil {
		return s.taken
	}
	f := s.frame
	s.frame = nil
	for i, q := range w.queue {
		if q == f {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			w.leftLocked(f.size())
			f.recycle()
			return false
		}
	}
	panic("wire: BUG: a queued frame is not in the queue")
}

// leftLocked accounts for bytes that are no longer queued.
func (w *writer) leftLocked(n int) {
	w.queued -= n
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// fail makes run return at once: what is queued is dropped, what comes later
// refused with err. The caller closes the connection, which ends a write.
func (w *writer) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	dropped := append(w.urgent, w.queue...)
	w.urgent, w.queue = nil, nil
	for _, f := range dropped {
		if f.owner != nil {
			f.owner.frame = nil
		}
		w.leftLocked(f.size())
		f.recycle()
	}
	w.leftLocked(0)
	w.mu.Unlock()
	w.nudge()
}

// finish takes nothing more in, sends what is queued, and waits for that.
func (w *writer) finish(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.ending = true
	w.mu.Unlock()
	w.nudge()
	<-w.done
}

// run writes until fail or finish is called or a write fails, which it reports
// to broken.
func (w *writer) run(broken func(error)) {
	defer close(w.done)
	for range w.wake {
		// Whoever is about to queue a frame may do so first: this halves the calls,
		// and with them the processor time, of small frames from many callers.
		runtime.Gosched()
		for {
			size, ok := w.take()
			if !ok {
				return
			}
			if size == 0 {
				break
			}
			err := w.write(size)
			w.release(size)
			if err != nil {
				w.fail(err)
				broken(err)
				return
			}
		}
	}
}

// take moves the next frames into the batch and returns their bytes. It tells
// whether run should go on.
func (w *writer) take() (size int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.urgent = w.takeFrom(w.urgent, &size)
	w.queue = w.takeFrom(w.queue, &size)
	if size == 0 && (w.err != nil || w.ending) {
		return 0, false
	}
	return size, true
}

// takeFrom moves frames from the front of q and returns what remains, in the
// same memory.
func (w *writer) takeFrom(q []*outFrame, size *int) []*outFrame {
	n := 0
	for n < len(q) && *size < maxBatchBytes && len(w.batch) < maxBatchFrames {
		f := q[n]
		if f.owner != nil {
			f.owner.frame, f.owner.taken = nil, true
		}
		w.batch = append(w.batch, f)
		*size += f.size()
		n++
	}
	left := copy(q, q[n:])
	clear(q[left:])
	return q[:left]
}

// write sends the batch in one call, as far as the kernel takes it.
func (w *writer) write(size int) error {
	now := time.Now()
	vectors := w.vectors[:0]
	for _, f := range w.batch {
		f.encode(now)
		vectors = append(vectors, f.head)
		for _, p := range f.pieces {
			vectors = append(vectors, p.Bytes)
		}
	}
	w.vectors, w.rest = vectors, vectors
	w.stats.framesOut.Add(uint64(len(w.batch)))
	w.stats.writes.Add(1)
	_ = w.nc.SetWriteDeadline(now.Add(w.timeout + transferTime(size))) // fails only on a closed connection, which the write reports
	n, err := w.rest.WriteTo(w.nc)
	w.stats.bytesOut.Add(uint64(n))
	return err
}

// release ends the batch, written or not.
func (w *writer) release(size int) {
	for i, f := range w.batch {
		f.recycle()
		w.batch[i] = nil
	}
	w.batch = w.batch[:0]
	clear(w.vectors)
	w.mu.Lock()
	w.leftLocked(size)
	w.mu.Unlock()
}
