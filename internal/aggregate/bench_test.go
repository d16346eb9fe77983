package aggregate

import (
	"fmt"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/aggregate/generate"
)

// BenchmarkPipeline is what one core does for an event: parsing its datagram,
// collecting it, and its share of sealing the blobs: 100,000 events a second,
// 250 blobs, as generated, in datagrams of 1,400 bytes. One iteration is one
// event.
func BenchmarkPipeline(b *testing.B) {
	for _, encoding := range []generate.Encoding{generate.Msgpack, generate.JSON} {
		b.Run(encoding.String(), func(b *testing.B) { benchmarkPipeline(b, encoding, true) })
	}
}

// BenchmarkCollect is BenchmarkPipeline without sealing.
func BenchmarkCollect(b *testing.B) {
	for _, encoding := range []generate.Encoding{generate.Msgpack, generate.JSON} {
		b.Run(encoding.String(), func(b *testing.B) { benchmarkPipeline(b, encoding, false) })
	}
}

const benchEventsPerSecond = 100_000

func benchmarkPipeline(b *testing.B, encoding generate.Encoding, seal bool) {
	datagrams, events, bytes := benchDatagrams(encoding)
	r := newRig(b, func(o *Options) { o.MaxBufferedBytes = 1 << 30 })
	now := begin
	inSecond, next, raw := 0, 0, int64(0)
	endSecond := func() {
		now = now.Add(time.Second)
		r.c.tick(now)
		for g := r.c.takeJob(); g != nil; g = r.c.takeJob() {
			if !seal {
				g.builder.Reset()
				r.c.sealed(g, nil)
				continue
			}
			r.c.sealed(g, r.sealer.seal(g))
		}
		for batch := r.c.takeBatch(now); batch != nil; batch = r.c.takeBatch(now) {
			r.c.batchDone(now, batch, make([]error, len(batch)))
		}
		for o := r.c.takeOp(now); o != nil; o = r.c.takeOp(now) {
			r.c.opDone(now, o, nil)
		}
		inSecond = 0
	}
	for range 4 { // until the buffers have grown
		for _, d := range datagrams {
			r.c.datagram(now, d)
		}
		endSecond()
	}
	b.ReportAllocs()
	left := 0
	for b.Loop() {
		if left == 0 { // the next datagram, and at its end the time for all its events is spent
			i := next % len(datagrams)
			r.c.datagram(now, datagrams[i])
			left = events[i]
			raw += int64(bytes[i])
			next++
			if inSecond += left; inSecond >= benchEventsPerSecond {
				endSecond()
			}
		}
		left--
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.SetBytes(raw / int64(b.N))
}

// benchDatagrams are the datagrams of 100,000 generated events, each with how
// many it has.
func benchDatagrams(encoding generate.Encoding) (datagrams [][]byte, events, bytes []int) {
	g := generate.NewGenerator(1)
	var current []byte
	n := 0
	for i := range benchEventsPerSecond {
		ev, _ := g.Next()
		ev.Subtype = fmt.Sprintf("%s-%d", ev.Subtype, i%25) // about 250 blobs
		size := len(current)
		current = encoding.AppendEnvelope(current, ev, generate.Tags{})
		if len(current) > generate.DefaultDatagramBytes && size > 0 {
			datagrams, events, bytes = append(datagrams, current[:size:size]), append(events, n), append(bytes, size)
			current, n = append([]byte(nil), current[size:]...), 0
		}
		n++
	}
	return append(datagrams, current), append(events, n), append(bytes, len(current))
}
