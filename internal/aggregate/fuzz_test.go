package aggregate

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/aggregate/generate"
)

// FuzzCore feeds a core with datagrams, and time between them, as the input says:
// whatever comes, its invariants hold, nothing is lost without being counted, and
// it comes to rest.
//
// The input is a sequence of up to 50 steps: 2 bytes of milliseconds to wait,
// modulo 4096, 2 bytes of length, and so many bytes of a datagram.
func FuzzCore(f *testing.F) {
	step := func(waitMillis int, datagram []byte) []byte {
		b := binary.LittleEndian.AppendUint16(nil, uint16(waitMillis))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(datagram)))
		return append(b, datagram...)
	}
	good := envelope(0, 1)
	g := generate.NewGenerator(1)
	ev, _ := g.Next()
	f.Add([]byte{})
	f.Add(step(0, good))
	f.Add(append(step(700, good), step(2000, envelope(epoch0+1, 2))...))
	f.Add(step(10, good[:len(good)-1]))
	f.Add(step(10, generate.JSON.AppendEnvelope(nil, ev, generate.Tags{Epoch: epoch0, DC: "us"})))
	f.Add(step(10, generate.Msgpack.AppendEnvelope(nil, ev, generate.Tags{Epoch: epoch0 - 100, DC: "eu"})))
	f.Add(step(10, []byte{0xdf, 0xff, 0xff, 0xff, 0xff}))
	f.Add(step(10, envelope(253402300799, 1)))
	f.Fuzz(func(t *testing.T, input []byte) {
		r := newRig(t, func(o *Options) { o.MaxBufferedBytes, o.MaxGroups, o.MaxDCs = minBuffered, 16, 2 })
		elapsed := begin.Sub(time.Unix(epoch0, 0))
		for steps := 0; len(input) >= 4 && steps < 50; steps++ {
			elapsed += time.Duration(binary.LittleEndian.Uint16(input)%4096) * ms
			n := min(int(binary.LittleEndian.Uint16(input[2:])), len(input)-4)
			r.at(elapsed)
			r.send(input[4 : 4+n])
			r.check()
			input = input[4+n:]
		}
		r.stop()
		r.at(elapsed + time.Minute)
		if !r.c.idle() || r.c.buffered != 0 {
			t.Fatalf("at rest: idle %v, %d bytes held", r.c.idle(), r.c.buffered)
		}
		taken, acknowledged := r.counters.Events.Load(), r.counters.EventsAcknowledged.Load()
		stored := int64(0)
		for _, events := range r.store.events(t) {
			stored += int64(len(events))
		}
		if acknowledged != taken || stored != taken {
			t.Fatalf("%d events taken in, %d acknowledged, %d stored", taken, acknowledged, stored)
		}
	})
}
