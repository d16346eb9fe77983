package wire

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// An outcomeOf is how a request made with Begin ended.
type outcomeOf struct {
	reply Reply
	err   error
	after time.Duration
}

// begin begins a call and returns where its end will be told. More than one end
// is a failure.
func begin(t testing.TB, c *Conn, call *Call, deadline time.Time) <-chan outcomeOf {
	t.Helper()
	ended := make(chan outcomeOf, 1)
	began := time.Now()
	var times atomic.Int32
	c.Begin(call, deadline, func(r Reply, err error) {
		if times.Add(1) > 1 {
			t.Error("done was called again")
			return
		}
		ended <- outcomeOf{r, err, time.Since(began)}
	})
	return ended
}

// silentServer returns a Conn to somebody who says hello and then leaves the
// rest to the test.
func silentServer(t testing.TB, cfg Config, maxRequests uint32) (*Conn, *raw) {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		_, _ = readHello(there)
		_, _ = there.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxBodyBytes: MaxBodyBytes, MaxRequests: maxRequests, Cluster: clusterA, Node: nodeOne}))
	}()
	c, err := NewConn(context.Background(), here, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, &raw{t, there}
}

func TestBeginAnswers(t *testing.T) {
	srv := NewServer(testServerConfig(newTestHandler()))
	defer srv.Close()
	noBuffersLeft(t, func() {
		c := overPipe(t, srv, Config{})
		defer c.Close()
		body := object.NewBuffer(100_000)
		for i := range body.Bytes() {
			body.Bytes()[i] = byte(i)
		}
		for _, deadline := range []time.Time{{}, time.Now().Add(time.Hour)} {
			got := <-begin(t, c, &Call{Op: opEcho, Class: Ingest, Meta: []byte("m"), Body: []Piece{{body.Bytes(), body}}}, deadline)
			if got.err != nil || string(got.reply.Meta) != "m" || string(got.reply.Body) != string(body.Bytes()) {
				t.Errorf("the answer came back as %q, %d bytes, %v", got.reply.Meta, len(got.reply.Body), got.err)
			}
			got.reply.Release()
		}
		body.Release()
		said := AppendError(nil, object.Errorf(object.CodeConflict, object.NotDone, "no"))
		got := <-begin(t, c, &Call{Op: opFail, Class: Ingest, Meta: said}, time.Time{})
		wantError(t, got.err, object.CodeConflict, object.NotDone)
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d requests still count", n)
		}
	})
}

// TestBeginErrorBringsHistory: who is refused must learn under which history.
func TestBeginErrorBringsHistory(t *testing.T) {
	cfg := testServerConfig(newTestHandler())
	cfg.History = func() History { return History{Era: 1, Index: 7} }
	srv := NewServer(cfg)
	defer srv.Close()
	c := overPipe(t, srv, Config{})
	defer c.Close()
	got := <-begin(t, c, &Call{Op: opFail, Class: Get, Meta: AppendError(nil, object.Errorf(object.CodeWrongOwner, object.NotDone, "no"))}, time.Time{})
	wantError(t, got.err, object.CodeWrongOwner, object.NotDone)
	if got.reply.History != (History{1, 7}) {
		t.Errorf("the error came with history %v", got.reply.History)
	}
}

// TestBeginDeadlines: each request ends at its own deadline, a moment later at
// most, by this side's clock alone; nothing else on the connection suffers.
func TestBeginDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := silentServer(t, Config{}, 16)
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, server.nc) })
		now := time.Now()
		wantError(t, (<-begin(t, c, &Call{Op: opEcho, Class: Get}, now)).err, object.CodeDeadline, object.NotDone)
		waits := []time.Duration{3 * time.Second, time.Millisecond, 100 * time.Millisecond, 102 * time.Millisecond, 9 * time.Second}
		var ends []<-chan outcomeOf
		for _, d := range waits {
			ends = append(ends, begin(t, c, &Call{Op: opEcho, Class: Get}, now.Add(d)))
		}
		endless := begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})
		for i, d := range waits {
			got := <-ends[i]
			wantError(t, got.err, object.CodeDeadline, object.MaybeDone)
			if got.after < d || got.after > d+sweepGap {
				t.Errorf("a request with %v to live was ended after %v", d, got.after)
			}
		}
		if len(endless) != 0 {
			t.Error("a request without a deadline was ended")
		}
		c.Close()
		wantError(t, (<-endless).err, object.CodeUnavailable, object.MaybeDone)
		reading.Wait()
	})
}

