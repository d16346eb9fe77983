package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

// hostileServer says hello, then runs f with what the caller sends.
func hostileServer(t *testing.T, cfg Config, f func(r *raw)) (*Conn, func()) {
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := readHello(there); err != nil {
			t.Error(err)
		}
		_, _ = there.Write(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, MaxBodyBytes: MaxBodyBytes, MaxRequests: 10, Node: nodeOne}))
		f(&raw{t, there})
	})
	c, err := NewConn(t.Context(), here, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, func() {
		c.Close()
		there.Close()
		wg.Wait()
	}
}

// TestHostileAnswers: a server that breaks the rules ends the connection for
// the caller, with an error, never with a wrong answer.
func TestHostileAnswers(t *testing.T) {
	for name, answer := range map[string]func(r *raw, h Header){
		"a request":          func(r *raw, h Header) { r.frame(Header{Op: 2, Class: Get, ID: h.ID}, nil, nil) },
		"several answers":    func(r *raw, h Header) { r.frame(Header{Op: 2, Flags: flagsMore, ID: h.ID}, nil, nil) },
		"an error in pieces": func(r *raw, h Header) { r.frame(Header{Flags: flagsError, ID: h.ID}, []byte{1}, nil) },
		"an error and more":  func(r *raw, h Header) { r.frame(Header{Flags: flagsError, ID: h.ID}, []byte{1, 1, 0, 0, 9}, nil) },
		"noise":              func(r *raw, _ Header) { _, _ = r.nc.Write(bytes.Repeat([]byte{7}, 1000)) },
		"half an answer": func(r *raw, h Header) {
			r.write(encodeFrame(Header{Flags: flagsLast, ID: h.ID}, nil, make([]byte, 100))[:120])
			r.nc.Close()
		},
		"a body beyond bounds": func(r *raw, h Header) { r.frame(Header{Flags: flagsLast, ID: h.ID}, nil, make([]byte, 2001)) },
		"its last words": func(r *raw, _ Header) {
			r.frame(Header{Flags: flagsError}, AppendError(nil, &object.Error{Code: object.CodeBadRequest, Outcome: object.NotDone, Message: "enough"}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			noBuffersLeft(t, func() {
				synctest.Test(t, func(t *testing.T) {
					c, end := hostileServer(t, Config{Hello: Hello{MaxBodyBytes: 2000}}, func(r *raw) {
						h, _, _, err := r.next()
						if err == nil {
							go func() { _, _ = io.Copy(io.Discard, r.nc) }()
							r.t = quiet{r.t}
							answer(r, h)
						}
					})
					_, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Ingest})
					if e, ok := errors.AsType[*object.Error](err); !ok || e.Outcome != object.MaybeDone {
						t.Errorf("got %v", err)
					}
					<-c.Done()
					end()
				})
			})
		})
	}
}

// quiet takes failures to write to a connection the other side has closed.
type quiet struct{ testing.TB }

func (quiet) Fatal(...any) {}

// TestAnswersNobodyAskedFor are skipped: they may be late ones.
func TestAnswersNobodyAskedFor(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			c, end := hostileServer(t, Config{}, func(r *raw) {
				r.frame(Header{Flags: flagsLast, ID: 77}, []byte("late"), make([]byte, 100_000))
				r.frame(Header{Flags: flagsMore, ID: 78}, nil, make([]byte, 10))
				r.frame(Header{Flags: flagsError, ID: 79}, AppendError(nil, &object.Error{Code: 1, Outcome: 1}), nil)
				h, _, _, err := r.next()
				if err != nil {
					t.Error(err)
				}
				r.frame(Header{Flags: flagsLast, ID: h.ID}, []byte("right"), nil)
			})
			reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Get})
			if err != nil || string(reply.Meta) != "right" {
				t.Errorf("got %q, %v", reply.Meta, err)
			}
			reply.Release()
			end()
		})
	})
}

// TestAnswerBeforeTheRequest: a server that guesses the next id answers a
// request that has not left. The frame must not be lost track of.
func TestAnswerBeforeTheRequest(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			start := make(chan struct{})
			c, end := hostileServer(t, Config{}, func(r *raw) {
				<-start
				r.frame(Header{Flags: flagsLast, ID: 2}, []byte("guessed"), nil) // 1 is being written, 2 queued
				_, _ = io.Copy(io.Discard, r.nc)
			})
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					reply, err := c.Call(ctx, &Call{Op: opEcho, Class: Ingest, Body: []Piece{{Bytes: make([]byte, 1000)}}})
					if err == nil {
						reply.Release()
					}
				})
				synctest.Wait()
			}
			close(start)
			wg.Wait()
			end()
		})
	})
}

