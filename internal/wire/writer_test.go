package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// blockedWriter returns a writer whose peer reads nothing before the returned
// function is called, which then reads all until the end.
func blockedWriter(t *testing.T, limit int) (w *writer, drain, end func()) {
	here, there := net.Pipe()
	w = newWriter(here, time.Hour, limit, new(counters))
	var wg sync.WaitGroup
	wg.Go(func() { w.run(func(error) {}) })
	return w, func() { wg.Go(func() { _, _ = io.Copy(io.Discard, there) }) }, func() {
		w.fail(errClosed)
		here.Close()
		there.Close()
		wg.Wait()
	}
}

func frameOf(bytes int) *outFrame {
	f := newFrame(Header{Op: 2, Class: Ingest, ID: 1}, nil)
	f.add(Piece{Bytes: make([]byte, bytes)}.own())
	return f
}

// TestWriterRoom: who finds the queue full waits for its turn or gives up; what
// is urgent does not wait; whoever waits for the queue to drain hears of it when
// the last one that wanted room has given up.
func TestWriterRoom(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			w, drain, end := blockedWriter(t, 1000)
			defer end()
			if err := w.enqueue(frameOf(600), nil, inTurn); err != nil {
				t.Fatal(err)
			}
			quit, drained := make(chan struct{}), make(chan bool, 1)
			result := make(chan error, 2)
			go func() { result <- w.enqueue(frameOf(500), quit, inTurn) }()
			synctest.Wait()
			go func() { drained <- w.drained(nil) }()
			if err := w.enqueue(frameOf(0), nil, urgently); err != nil {
				t.Errorf("an urgent frame: %v", err)
			}
			synctest.Wait()
			if len(result) != 0 || len(drained) != 0 {
				t.Error("there is no room, and nobody waits for it")
			}
			close(quit)
			if err := <-result; !errors.Is(err, errQuit) {
				t.Errorf("gave up with %v", err)
			}
			synctest.Wait()
			if len(drained) == 0 {
				t.Error("nobody wants room any more, and the reader still waits")
			} else if !<-drained {
				t.Error("it had to wait and says it had not")
			}
			go func() { result <- w.enqueue(frameOf(500), nil, inTurn) }()
			synctest.Wait()
			drain()
			if err := <-result; err != nil {
				t.Errorf("there is room now: %v", err)
			}
		})
	})
}

// TestWriterFinishesWhatItHas: finish sends what is queued and takes no more;
// fail drops it.
func TestWriterFinishesWhatItHas(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			w, drain, end := blockedWriter(t, 10_000)
			defer end()
			for range 5 {
				if err := w.enqueue(frameOf(100), nil, inTurn); err != nil {
					t.Fatal(err)
				}
			}
			drain()
			w.finish(object.ErrTorn)
			if n := w.stats.framesOut.Load(); n != 5 {
				t.Errorf("%d frames were sent, want 5", n)
			}
			if err := w.enqueue(frameOf(100), nil, inTurn); !errors.Is(err, object.ErrTorn) {
				t.Errorf("after finish: %v", err)
			}

			w2, _, end2 := blockedWriter(t, 10_000)
			defer end2()
			for range 5 {
				if err := w2.enqueue(frameOf(100), nil, inTurn); err != nil {
					t.Fatal(err)
				}
			}
			w2.fail(object.ErrTorn)
			if err := w2.enqueue(frameOf(100), nil, inTurn); !errors.Is(err, object.ErrTorn) {
				t.Errorf("after fail: %v", err)
			}
		})
	})
}