// TestBeginLateAnswer: an answer after the deadline is thrown away.
func TestBeginLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := silentServer(t, Config{}, 16)
		late := begin(t, c, &Call{Op: opEcho, Class: Get}, time.Now().Add(time.Second))
		h, _, _, err := server.next()
		if err != nil || h.RemainingMillis == 0 || h.RemainingMillis > 1000 {
			t.Fatalf("the request came with %d ms, %v", h.RemainingMillis, err)
		}
		wantError(t, (<-late).err, object.CodeDeadline, object.MaybeDone)
		if cancel, _, _, err := server.next(); err != nil || cancel.Flags != FlagCancel || cancel.ID != h.ID {
			t.Errorf("after the deadline came %+v, %v; want a cancel", cancel, err)
		}
		server.frame(Header{Op: opEcho, Class: Get, Flags: flagsLast, ID: h.ID}, []byte("late"), nil)
		next := begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})
		if h, _, _, err = server.next(); err != nil {
			t.Fatal(err)
		}
		server.frame(Header{Op: opEcho, Class: Get, Flags: flagsLast, ID: h.ID}, []byte("right"), nil)
		if got := <-next; got.err != nil || string(got.reply.Meta) != "right" {
			t.Errorf("the next request got %q, %v", got.reply.Meta, got.err)
		} else {
			got.reply.Release()
		}
		c.Close()
	})
}

// TestBeginNeverWaits: no slot and no room in the queue are answers, at once.
func TestBeginNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := silentServer(t, Config{}, 2)
		a := begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})
		b := begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})
		wantError(t, (<-begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})).err, object.CodeOverload, object.NotDone)
		c.Close()
		<-a
		<-b

		noBuffersLeft(t, func() {
			c, _ = silentServer(t, Config{MaxQueueBytes: 1000}, 1000)
			body := object.NewBuffer(900)
			first := begin(t, c, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{body.Bytes(), body}}}, time.Time{})
			synctest.Wait() // the writer has taken it
			second := begin(t, c, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{body.Bytes(), body}}}, time.Time{})
			wantError(t, (<-second).err, object.CodeOverload, object.NotDone)
			body.Release()
			c.Close()
			wantError(t, (<-first).err, object.CodeUnavailable, object.MaybeDone)
		})
		large := <-begin(t, c, &Call{Op: opEcho, Class: Get, Body: []Piece{{Bytes: make([]byte, 65<<10)}}}, time.Time{})
		wantError(t, large.err, object.CodeTooLarge, object.NotDone)
		wantError(t, (<-begin(t, c, &Call{Op: opEcho, Class: Get}, time.Time{})).err, object.CodeUnavailable, object.NotDone)
	})
}

// TestBeginLostConnection: what had left is maybe done, what was queued is not.
func TestBeginLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			c, server := silentServer(t, Config{MaxQueueBytes: 16 << 20}, 16)
			body := object.NewBuffer(2 << 20)
			sent := begin(t, c, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{body.Bytes(), body}}}, time.Now().Add(time.Hour))
			synctest.Wait() // it is being written
			queued := begin(t, c, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{body.Bytes(), body}}}, time.Now().Add(time.Hour))
			synctest.Wait()
			server.nc.Close()
			wantError(t, (<-sent).err, object.CodeUnavailable, object.MaybeDone)
			wantError(t, (<-queued).err, object.CodeUnavailable, object.NotDone)
			body.Release()
			c.Close()
		})
	})
}

// TestBeginInsideDone: a callback may begin the next request.
func TestBeginInsideDone(t *testing.T) {
	srv := NewServer(testServerConfig(newTestHandler()))
	defer srv.Close()
	c := overPipe(t, srv, Config{MaxRequests: 1})
	defer c.Close()
	var wg sync.WaitGroup
	wg.Add(1)
	left := 100
	var next func(Reply, error)
	next = func(r Reply, err error) {
		if r.Release(); err != nil || left == 0 {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
			return
		}
		left--
		c.Begin(&Call{Op: opEcho, Class: Get, Meta: []byte("x")}, time.Now().Add(time.Hour), next)
	}
	next(Reply{}, nil)
	wg.Wait()
}

