package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflydb/mayfly/event"
)

const (
	// DefaultDatagramBytes is the payload that fits one Ethernet frame whatever
	// tunnel it goes through: a datagram in fragments is lost when one of them is.
	DefaultDatagramBytes = 1400
	// MaxDatagramBytes is the payload of the largest UDP datagram over IPv4.
	MaxDatagramBytes = 65507

	sendEvery  = 5 * time.Millisecond // between two bursts
	maxCatchUp = time.Second          // of events sent at once after a stall; the rest are never sent
)

// SenderOptions say how a Sender sends. The zero value is ready for use.
type SenderOptions struct {
	EventsPerSecond  float64  // 0 = as fast as the socket takes them
	MaxDatagramBytes int      // payload, bytes; 0 = DefaultDatagramBytes
	Encoding         Encoding // of the envelopes
	DC               string   // tag of every event; empty leaves it to the receiver
	OmitEpoch        bool     // leave the second to the receiver's clock, not to this one
}

// Validate reports all that is wrong with the options.
func (o SenderOptions) Validate() error {
	var faults []error
	if !(o.EventsPerSecond >= 0 && o.EventsPerSecond <= 1e9) { // NaN too
		faults = append(faults, fmt.Errorf("a rate of %v events/s: give 0, for as fast as possible, up to 1,000,000,000", o.EventsPerSecond))
	}
	if o.MaxDatagramBytes < 0 || o.MaxDatagramBytes > MaxDatagramBytes {
		faults = append(faults, fmt.Errorf("datagrams of %d bytes: give 1 to %d, or 0 for %d", o.MaxDatagramBytes, MaxDatagramBytes, DefaultDatagramBytes))
	}
	if o.Encoding != Msgpack && o.Encoding != JSON {
		faults = append(faults, fmt.Errorf("encoding number %d is not known", o.Encoding))
	}
	if o.DC != "" && !event.ValidName(o.DC) {
		faults = append(faults, fmt.Errorf("dc %q: give 1 to %d of the characters A-Z a-z 0-9 _ . -", o.DC, event.MaxNameBytes))
	}
	return errors.Join(faults...)
}

// SenderCounters count what a Sender did. Any goroutine may read them at any
// time. Sent means handed to the socket: UDP promises no more.
type SenderCounters struct {
	Events    atomic.Int64 // sent
	Datagrams atomic.Int64 // sent
	Bytes     atomic.Int64 // of payload, sent
	TooLarge  atomic.Int64 // events that fit no datagram; not sent
	Failed    atomic.Int64 // events in datagrams the socket refused; not sent
	Skipped   atomic.Int64 // events the rate asked for during a stall and that were never made
}

// A Sender packs events into datagrams and sends them at an even rate: each
// datagram as full as its bound allows, none held back longer than a burst, an
// event that exceeds the bound alone in its own.
type Sender struct {
	o        SenderOptions
	w        io.Writer
	counters SenderCounters

	datagram []byte // the one being filled; never over the bound once there are two events in it
	events   int64  // in it
	envelope []byte

	mu      sync.Mutex
	lastErr error // of the socket
}

// NewSender returns a Sender that writes one datagram a Write to w, a connected
// UDP socket.
func NewSender(w io.Writer, o SenderOptions) (*Sender, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.MaxDatagramBytes == 0 {
		o.MaxDatagramBytes = DefaultDatagramBytes
	}
	return &Sender{o: o, w: w}, nil
}

// Dial opens a socket that sends to addr, host:port. Nothing is sent yet: UDP
// does not tell whether anybody listens.
func Dial(addr string) (*net.UDPConn, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err == nil && udp.Port == 0 {
		err = errors.New("there is no port 0")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot send to %q: write host:port, such as 127.0.0.1:7071: %w", addr, err)
	}
	conn, err := net.DialUDP("udp", nil, udp)
	if err != nil {
		return nil, fmt.Errorf("cannot send to %s: %w", addr, err)
	}
	return conn, nil
}

// Counters returns the Sender's counters.
func (s *Sender) Counters() *SenderCounters { return &s.counters }

// LastError returns why the socket refused a datagram last, nil if it never did.
// A refused datagram is counted and sending goes on, as producers do: they do
// not wait for their collectors. Any goroutine may call it.
func (s *Sender) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// Run sends the events of source until it ends, ctx ends or the socket is
// closed; the first two are no error. After a stall it catches up with a
// second's events at most. Only one Run at a time.
func (s *Sender) Run(ctx context.Context, source Source) error {
	pace := pacer{perSecond: s.o.EventsPerSecond}
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			now := time.Now()
			due, skipped := pace.due(now.Sub(start))
			s.counters.Skipped.Add(skipped)
			err := s.burst(source, due, now)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			timer.Reset(pace.wait())
		}
	}
}

// burst sends n events of source, none of them later than the call.
func (s *Sender) burst(source Source, n int64, now time.Time) error {
	tags := Tags{DC: s.o.DC}
	if !s.o.OmitEpoch {
		tags.Epoch = now.Unix()
	}
	for range n {
		ev, err := source.Next()
		if err == nil {
			err = s.add(ev, tags)
		}
		if err != nil {
			return errors.Join(err, s.flush())
		}
	}
	return s.flush()
}

// add puts one event into the datagram, sending what does not fit with it.
func (s *Sender) add(ev Event, tags Tags) error {
	s.envelope = s.o.Encoding.AppendEnvelope(s.envelope[:0], ev, tags)
	if len(s.envelope) > MaxDatagramBytes {
		s.counters.TooLarge.Add(1)
		return nil
	}
	if len(s.datagram)+len(s.envelope) > s.o.MaxDatagramBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.datagram = append(s.datagram, s.envelope...)
	s.events++
	return nil
}

// flush sends the datagram, if there is anything in it.
func (s *Sender) flush() error {
	if s.events == 0 {
		return nil
	}
	_, err := s.w.Write(s.datagram)
	if err == nil {
		s.counters.Events.Add(s.events)
		s.counters.Datagrams.Add(1)
		s.counters.Bytes.Add(int64(len(s.datagram)))
	} else {
		s.counters.Failed.Add(s.events)
		s.mu.Lock()
		s.lastErr = err
		s.mu.Unlock()
	}
	s.datagram, s.events = s.datagram[:0], 0
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// A pacer says how many events are due.
type pacer struct {
	perSecond float64 // 0 = any number
	given     int64   // events that were due so far, skipped ones included
}

// flatOut is a burst without a rate: short enough to see ctx end and the second
// change.
const flatOut = 64 // events

// due is how many events to send now, elapsed after the start, and how many will
// never be sent because the last call was too long ago.
func (p *pacer) due(elapsed time.Duration) (n, skipped int64) {
	if p.perSecond == 0 {
		return flatOut, 0
	}
	total := int64(p.perSecond * elapsed.Seconds())
	n = total - p.given
	p.given = total
	most := max(1, int64(p.perSecond*maxCatchUp.Seconds()))
	if n > most {
		n, skipped = most, n-most
	}
	return n, skipped
}

// wait is how long to wait before the next burst.
func (p *pacer) wait() time.Duration {
	if p.perSecond == 0 {
		return 0
	}
	return sendEvery
}
