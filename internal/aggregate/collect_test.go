package aggregate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

func TestAdmission(t *testing.T) {
	now := int64(second1)
	tests := []struct {
		name   string
		epoch  int64
		reason Reason // numReasons: taken in
	}{
		{"this second", now, numReasons},
		{"the second before", now - 1, numReasons},
		{"an hour ago", now - 3600, numReasons},
		{"the oldest there is", now - 864000 + 1, numReasons},
		{"ten days ago", now - 864000, TooOld},
		{"last month", now - 30*86400, TooOld},
		{"1970", 1, TooOld},
		{"as far ahead as allowed", now + 10, numReasons},
		{"one more", now + 11, TooFarAhead},
		{"the year 9999", 253402300799, TooFarAhead},
		{"the end of time", event.MaxEpoch, TooFarAhead},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.at(1000 * ms)
			r.send(envelope(tt.epoch, 7))
			if tt.reason < numReasons {
				if r.counters.Dropped(tt.reason) != 1 || r.counters.DroppedTotal() != 1 || r.counters.Events.Load() != 0 {
					t.Errorf("dropped as %v: %d of %d", tt.reason, r.counters.Dropped(tt.reason), r.counters.DroppedTotal())
				}
				if len(r.c.dcs) != 1 || len(r.c.open) != 0 {
					t.Error("a dropped event left something behind")
				}
				return
			}
			r.at(15 * time.Second)
			wantEvents(t, r, map[string][]byte{fmt.Sprintf("+%d eu WEB:app", tt.epoch-epoch0): {7}})
		})
	}
}

// TestHostileDatagrams: each is counted under its reason, nothing of it stays,
// and what is right in the same datagram is taken.
func TestHostileDatagrams(t *testing.T) {
	deep := append(slices.Repeat([]byte{0x81, 0xa1, 'a'}, 40), 0xc0)
	deepEvent := append([]byte{0x83, 0xa4, 't', 'y', 'p', 'e', 0xa1, 'W', 0xa7, 's', 'u', 'b', 't', 'y', 'p', 'e', 0xa1, 'a', 0xa5, 'e', 'v', 'e', 'n', 't'}, deep...)
	good := envelope(0, 9)
	tests := []struct {
		name     string
		datagram []byte
		reason   Reason
		dropped  int64
		taken    int64
	}{
		{"empty", nil, Empty, 1, 0},
		{"white space", []byte(" \n\t "), Empty, 1, 0},
		{"truncated msgpack", good[:len(good)-1], BadMsgpack, 1, 0},
		{"a good one, then a truncated one", append(slices.Clone(good), good[:9]...), BadMsgpack, 1, 1},
		{"no map", []byte{0x93, 1, 2, 3}, BadEnvelope, 1, 0},
		{"nested too deep", deepEvent, BadMsgpack, 1, 0},
		{"a map of four billion", []byte{0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, 'a'}, BadMsgpack, 1, 0},
		{"a string of four billion", []byte{0x81, 0xa1, 'a', 0xdb, 0xff, 0xff, 0xff, 0xff}, BadMsgpack, 1, 0},
		{"64 KB of 0xff", slices.Repeat([]byte{0xff}, 65507), BadEnvelope, 1, 0},
		{"64 KB of 0xc1", slices.Repeat([]byte{0xc1}, 65507), BadEnvelope, 1, 0},
		{"64 KB of open maps", slices.Repeat([]byte{0x8f}, 65507), BadMsgpack, 1, 0},
		{"64 KB of huge maps", slices.Repeat([]byte{0xdf}, 65507), BadMsgpack, 1, 0},
		{"64 KB of {", slices.Repeat([]byte{'{'}, 65507), BadJSON, 1, 0},
		{"a type with a colon", envelopeOf(0, "", "A:B", "app", 1), BadEnvelope, 1, 0},
		{"a subtype of 65 bytes", envelopeOf(0, "", "A", strings.Repeat("x", 65), 1), BadEnvelope, 1, 0},
		{"a dc with a slash", envelopeOf(0, "../x", "A", "b", 1), BadEnvelope, 1, 0},
		{"no type", []byte(`{"subtype":"a","event":{}}`), BadEnvelope, 1, 0},
		{"an event that is no map", []byte(`{"type":"A","subtype":"a","event":[1]}`), BadEnvelope, 1, 0},
		{"epoch 0", []byte(`{"type":"A","subtype":"a","epoch":0,"event":{}}`), BadEnvelope, 1, 0},
		{"a negative epoch", []byte(`{"type":"A","subtype":"a","epoch":-5,"event":{}}`), BadEnvelope, 1, 0},
		{"an epoch of 1e300", []byte(`{"type":"A","subtype":"a","epoch":1e300,"event":{}}`), BadEnvelope, 1, 0},
		{"two lines of JSON, one broken", []byte("{\"type\":\"A\n{\"type\":\"A\",\"subtype\":\"a\",\"event\":{}}"), BadJSON, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.send(tt.datagram)
			if got := r.counters.Dropped(tt.reason); got != tt.dropped || r.counters.DroppedTotal() != tt.dropped {
				t.Errorf("%d dropped as %v, %d in all; want %d", got, tt.reason, r.counters.DroppedTotal(), tt.dropped)
			}
			if got := r.counters.Events.Load(); got != tt.taken {
				t.Errorf("%d events taken in, want %d", got, tt.taken)
			}
			if r.counters.Datagrams.Load() != 1 {
				t.Error("the datagram was not counted")
			}
			r.check()
		})
	}
}

func TestUnknownMembersAreCounted(t *testing.T) {
	r := newRig(t, nil)
	r.send([]byte(`{"type":"A","subtype":"a","event":{},"host":"x","level":3}`))
	if r.counters.Events.Load() != 1 || r.counters.UnknownMembers.Load() != 2 {
		t.Errorf("%d events, %d unknown members; want 1, 2", r.counters.Events.Load(), r.counters.UnknownMembers.Load())
	}
}