// TestAnswersToWhatWasNotAsked: a server that guesses request ids gets no
// request ended twice, and leaks nothing.
func TestAnswersToWhatWasNotAsked(t *testing.T) {
	noBuffersLeft(t, func() {
		c, server := silentServer(t, Config{MaxQueueBytes: 3000}, 64)
		const requests = 300
		go func() { _, _ = io.Copy(io.Discard, server.nc) }()
		var answering sync.WaitGroup
		answering.Go(func() {
			for id := range uint64(2 * requests) {
				if _, err := server.nc.Write(encodeFrame(Header{Op: opEcho, Class: Get, Flags: flagsLast, ID: id + 1}, []byte("guess"), make([]byte, 100))); err != nil {
					return
				}
			}
		})
		var ended sync.WaitGroup
		for range requests {
			ended.Add(1)
			c.Begin(&Call{Op: opEcho, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 1000)}}}, time.Now().Add(50*time.Millisecond), func(r Reply, _ error) {
				r.Release()
				ended.Done()
			})
		}
		ended.Wait()
		c.Close()
		answering.Wait()
	})
}

// TestAnswerToWhatWasNotSent: the same where the answer overtakes the request,
// which then finds no room.
func TestAnswerToWhatWasNotSent(t *testing.T) {
	noBuffersLeft(t, func() {
		c, server := silentServer(t, Config{}, 64)
		defer server.nc.Close()
		defer c.Close()
		ended := make(chan error, 2)
		c.slots <- struct{}{}
		p, err := c.registerLater(Get, time.Now(), time.Time{}, func(_ Reply, err error) { ended <- err })
		if err != nil || !c.unregister(p.later.id) {
			t.Fatal("not registered")
		}
		buf := object.NewBuffer(10)
		p.complete(Reply{Buf: buf, Body: buf.Bytes()}, nil)
		if len(ended) != 0 {
			t.Fatal("it ended before Begin had let go of it")
		}
		p.later.unsent = errBusy
		p.meet()
		wantError(t, <-ended, object.CodeOverload, object.NotDone)
	})
}

// TestBeginStorm ends requests in all ways at once: answers, errors, deadlines,
// overload, the end of the connection. Each ends once.
func TestBeginStorm(t *testing.T) {
	noBuffersLeft(t, func() {
		srv := NewServer(testServerConfig(newTestHandler()))
		here, there := net.Pipe()
		go srv.ServeConn(there)
		c, err := NewConn(t.Context(), here, Config{MaxRequests: 32})
		if err != nil {
			t.Fatal(err)
		}
		const callers, each = 8, 300
		var ends, once atomic.Int64
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() {
				body := object.NewBuffer(3000)
				defer body.Release()
				for i := range each {
					call := Call{Op: []uint8{opEcho, opWait, opSink}[i%3], Class: Ingest, Body: []Piece{{body.Bytes(), body}}}
					var mine atomic.Int32
					c.Begin(&call, time.Now().Add(time.Duration(i%5)*time.Millisecond), func(r Reply, _ error) {
						r.Release()
						ends.Add(1)
						if mine.Add(1) == 1 {
							once.Add(1)
						}
					})
					if caller == 0 && i == each-1 {
						c.Close()
					}
				}
			})
		}
		wg.Wait()
		c.Close()
		srv.Close()
		if ends.Load() != callers*each || once.Load() != callers*each {
			t.Errorf("%d ends of %d requests, %d ended", ends.Load(), callers*each, once.Load())
		}
	})
}

func TestBeginAllocatesLittle(t *testing.T) {
	if poisoned {
		t.Skip("the race detector allocates")
	}
	srv := NewServer(testServerConfig(newTestHandler()))
	defer srv.Close()
	c := overPipe(t, srv, Config{})
	defer c.Close()
	ended := make(chan error, 1)
	done := func(r Reply, err error) {
		r.Release()
		ended <- err
	}
	call := &Call{Op: opSink, Class: Ingest}
	deadline := time.Now().Add(time.Hour)
	both := testing.AllocsPerRun(500, func() {
		c.Begin(call, deadline, done)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	waiting := testing.AllocsPerRun(500, func() {
		if _, err := c.Call(t.Context(), call); err != nil {
			t.Error(err)
		}
	})
	if both > waiting {
		t.Errorf("a request begun costs %.1f allocations, both sides together, one waited for %.1f", both, waiting)
	}
}

func BenchmarkBegin(b *testing.B) {
	sink := handlerFunc(func(context.Context, *Request) (Answer, error) { return Answer{}, nil })
	conns := benchConns(b, 1, sink)
	buf := object.NewBuffer(4 << 10)
	measure(b, 4<<10, func() {
		callers(b, func(int) error {
			ended := make(chan error, 1)
			conns[0].Begin(&Call{Op: opSink, Class: Ingest, Body: []Piece{{buf.Bytes(), buf}}}, time.Time{}, func(r Reply, err error) {
				r.Release()
				ended <- err
			})
			return <-ended
		})
	})
}
