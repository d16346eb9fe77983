package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A fakePlacement pushes everything to everybody but what it was told to keep.
type fakePlacement struct {
	mu   sync.Mutex
	kept map[string]bool // texts of keys
}

func (l *fakePlacement) pushes(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.kept[key]
}

func (l *fakePlacement) PushesDelta(_ ring.NodeID, key event.IndexKey) bool {
	return l.pushes(key.String())
}

func (l *fakePlacement) PushesBody(_ ring.NodeID, key event.Key, hash uint64) bool {
	if hash != hashOf(key.String()) {
		panic("a wrong hash")
	}
	return l.pushes(key.String())
}

// A fakeSink notes what comes, in words.
type fakeSink struct {
	mu     sync.Mutex
	got    []string
	bodies []object.Record
	block  chan struct{} // if not nil, every call waits until it is closed
}

func (s *fakeSink) PushedDelta(key event.IndexKey, delta index.Row) {
	s.note(fmt.Sprintf("delta %s %d", key, delta.Len()))
}

func (s *fakeSink) PushedBody(key event.Key, rec object.Record) {
	s.mu.Lock()
	s.bodies = append(s.bodies, rec.Retain())
	s.mu.Unlock()
	if rec.Buf == nil {
		panic("a blob that cannot be retained")
	}
	s.note("body " + key.String())
}

func (s *fakeSink) note(what string) {
	s.mu.Lock()
	s.got = append(s.got, what)
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
}

// take returns what came since it was called last.
func (s *fakeSink) take() (got []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, s.got = s.got, nil
	return got
}

func (s *fakeSink) release() {
	for i := range s.bodies {
		s.bodies[i].Release()
	}
}

// A pushRig is a rig whose server pushes.
type pushRig struct {
	*rig
	place  *fakePlacement
	pusher *PushHandler
	sink   *fakeSink
	count  FollowCounters
}

func newPushRig(t testing.TB, change func(*PushConfig)) *pushRig {
	t.Helper()
	r := &pushRig{rig: newRig(t, nil), place: &fakePlacement{kept: map[string]bool{}}, sink: &fakeSink{}}
	r.serve(change)
	return r
}

// serve makes a new PushHandler and server answer further dials.
func (r *pushRig) serve(change func(*PushConfig)) {
	cfg := PushConfig{Local: r.place, Cluster: cluster}
	if change != nil {
		change(&cfg)
	}
	r.pusher = NewPushHandler(cfg)
	r.replace(serverFor(r.pusher, r.local))
}

// follow subscribes and waits until the peer has taken it.
func (r *pushRig) follow(s Subscription) *Following {
	f := r.peer.Follow(s, r.sink, &r.count)
	<-f.Ready()
	return f
}

func (r *pushRig) close() {
	r.rig.close()
	r.sink.release()
}

// delta pushes a delta of one entry to the row of that dc.
func (r *pushRig) delta(t testing.TB, from ring.NodeID, dc string) {
	t.Helper()
	r.pusher.Delta(from, event.IndexKey{Epoch: rowKey.Epoch, DC: dc}, someRow(t))
}

// body pushes a blob of that dc.
func (r *pushRig) body(t testing.TB, from ring.NodeID, dc string, chunk, size int) {
	t.Helper()
	key := event.Key{Epoch: rowKey.Epoch, DC: dc, Type: "WEB", Subtype: "app", Chunk: fmt.Sprint(chunk)}
	rec := record(t, key.String(), size)
	r.pusher.Body(from, key, hashOf(key.String()), rec)
	rec.Release()
}

func wantPushes(t testing.TB, claim string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", claim, got, want)
	}
}