// TestAnswerThatComesWhileTheCallerLeaves: it goes away when half of the answer is
// here. Nothing of it stays.
func TestAnswerThatComesWhileTheCallerLeaves(t *testing.T) {
	for name, flags := range map[string]Flags{"an answer": flagsLast, "a message of a stream": flagsMore} {
		t.Run(name, func(t *testing.T) {
			noBuffersLeft(t, func() {
				synctest.Test(t, func(t *testing.T) {
					c, end := hostileServer(t, Config{}, func(r *raw) {
						h, _, _, _ := r.next()
						go func() { _, _ = io.Copy(io.Discard, r.nc) }()
						b := encodeFrame(Header{Flags: flags, ID: h.ID}, nil, make([]byte, 10_000))
						r.write(b[:5000])
						time.Sleep(2 * time.Second)
						r.write(b[5000:])
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					call := &Call{Op: opEcho, Class: Tail}
					if flags == flagsLast {
						_, err := c.Call(ctx, call)
						wantError(t, err, object.CodeDeadline, object.MaybeDone)
					} else {
						s, err := c.Stream(ctx, call)
						if err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
						s.Close()
					}
					time.Sleep(3 * time.Second)
					if c.Err() != nil || c.InFlight() != 0 {
						t.Errorf("afterwards: %v, %d in flight", c.Err(), c.InFlight())
					}
					end()
				})
			})
		})
	}
}

// TestStreamBeyondItsCredit: a server that runs further ahead than it may does
// not make the caller hold more.
func TestStreamBeyondItsCredit(t *testing.T) {
	noBuffersLeft(t, func() {
		synctest.Test(t, func(t *testing.T) {
			c, end := hostileServer(t, Config{StreamWindowBytes: 5000}, func(r *raw) {
				h, _, _, _ := r.next()
				go func() { _, _ = io.Copy(io.Discard, r.nc) }()
				for range 10 {
					if _, err := r.nc.Write(encodeFrame(Header{Flags: flagsMore, ID: h.ID}, nil, make([]byte, 1000))); err != nil {
						return
					}
				}
			})
			s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
			if err != nil {
				t.Fatal(err)
			}
			<-c.Done()
			if !errors.Is(c.Err(), ErrFrame) {
				t.Errorf("the connection ended with %v", c.Err())
			}
			got := 0
			for {
				r, err := s.Next(t.Context())
				if err != nil {
					break
				}
				r.Release()
				got++
			}
			if got != 5 {
				t.Errorf("%d messages were taken in, want 5", got)
			}
			s.Close()
			end()
		})
	})
}

// FuzzConn answers a call and a stream with anything. Both must end.
func FuzzConn(f *testing.F) {
	f.Add(append(encodeFrame(Header{Flags: flagsLast, ID: 1}, []byte("m"), []byte("b")), encodeFrame(Header{Flags: flagsMore, ID: 2}, nil, []byte("b"))...))
	f.Add(encodeFrame(Header{Flags: flagsError}, []byte{11, 1, 0, 0}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; at+HeaderBytes <= len(b); {
			reseal(b[at : at+HeaderBytes])
			at += HeaderBytes + int(min(binary.LittleEndian.Uint32(b[at+32:]), 1<<20)+min(binary.LittleEndian.Uint32(b[at+36:]), 1<<20))
		}
		noBuffersLeft(t, func() {
			synctest.Test(t, func(t *testing.T) {
				c, end := hostileServer(t, Config{}, func(r *raw) {
					go func() { _, _ = io.Copy(io.Discard, r.nc) }()
					time.Sleep(time.Second)
					_, _ = r.nc.Write(b)
					time.Sleep(time.Second)
					r.nc.Close()
				})
				var wg sync.WaitGroup
				wg.Go(func() {
					if reply, err := c.Call(t.Context(), &Call{Op: opEcho, Class: Get}); err == nil {
						reply.Release()
					}
				})
				wg.Go(func() {
					s, err := c.Stream(t.Context(), &Call{Op: opStream, Class: Tail})
					for err == nil {
						var r Reply
						if r, err = s.Next(t.Context()); err == nil {
							r.Release()
						}
					}
					if s != nil {
						s.Close()
					}
				})
				wg.Wait()
				end()
			})
		})
	})
}
