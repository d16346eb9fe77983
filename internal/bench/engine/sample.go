package engine

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Sample is what one side of a pair took.
type Sample struct {
	Seconds    float64
	CPUSeconds float64 // of this process, kernel included
	Ops, Bytes int64
	P50, P99   time.Duration
	P999, Max  time.Duration
}

// perSecond returns operations a second.
func (s *Sample) perSecond() float64 { return float64(s.Ops) / max(s.Seconds, 1e-9) }

// cpuPerGiB returns CPU seconds a GiB.
func (s *Sample) cpuPerGiB() float64 { return s.CPUSeconds / (float64(max(s.Bytes, 1)) / (1 << 30)) }

// cpuPerOp returns CPU seconds an operation.
func (s *Sample) cpuPerOp() float64 { return s.CPUSeconds / float64(max(s.Ops, 1)) }

// cpuNow returns the CPU time this process has used.
func cpuNow() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}

// measure runs ops operations of that many bytes each on some goroutines and
// times each of them. one is given the goroutine's number and the operation's,
// which are handed out in order.
func measure(goroutines int, ops, bytesPerOp int64, one func(g int, i int64) error) (Sample, error) {
	var (
		mu   sync.Mutex
		next int64
		errs error
		wg   sync.WaitGroup
	)
	const grab = 16 // operations taken at once: the counter is not what is measured
	take := func() (from, to int64) {
		mu.Lock()
		defer mu.Unlock()
		if errs != nil {
			return ops, ops
		}
		from = next
		next = min(next+grab, ops)
		return from, next
	}
	took := make([]time.Duration, ops)
	start, cpu := time.Now(), cpuNow()
	for g := range goroutines {
		wg.Go(func() {
			for {
				from, to := take()
				if from == to {
					return
				}
				at := time.Now()
				for i := from; i < to; i++ {
					if err := one(g, i); err != nil {
						mu.Lock()
						errs = err
						mu.Unlock()
						return
					}
					now := time.Now()
					took[i], at = now.Sub(at), now
				}
			}
		})
	}
	wg.Wait()
	s := Sample{Seconds: time.Since(start).Seconds(), CPUSeconds: (cpuNow() - cpu).Seconds(), Ops: ops, Bytes: ops * bytesPerOp}
	s.latencies(took)
	return s, errs
}

// latencies fills in the quantiles; it sorts took.
func (s *Sample) latencies(took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[min(int(q*float64(len(took))), len(took)-1)] }
	s.P50, s.P99, s.P999, s.Max = at(0.5), at(0.99), at(0.999), took[len(took)-1]
}