// TestWhatIsPushed: to whom it is wanted by and who is to be told, and to nobody
// else; in the order in which it was told.
func TestWhatIsPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, nil)
			r.place.kept["1763712000:zrh"] = true
			r.place.kept["1763712000:zrh:WEB:app:7"] = true
			told := func() {
				for _, dc := range []string{"ams", "fra", "zrh"} {
					r.body(t, there, dc, 7, 100)
					r.delta(t, there, dc)
				}
				r.delta(t, here, "ams")
				r.body(t, here, "ams", 8, 100)
				synctest.Wait()
			}
			told()
			wantPushes(t, "before anybody subscribes", r.sink.take())
			for _, c := range []struct {
				claim string
				sub   Subscription
				want  []string
			}{
				{"everything", Subscription{Bodies: true}, []string{
					"body 1763712000:ams:WEB:app:7", "delta 1763712000:ams 1", "body 1763712000:fra:WEB:app:7", "delta 1763712000:fra 1"}},
				{"no bodies", Subscription{}, []string{"delta 1763712000:ams 1", "delta 1763712000:fra 1"}},
				{"two dcs", Subscription{Bodies: true, DCs: []string{"fra", "zrh"}}, []string{"body 1763712000:fra:WEB:app:7", "delta 1763712000:fra 1"}},
			} {
				f := r.follow(c.sub)
				told()
				wantPushes(t, c.claim, r.sink.take(), c.want...)
				f.Close()
				synctest.Wait()
				if r.pusher.Subscribed() {
					t.Errorf("%s: still subscribed after the end", c.claim)
				}
			}
			s, c := r.pusher.Stats(), r.count.Stats()
			if s.Deltas != 5 || s.Bodies != 3 || s.Subscriptions != 3 || s.DroppedDeltas+s.DroppedBodies+s.TooLarge+s.Refused != 0 {
				t.Errorf("pushed %+v", s)
			}
			if c.Deltas != 5 || c.Bodies != 3 || c.Streams != 3 || c.Live != 0 || c.Ended != 0 || c.BodyBytes != s.BodyBytes {
				t.Errorf("received %+v", c)
			}
			r.close()
		})
	})
}

// TestTooLargeToPush: what is too large is counted and left to the index.
func TestTooLargeToPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, nil)
			f := r.follow(Subscription{Bodies: true})
			r.body(t, there, "ams", 1, maxPushedBody)
			r.body(t, there, "ams", 2, maxPushedBody-1000)
			row := someRow(t)
			e := row.Sections[0].Entries[0]
			row.Sections[0].Entries = nil
			for i := range maxPushedRow / 30 {
				e.Suffix = fmt.Sprintf("WEB:app:%06d", i)
				row.Sections[0].Entries = append(row.Sections[0].Entries, e)
			}
			r.pusher.Delta(there, rowKey, row)
			synctest.Wait()
			wantPushes(t, "of three", r.sink.take(), "body 1763712000:ams:WEB:app:2")
			if s := r.pusher.Stats(); s.TooLarge != 2 {
				t.Errorf("%+v", s)
			}
			f.Close()
			r.close()
		})
	})
}

// TestBatchesAreNotKept: a record that lies in the buffer of a whole batch does
// not keep that while it waits.
func TestBatchesAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, nil)
			r.sink.block = make(chan struct{})
			f := r.follow(Subscription{Bodies: true})
			for i := range 6 { // four fill the window, one waits for more of it
				r.body(t, there, "ams", i, 300_000)
			}
			synctest.Wait()
			one := record(t, blobKey, 1000)
			batch := object.NewBuffer(8 << 20)
			rec, err := object.ParseRecord(batch.Bytes()[:copy(batch.Bytes(), one.Raw())])
			if err != nil {
				t.Fatal(err)
			}
			rec.Buf = batch
			before := r.pusher.Stats().WaitingBytes
			key, _ := event.ParseKey(blobKey)
			r.pusher.Body(there, key, hashOf(blobKey), rec)
			one.Release()
			rec.Release()
			if grown := r.pusher.Stats().WaitingBytes - before; grown < 1000 || grown > 8000 {
				t.Errorf("%d more bytes wait for a record of 1000", grown)
			}
			close(r.sink.block)
			f.Close()
			r.close()
		})
	})
}

// TestSlowSubscriber: it never holds up who pushes, keeps no more than its bounds,
// loses bodies before deltas, and what it lost is counted.
func TestSlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, func(c *PushConfig) { c.QueueItems, c.QueueBytes = 20, 1<<20 })
			r.sink.block = make(chan struct{})
			f := r.follow(Subscription{Bodies: true})
			const bodies, deltas = 40, 30
			for i := range bodies {
				r.body(t, there, "ams", i, 100_000)
				if s := r.pusher.Stats(); s.WaitingItems > 20 || s.WaitingBytes > 1<<20 {
					t.Fatalf("%+v", s)
				}
			}
			synctest.Wait()
			if s := r.pusher.Stats(); s.DroppedBodies == 0 || s.DroppedDeltas != 0 {
				t.Errorf("after the bodies: %+v", s)
			}
			for range deltas {
				r.delta(t, there, "ams")
			}
			if s := r.pusher.Stats(); s.WaitingItems != 20 || s.DroppedDeltas != deltas-20 {
				t.Errorf("after the deltas: %+v", s)
			}
			close(r.sink.block)
			synctest.Wait()
			s, c := r.pusher.Stats(), r.count.Stats()
			if c.Deltas+s.DroppedDeltas != deltas || c.Bodies+s.DroppedBodies != bodies || c.Deltas != 20 || s.WaitingItems != 0 || s.WaitingBytes != 0 {
				t.Errorf("pushed %+v, received %+v", s, c)
			}
			f.Close()
			r.close()
		})
	})
}