// TestLargeSecond: builders are sealed before their time, every chunk stays below
// its bound, and the final covers them all.
func TestLargeSecond(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	random := newNoise()
	const events = 1200
	for range events {
		r.send(random.envelope(4000)) // does not compress
	}
	r.at(2500 * ms)
	if got := r.counters.EarlySeals.Load(); got != 1 {
		t.Errorf("%d early seals of 5 MB, want 1", got)
	}
	for key, value := range r.store.blobs {
		if len(value) >= event.MaxChunkBytes {
			t.Errorf("%s has %d bytes", key, len(value))
		}
	}
	if len(r.store.blobs) < events*4000/event.MaxChunkBytes || r.counters.EventsAcknowledged.Load() != events {
		t.Errorf("%d blobs, %d events acknowledged", len(r.store.blobs), r.counters.EventsAcknowledged.Load())
	}
	s := r.store.rows[event.IndexKey{Epoch: second1, DC: "eu"}].Sections[0]
	if s.Final == nil || *s.Final != index.FinalOf(&s) {
		t.Errorf("final %+v, entries give %+v", s.Final, index.FinalOf(&s))
	}
}

// TestMemoryIsBounded: with the store down, events are taken in until the bound
// is reached, then the newest are shed; everything taken in is stored later.
func TestMemoryIsBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxBufferedBytes = 1 << 20 })
	r.at(1000 * ms)
	down := errors.New("down")
	r.store.fail = func(string) error { return down }
	random := newNoise()
	for i := range 2000 {
		r.at(time.Second + time.Duration(i)*ms)
		r.send(random.envelope(1000))
		r.check()
	}
	taken, shed := r.counters.Events.Load(), r.counters.Dropped(Overload)
	if taken+shed != 2000 || shed == 0 || taken < 500 {
		t.Errorf("%d taken in, %d shed", taken, shed)
	}
	if r.counters.EarlySeals.Load() == 0 {
		t.Error("nothing was sealed early")
	}
	r.store.fail = nil
	r.at(60 * time.Second)
	if got := r.counters.EventsAcknowledged.Load(); got != taken {
		t.Errorf("%d events acknowledged, %d were taken in", got, taken)
	}
	if r.c.buffered != 0 || r.counters.BufferedBytes.Load() != 0 {
		t.Errorf("%d bytes still held", r.c.buffered)
	}
	r.send(envelope(0, 1))
	if r.counters.Dropped(Overload) != shed {
		t.Error("still shedding after the backlog was stored")
	}
}

func TestGroupsAreBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxGroups = 8 })
	r.at(1000 * ms)
	for i := range 20 {
		r.send(envelopeOf(epoch0-int64(i)-100, "", "A", "a", byte(i))) // late ones may have a quarter
	}
	if got := r.counters.Dropped(TooManyGroups); got != 18 {
		t.Errorf("%d late groups refused, want 18", got)
	}
	for i := range 20 {
		r.send(envelopeOf(0, "", "A", fmt.Sprint(i), byte(i)))
	}
	if got := r.counters.Dropped(TooManyGroups); got != 18+14 {
		t.Errorf("%d groups refused, want 32", got)
	}
	r.send(envelopeOf(0, "", "A", "0", 99)) // there already
	if got := r.counters.Events.Load(); got != 9 {
		t.Errorf("%d events taken in, want 9", got)
	}
	r.at(3 * time.Second)
	r.send(envelopeOf(0, "", "A", "new", 1))
	r.send(envelopeOf(epoch0-100, "", "A", "a", 1), envelopeOf(epoch0-101, "", "A", "a", 1))
	if got := r.counters.Events.Load(); got != 12 {
		t.Error("no room after the groups were sealed")
	}
}

// TestSealingKeepsTheBound: blobs have headers, which builders have not; the
// bound holds all the same when memory is full of what does not compress.
func TestSealingKeepsTheBound(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.MaxBufferedBytes = minBuffered
		o.Writer = strings.Repeat("w", object.MaxNameBytes)
	})
	r.at(1000 * ms)
	r.store.fail = func(string) error { return errors.New("down") }
	random := newNoise()
	for _, size := range []int{60_000, 1000, 10} { // to the brim
		for full := r.counters.Dropped(Overload) + 1; r.counters.Dropped(Overload) < full; {
			r.send(random.envelope(size))
		}
	}
	r.at(3 * time.Second)
	if full := r.c.buffered; full < minBuffered*99/100 {
		t.Errorf("%d bytes held: the memory was not full", full)
	}
}

// TestStampsAscend: a second's later chunks have later timestamps than those its
// final counts, though they were sealed at the same instant; a clock that was set
// back far resets them.
func TestStampsAscend(t *testing.T) {
	r := newRig(t, nil)
	var last int64
	for i := range 100 {
		r.c.now = r.now
		_ = r.c.take(event.Envelope{Type: []byte("A"), Subtype: fmt.Append(nil, i), Event: []byte{0x80}})
		g := r.c.open[0]
		r.c.seal(g, r.now)
		if g.stamp <= last {
			t.Fatalf("timestamp %d after %d", g.stamp, last)
		}
		last = g.stamp
	}
	r.now = r.now.Add(-time.Hour)
	r.c.now = r.now
	_ = r.c.take(event.Envelope{Type: []byte("A"), Subtype: []byte("b"), Event: []byte{0x80}})
	g := r.c.open[0]
	r.c.seal(g, r.now)
	if g.stamp != r.now.UnixMicro() {
		t.Errorf("timestamp %d an hour ahead of the clock", g.stamp-r.now.UnixMicro())
	}
}
