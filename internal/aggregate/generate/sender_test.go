package generate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/event"
)

// A wire keeps the datagrams written to it, with the time.
type wire struct {
	datagrams [][]byte
	times     []time.Time
	err       error // instead of taking one
}

func (w *wire) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.datagrams = append(w.datagrams, bytes.Clone(b))
	w.times = append(w.times, time.Now())
	return len(b), nil
}

// envelopes parses what was written.
func (w *wire) envelopes(t *testing.T) (n int, epochs map[int64]int) {
	t.Helper()
	epochs = make(map[int64]int)
	var scratch event.Scratch
	for _, d := range w.datagrams {
		if err := event.ParseDatagram(d, &scratch, func(env event.Envelope) error {
			n++
			epochs[env.Epoch]++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return n, epochs
}

func newSender(t *testing.T, w io.Writer, o SenderOptions) *Sender {
	t.Helper()
	s, err := NewSender(w, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSenderPaces: in ten seconds ten seconds' worth, evenly, each event tagged
// with the second it is sent in, no datagram over its bound, all of it counted.
func TestSenderPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wire
		s := newSender(t, &w, SenderOptions{EventsPerSecond: 1000, DC: "eu"})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		if err := s.Run(ctx, NewGenerator(1)); err != nil {
			t.Fatal(err)
		}
		n, epochs := w.envelopes(t)
		if n != 10_000 {
			t.Errorf("%d events in ten seconds", n)
		}
		start := w.times[0].Unix()
		for e := start; e < start+10; e++ {
			if got := epochs[e]; got < 990 || got > 1010 {
				t.Errorf("%d events of second +%d", got, e-start)
			}
		}
		bytes := 0
		for i, d := range w.datagrams {
			if bytes += len(d); len(d) > DefaultDatagramBytes {
				t.Errorf("a datagram of %d bytes", len(d))
			}
			if i > 0 && w.times[i].Sub(w.times[i-1]) > 2*sendEvery {
				t.Errorf("nothing sent for %v", w.times[i].Sub(w.times[i-1]))
			}
		}
		c := s.Counters()
		if c.Events.Load() != int64(n) || c.Datagrams.Load() != int64(len(w.datagrams)) || c.Bytes.Load() != int64(bytes) ||
			c.TooLarge.Load()+c.Failed.Load()+c.Skipped.Load() != 0 {
			t.Errorf("counted %d events, %d datagrams, %d bytes", c.Events.Load(), c.Datagrams.Load(), c.Bytes.Load())
		}
	})
}

// TestSenderPacks: flat out, datagrams are as full as the bound allows.
func TestSenderPacks(t *testing.T) {
	for _, o := range []SenderOptions{{}, {Encoding: JSON}, {MaxDatagramBytes: 8900}, {OmitEpoch: true}} {
		var w wire
		s := newSender(t, &w, o)
		if err := s.Run(t.Context(), First(NewGenerator(1), flatOut*20)); err != nil {
			t.Fatal(err)
		}
		n, epochs := w.envelopes(t)
		if n != flatOut*20 {
			t.Errorf("%+v: %d events sent", o, n)
		}
		if _, absent := epochs[0]; absent != o.OmitEpoch {
			t.Errorf("%+v: epochs %v", o, epochs)
		}
		bound := max(o.MaxDatagramBytes, DefaultDatagramBytes)
		full := 0
		for _, d := range w.datagrams {
			if len(d) > bound && strings.Count(string(d), "subtype") > 1 {
				t.Errorf("%+v: a datagram of %d bytes with several events", o, len(d))
			}
			if len(d) > bound/2 {
				full++
			}
		}
		if full < len(w.datagrams)*8/10 {
			t.Errorf("%+v: %d of %d datagrams are at least half full", o, full, len(w.datagrams))
		}
	}
}

// bodies is a Source of events with bodies of these sizes.
type bodies []int

func (b *bodies) Next() (Event, error) {
	if len(*b) == 0 {
		return Event{}, io.EOF
	}
	var p packer
	p.mapOf(1)
	p.member("s", strings.Repeat("x", (*b)[0]))
	*b = (*b)[1:]
	return Event{Type: "A", Subtype: "a", Body: p.b}, nil
}

// TestLargeEvents: over the bound an event goes alone; one that no datagram can
// carry is counted and the others are sent.
func TestLargeEvents(t *testing.T) {
	var w wire
	s := newSender(t, &w, SenderOptions{OmitEpoch: true})
	if err := s.Run(t.Context(), &bodies{10, 5000, 10, 70_000, 10, 65_450}); err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, d := range w.datagrams {
		sizes = append(sizes, strings.Count(string(d), "subtype"))
	}
	if n, _ := w.envelopes(t); n != 5 || len(sizes) != 4 || sizes[2] != 2 {
		t.Errorf("%d events in datagrams of %v", n, sizes)
	}
	if c := s.Counters(); c.TooLarge.Load() != 1 || c.Events.Load() != 5 {
		t.Errorf("%d too large, %d sent", c.TooLarge.Load(), c.Events.Load())
	}
}

// TestSenderSurvivesRefusals: producers do not stop because nobody listens.
func TestSenderSurvivesRefusals(t *testing.T) {
	w := wire{err: syscall.ECONNREFUSED}
	s := newSender(t, &w, SenderOptions{})
	if err := s.Run(t.Context(), First(NewGenerator(1), 100)); err != nil {
		t.Fatal(err)
	}
	if c := s.Counters(); c.Failed.Load() != 100 || c.Events.Load() != 0 || !errors.Is(s.LastError(), syscall.ECONNREFUSED) {
		t.Errorf("%d failed, %d sent, %v", c.Failed.Load(), c.Events.Load(), s.LastError())
	}
	w.err = net.ErrClosed
	if err := s.Run(t.Context(), NewGenerator(1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("on a closed socket: %v", err)
	}
}

// TestSenderTellsOfTheSource: its error ends the run, after what came before.
func TestSenderTellsOfTheSource(t *testing.T) {
	r, err := OpenReplay(false, files(t, map[string]string{"a.ndjson": line("A", "1") + "broken\n"}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var w wire
	s := newSender(t, &w, SenderOptions{})
	err = s.Run(t.Context(), r)
	if at, ok := errors.AsType[*LineError](err); !ok || at.Line != 2 {
		t.Errorf("error %v", err)
	}
	if n, _ := w.envelopes(t); n != 1 {
		t.Errorf("%d events sent", n)
	}
}

func TestPacer(t *testing.T) {
	tests := []struct {
		name    string
		rate    float64
		at      []time.Duration
		due     []int64
		skipped int64
	}{
		{"even", 1000, []time.Duration{0, 5e6, 10e6, 1e9}, []int64{0, 5, 5, 990}, 0},
		{"slower than the bursts", 0.5, []time.Duration{0, 1e9, 2e9, 3e9, 4e9}, []int64{0, 0, 1, 0, 1}, 0},
		{"after a stall of a minute a second's worth", 100, []time.Duration{1e9, 61e9, 62e9}, []int64{100, 100, 100}, 5900},
		{"flat out", 0, []time.Duration{0, 0}, []int64{flatOut, flatOut}, 0},
		{"after a year", 1e6, []time.Duration{365 * 24 * time.Hour}, []int64{1e6}, 365*24*3600*1e6 - 1e6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pacer{perSecond: tt.rate}
			skipped := int64(0)
			for i, at := range tt.at {
				n, s := p.due(at)
				if skipped += s; n != tt.due[i] {
					t.Errorf("at %v: %d due, want %d", at, n, tt.due[i])
				}
			}
			if skipped != tt.skipped {
				t.Errorf("%d skipped, want %d", skipped, tt.skipped)
			}
		})
	}
}

func TestSenderOptions(t *testing.T) {
	err := SenderOptions{EventsPerSecond: math.NaN(), MaxDatagramBytes: 70000, Encoding: 9, DC: "a b"}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"rate of NaN", "datagrams of 70000", "encoding number 9", `dc "a b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not name %q: %v", want, err)
		}
	}
	if _, err := NewSender(io.Discard, SenderOptions{EventsPerSecond: -1}); err == nil {
		t.Error("a negative rate is taken")
	}
}

func TestDialRefuses(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:seven", "127.0.0.1:0", ""} {
		if _, err := Dial(addr); err == nil || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