// TestSubscriberVanishes: what waits for a subscriber that is gone is let go of.
func TestSubscriberVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, nil)
			r.sink.block = make(chan struct{})
			f := r.follow(Subscription{Bodies: true})
			for i := range 30 {
				r.body(t, there, "ams", i, 100_000)
			}
			r.net.listen(nil)
			r.net.cut()
			time.Sleep(time.Second)
			if s := r.pusher.Stats(); s.Subscribers != 0 || s.WaitingBytes != 0 {
				t.Errorf("%+v", s)
			}
			close(r.sink.block)
			f.Close()
			r.close()
		})
	})
}

// TestPushAfterTheEnd: who still had the subscriber in hand when it left pushes
// into nothing.
func TestPushAfterTheEnd(t *testing.T) {
	noBuffersLeft(t, func() {
		s := &subscriber{wake: make(chan struct{}, 1), queue: pushQueue{maxItems: 9, maxBytes: 1 << 20}}
		add := func() {
			s.add(push{meta: bodyMeta, piece: wire.Piece{Bytes: []byte{1}, Buf: object.NewBuffer(1)}, body: true})
		}
		add()
		s.leave()
		add()
	})
}

// TestFollowingGoesOn: after a cut, and after a peer that was away, the pushes
// come again; while nobody answers, it is asked ever less often.
func TestFollowingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noBuffersLeft(t, func() {
			r := newPushRig(t, nil)
			f := r.follow(Subscription{})
			defer r.close()
			defer f.Close()
			for i := range 5 {
				r.net.cut()
				time.Sleep(10 * time.Second)
				r.delta(t, there, "ams")
				synctest.Wait()
				wantPushes(t, fmt.Sprint("after cut ", i), r.sink.take(), "delta 1763712000:ams 1")
				if c := r.count.Stats(); c.Live != 1 || c.Ended != uint64(i+1) {
					t.Errorf("after cut %d: %+v", i, c)
				}
			}
			r.net.listen(nil)
			r.net.cut()
			dials := r.net.count()
			time.Sleep(10 * time.Minute)
			if n := r.net.count() - dials; n > 3*(600/2+20) {
				t.Errorf("%d dials in ten minutes", n)
			}
			if c := r.count.Stats(); c.Live != 0 {
				t.Errorf("while nobody is there: %+v", c)
			}
			r.serve(nil)
			time.Sleep(20 * time.Second)
			r.delta(t, there, "ams")
			synctest.Wait()
			wantPushes(t, "after ten minutes", r.sink.take(), "delta 1763712000:ams 1")
		})
	})
}

// TestPusherStops: Close ends the streams, so that the server can be shut down;
// those who followed do not storm it.
func TestPusherStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPushRig(t, nil)
		f := r.follow(Subscription{})
		r.pusher.Close()
		r.pusher.Close() // again does nothing
		time.Sleep(time.Minute)
		if s := r.pusher.Stats(); s.Subscribers != 0 || s.Refused == 0 || s.Refused > 40 {
			t.Errorf("in a minute: %+v", s)
		}
		began := time.Now()
		if err := r.srv.Shutdown(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("shutdown: %v after %v", err, time.Since(began))
		}
		f.Close()
		r.close()
	})
}

// TestFollowingOfAClosedPeer ends by itself.
func TestFollowingOfAClosedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPushRig(t, nil)
		f := r.follow(Subscription{})
		r.peer.Close()
		f.wg.Wait()
		f.Close()
		r.close()
	})
}

