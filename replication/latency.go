package replication

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	latencyBuckets = 96          // four an octave, from 16 µs to some 16 minutes
	latencyFloor   = 1 << 14     // nanoseconds; the first bucket ends here
	latencyRefresh = 256         // observations after which the delay is computed again
	hedgePermille  = 950         // the quantile after which a question is called slow
	suspectFor     = time.Second // how long an owner that was slow is asked last
)

// hedgeFirst is the delay before there is anything to go by.
const hedgeFirst = 20 * time.Millisecond

// A Latency remembers how long recent answers took: counts that are halved at
// every refresh, so that it forgets with a half-life of latencyRefresh answers.
// It may be used by any goroutine. The zero Latency has seen nothing.
type Latency struct {
	counts [latencyBuckets]atomic.Uint32
	seen   atomic.Uint64
	nanos  atomic.Int64 // the quantile; 0 before there is one
}

// bucketOf numbers durations: four buckets of one width an octave.
func bucketOf(nanos int64) int {
	if nanos < latencyFloor {
		return 0
	}
	n := uint64(nanos)
	octave := bits.Len64(n) - 1
	quarter := int(n>>(octave-2)) & 3
	return min((octave-14)*4+quarter+1, latencyBuckets-1)
}

// bucketEnd is the least duration that is longer than those of a bucket,
// nanoseconds.
func bucketEnd(bucket int) int64 {
	octave, quarter := bucket/4+14, bucket%4
	return (4 + int64(quarter)) << (octave - 2)
}

// Observe takes how long an answer took.
func (l *Latency) Observe(d time.Duration) {
	l.counts[bucketOf(int64(d))].Add(1)
	if l.seen.Add(1)%latencyRefresh == 0 {
		l.refresh()
	}
}

// refresh computes the quantile and lets the past fade. Counts that are added
// meanwhile may be halved with the others, which does not matter.
func (l *Latency) refresh() {
	var total, sum uint64
	var counts [latencyBuckets]uint64
	for i := range l.counts {
		n := l.counts[i].Load()
		counts[i] = uint64(n)
		total += uint64(n)
		l.counts[i].Store(n / 2)
	}
	for i, n := range counts {
		if sum += n; sum*1000 >= total*hedgePermille {
			l.nanos.Store(bucketEnd(i))
			return
		}
	}
}

// Delay is how long to wait for an answer before somebody else is asked too: the
// 95th percentile, or first while too little was seen, within the bounds.
func (l *Latency) Delay(first, least, most time.Duration) time.Duration {
	d := time.Duration(l.nanos.Load())
	if d == 0 {
		d = first
	}
	return min(max(d, least), most)
}
