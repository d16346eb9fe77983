package engine

import (
	"context"
	"errors"

	"github.com/mayflydb/mayfly/internal/bench"
)

// A side is one of the two that take turns.
type side struct {
	name string
	run  func() (Sample, error)
}

// compare runs two sides in alternating pairs, the order swapped from pair to
// pair, and notes what came out.
func (r *runner) compare(ctx context.Context, what string, bar float64, floor, subject side) error {
	var (
		speed, cpu []float64
		as, bs     []Sample
	)
	for i := range r.Pairs {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var a, b Sample
		var errA, errB error
		if i%2 == 0 {
			a, errA = floor.run()
			b, errB = subject.run()
		} else {
			b, errB = subject.run()
			a, errA = floor.run()
		}
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		speed = append(speed, b.perSecond()/a.perSecond())
		cpu = append(cpu, b.cpuPerOp()/max(a.cpuPerOp(), 1e-12))
		as, bs = append(as, a), append(bs, b)
		r.step()
	}
	r.report.Comparisons = append(r.report.Comparisons, Comparison{
		Work: r.work, Case: what, Floor: floor.name, Subject: subject.name, Pairs: r.Pairs,
		Ratio: bench.QuartilesOf(speed), CPURatio: bench.QuartilesOf(cpu), Bar: bar, A: sideOf(as), B: sideOf(bs),
	})
	return nil
}

// sideOf returns the medians of one side's samples.
func sideOf(samples []Sample) Side {
	median := func(of func(*Sample) float64) float64 {
		var all []float64
		for i := range samples {
			all = append(all, of(&samples[i]))
		}
		return bench.QuartilesOf(all).Median
	}
	return Side{
		OpsPerSecond: median(func(s *Sample) float64 { return s.perSecond() }),
		MiBPerSecond: median(func(s *Sample) float64 { return s.perSecond() * float64(s.Bytes) / float64(max(s.Ops, 1)) / (1 << 20) }),
		CPUPerGiB:    median((*Sample).cpuPerGiB),
		CPUPerOp:     median(func(s *Sample) float64 { return s.cpuPerOp() * 1e6 }),
		P50:          median(func(s *Sample) float64 { return float64(s.P50.Nanoseconds()) / 1e3 }),
		P99:          median(func(s *Sample) float64 { return float64(s.P99.Nanoseconds()) / 1e3 }),
		P999:         median(func(s *Sample) float64 { return float64(s.P999.Nanoseconds()) / 1e3 }),
	}
}