// TestManySubscribers: no more than the bound are served.
func TestManySubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPushRig(t, func(c *PushConfig) { c.Subscribers = 2 })
		a, b := r.follow(Subscription{}), r.follow(Subscription{})
		c := r.peer.Follow(Subscription{}, r.sink, &r.count)
		time.Sleep(time.Second)
		if s := r.pusher.Stats(); s.Subscribers != 2 || s.Refused == 0 {
			t.Errorf("%+v", s)
		}
		a.Close()
		<-c.Ready()
		b.Close()
		c.Close()
		r.close()
	})
}

// TestStrangersAreNotTold: users, other clusters' nodes and malformed
// subscriptions are refused.
func TestStrangersAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPushRig(t, nil)
		node := wire.Hello{Cluster: cluster, Node: wire.ID(here)}
		good := appendSubscription(nil, &Subscription{})
		for _, c := range []struct {
			claim string
			hello wire.Hello
			call  wire.Call
			want  object.Code
		}{
			{"a user", wire.Hello{Cluster: cluster}, wire.Call{Op: OpSubscribe, Class: wire.Tail, Meta: good}, object.CodeRefused},
			{"another class", node, wire.Call{Op: OpSubscribe, Class: wire.Get, Meta: good}, object.CodeBadRequest},
			{"a body", node, wire.Call{Op: OpSubscribe, Class: wire.Tail, Meta: good, Body: []wire.Piece{{Bytes: []byte{1}}}}, object.CodeBadRequest},
			{"malformed", node, wire.Call{Op: OpSubscribe, Class: wire.Tail, Meta: []byte{9, 9, 9}}, object.CodeBadRequest},
			{"nothing", node, wire.Call{Op: OpSubscribe, Class: wire.Tail}, object.CodeBadRequest},
			{"another operation", node, wire.Call{Op: OpSubscribe + 1, Class: wire.Tail, Meta: good}, object.CodeUnsupported},
		} {
			nc, err := r.net.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			conn, err := wire.NewConn(t.Context(), nc, wire.Config{Hello: c.hello})
			if err != nil {
				t.Fatal(err)
			}
			s, err := conn.Stream(t.Context(), &c.call)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Next(t.Context())
			want(t, c.claim, object.AsError(err), c.want, object.NotDone)
			s.Close()
			conn.Close()
		}
		if s := r.pusher.Stats(); s.Refused != 6 || s.Subscriptions != 0 {
			t.Errorf("%+v", s)
		}
		r.close()
	})
}

// A hostile is a server's handler that sends what it is given.
type hostile struct {
	mu       sync.Mutex
	attempts int
	meta     []byte
	body     []byte
	err      error
}

func (h *hostile) ServeWire(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	h.mu.Lock()
	h.attempts++
	h.mu.Unlock()
	if h.err != nil {
		return wire.Answer{}, h.err
	}
	if err := r.Send(h.meta, wire.Piece{Bytes: h.body}); err != nil {
		return wire.Answer{}, err
	}
	<-ctx.Done()
	return wire.Answer{}, ctx.Err()
}

// TestHostilePusher: what cannot be used ends the stream, reaches no hub, and is
// not asked for in a hurry; nor is a node that knows no subscriptions.
func TestHostilePusher(t *testing.T) {
	meta, row := deltaMessage(rowKey, someRow(t))
	for claim, h := range map[string]*hostile{
		"noise":           {meta: []byte{200, 1, 2, 3}, body: []byte("noise")},
		"no meta":         {body: []byte("x")},
		"a damaged delta": {meta: meta, body: append([]byte{9}, row[1:]...)},
		"a torn body":     {meta: bodyMeta, body: []byte("torn")},
		"an older node":   {err: object.Errorf(object.CodeUnsupported, object.NotDone, "what?")},
	} {
		t.Run(claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				noBuffersLeft(t, func() {
					r := newPushRig(t, nil)
					r.replace(serverFor(h, r.local))
					h.attempts = 0
					f := r.peer.Follow(Subscription{Bodies: true}, r.sink, &r.count)
					time.Sleep(20 * time.Second)
					f.Close()
					r.net.cut()
					if h.attempts < 5 || h.attempts > 40 {
						t.Errorf("%d attempts in twenty seconds", h.attempts)
					}
					c := r.count.Stats()
					if got := r.sink.take(); len(got) > 0 || c.Deltas+c.Bodies != 0 || c.Live != 0 || (c.Malformed == 0) != (h.err != nil) {
						t.Errorf("got %q, counted %+v", got, c)
					}
					r.close()
				})
			})
		})
	}
}
