package tail

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// What is erased is not delivered, also when it is found out only on reading.
func TestErased(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		now := time.Now().Unix()
		gone, there := blobKey(now, "ams", "web", 0), blobKey(now, "ams", "web", 1)
		rec := record(agg1, gone, "v")
		_, delta, _ := index.DeltaOf(&rec.Header)
		publish(h, m.add(gone.Index(), delta)) // without its body
		rec.Release()
		m.erase(gone)
		publish(h, m.put(agg1, there, "v"))
		item := next(t, s, time.Second)
		if got := describe(&item); got != "blob "+there.String() {
			t.Errorf("got %s", got)
		}
		item.Release()
		time.Sleep(time.Minute)
		for _, withoutBodies := range []bool{false, true} {
			s := subscribe(t, h, Options{From: now, WithoutBodies: withoutBodies})
			if items := collect(t, s, time.Second); contains(items, "blob") != 1 || contains(items, "gap") != 0 {
				t.Errorf("got %v", items)
			}
		}
	})
}

// What the index names and nobody can read is told, after some attempts; what
// passes is waited for.
func TestUnreadableBodies(t *testing.T) {
	for _, row := range []struct {
		code object.Code
		gap  bool
	}{
		{object.CodeAbsent, true}, {object.CodeCorrupt, true}, {object.CodeExpired, true},
		{object.CodeUnavailable, false}, {object.CodeOverload, false},
	} {
		t.Run(row.code.String(), func(t *testing.T) {
			inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
				until := time.Now().Add(30 * time.Second)
				m.getErr = func(event.Key) error {
					if time.Now().Before(until) {
						return object.Errorf(row.code, object.Done, "no")
					}
					return nil
				}
				s := subscribe(t, h, Options{})
				key := blobKey(time.Now().Unix(), "ams", "web", 0)
				m.put(agg1, key, "v") // no push: it is read
				item := next(t, s, 40*time.Second)
				switch {
				case row.gap && (item.Kind != KindGap || item.Gap.Key != key || !errors.Is(item.Gap.Err, row.code)):
					t.Errorf("got %s", describe(&item))
				case !row.gap && (item.Kind != KindBlob || time.Now().Before(until)):
					t.Errorf("got %s", describe(&item))
				}
				item.Release()
			})
		})
	}
}

// Who resumes after his data has expired is told of the gap and goes on from what
// is left.
func TestExpiredSeconds(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		start := time.Now().Unix()
		script(m, h, 60, 1)
		horizon := start + 20
		m.rowErr = func(k event.IndexKey) error {
			if k.Epoch < horizon {
				return object.Errorf(object.CodeExpired, object.Done, "expired")
			}
			return nil
		}
		s := subscribe(t, h, Options{From: start - 1_000_000, WithoutBodies: true})
		item := next(t, s, time.Second)
		if item.Kind != KindGap || item.Gap.First != start-1_000_000 || item.Gap.Last != horizon-1 || item.Low != horizon {
			t.Errorf("got %s", describe(&item))
		}
		if low := cursorOf(t, s).Low(); low != horizon {
			t.Errorf("the cursor is at %d", low-start)
		}
		items := collect(t, s, time.Second)
		if got := contains(items, "blob"); got != 41 { // start+20 to start+60
			t.Errorf("%d blobs", got)
		}
	})
}

// Two values under one key, from a partial put that met another: each is
// delivered once, by what can be read.
func TestTwoClaimsToOneKey(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		s := subscribe(t, h, Options{})
		key := blobKey(time.Now().Unix(), "ams", "web", 0)
		publish(h, m.put(agg1, key, "first"))
		item := next(t, s, time.Millisecond)
		item.Release()
		time.Sleep(time.Millisecond)
		m.put(agg2, key, "second") // found in the index
		item = next(t, s, 2*time.Second)
		if got := string(item.Blob.Record.Value()); got != "second" {
			t.Errorf("got %q", got)
		}
		item.Release()
		// Both entries lead to the same body, in the window and in the past.
		for _, pause := range []time.Duration{0, time.Minute} {
			time.Sleep(pause)
			newcomer := subscribe(t, h, Options{From: key.Epoch})
			if items := collect(t, newcomer, time.Second); contains(items, "blob") != 1 {
				t.Errorf("after %v a newcomer got %v", pause, items)
			}
			newcomer.Close()
		}
	})
}

// While replicas disagree about two claims to a key, one read may give the one value
// and the next read the other: one of them is delivered all the same, and none twice
// unless the entries are further apart than a cursor remembers.
func TestTwoClaimsWhileReplicasDisagree(t *testing.T) {
	for _, secondsApart := range []int64{0, 12, 40} {
		for order := range 16 { // which value each of four reads gives
			inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
				s := subscribe(t, h, Options{})
				key := blobKey(time.Now().Unix(), "ams", "web", 0)
				values := [2]object.Record{record(agg1, key, "first"), record(agg2, key, "second")}
				reads := 0
				m.getNow = func() object.Record {
					rec := values[order>>min(reads, 3)&1]
					reads++
					return rec.Retain()
				}
				for i := range values {
					ikey, delta, err := index.DeltaOf(&values[i].Header)
					if err != nil {
						t.Fatal(err)
					}
					for _, u := range m.add(ikey, delta) {
						u.Bodies = nil
						h.Publish(u)
					}
					if secondsApart > 0 && i == 0 {
						time.Sleep(time.Duration(secondsApart) * time.Second)
					}
				}
				got := map[string]int{}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				for {
					item, err := s.Next(ctx)
					if err != nil {
						break
					}
					if item.Kind == KindBlob {
						got[string(item.Blob.Record.Value())]++
					}
					item.Release()
				}
				if twice := got["first"] > 1 || got["second"] > 1; len(got) == 0 || twice && secondsApart < 40 {
					t.Errorf("%d s apart, reads %04b: %v", secondsApart, order, got)
				}
				for i := range values {
					values[i].Release()
				}
			})
		}
	}
}

// With a TTL shorter than the window its rows expire under it: there is nothing
// more to wait for, and the window goes on.
func TestRowsExpireInTheWindow(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, m *memStore, h *Hub) {
		m.rowErr = func(k event.IndexKey) error {
			if k.Epoch < time.Now().Unix()-15 {
				return object.Errorf(object.CodeExpired, object.Done, "expired")
			}
			return nil
		}
		start := time.Now().Unix()
		s := subscribe(t, h, Options{WithoutBodies: true})
		items := collect(t, s, time.Minute)
		if low := cursorOf(t, s).Low(); low < start+35 || contains(items, "gap") > 0 {
			t.Errorf("the cursor is at %d: %v", low-start, items)
		}
	})
}
