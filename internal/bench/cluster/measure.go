package cluster

import (
	"context"
	"time"

	"github.com/mayflydb/mayfly/internal/bench"
)

// A look is what was used up to a moment.
type look struct {
	at     time.Time
	nodes  bench.Usage
	client time.Duration
	busy   time.Duration // the whole machine
	stolen time.Duration
}

func (l *load) look() (look, error) {
	u, err := bench.UsageOf(l.nodes.pids())
	if err != nil {
		return look{}, err
	}
	busy, stolen, err := bench.HostCPU()
	return look{time.Now(), u, bench.OwnCPU(), busy, stolen}, err
}

// measure does one part and returns its figures. The rate ends with the last
// acknowledgement; what is used is counted until the nodes have finished what
// goes on after it, third copies above all.
func (l *load) measure(ctx context.Context, part Part) (Result, error) {
	before, err := l.look()
	if err != nil {
		return Result{}, err
	}
	stopProfiles := l.profile(ctx, part)
	start := time.Now()
	done := l.work(ctx, part)
	seconds := time.Since(start).Seconds()
	client := bench.OwnCPU()
	after, err := l.settle()
	if perr := stopProfiles(); err == nil {
		err = perr
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	if part == Put {
		l.stored = done.stored
	}
	used := after.nodes.Since(before.nodes)
	r := Result{
		System: l.system.name(), Part: part, SizeBytes: l.size,
		Seconds: seconds, Ops: done.ops, Bytes: done.ops * int64(l.size),
		P50: done.took.Millis(0.5), P99: done.took.Millis(0.99), P999: done.took.Millis(0.999),
		AnonBytes: used.AnonBytes, FileBytes: used.FileBytes,
		Retries: l.system.retries(), Failures: len(done.failures),
	}
	for _, err := range done.failures {
		r.FirstFailure = err.Error()
		break
	}
	wall := after.at.Sub(before.at).Seconds()
	others := after.busy - before.busy - used.CPU - (bench.OwnCPU() - before.client)
	r.OthersCores, r.StolenCores = max(0, others.Seconds()/wall), (after.stolen-before.stolen).Seconds()/wall
	if r.Ops > 0 {
		gib := float64(r.Bytes) / (1 << 30)
		r.MBPerSecond, r.OpsPerSecond = float64(r.Bytes)/1e6/seconds, float64(r.Ops)/seconds
		r.ServerCPU, r.ClientCPU = used.CPU.Seconds()/gib, (client-before.client).Seconds()/gib
		r.DiskPerByte, r.CallsPerByte = float64(used.DiskBytes)/float64(r.Bytes), float64(used.CallBytes)/float64(r.Bytes)
		r.WritesPerOp = float64(used.WriteCalls) / float64(r.Ops)
	}
	return r, nil
}

// settleTime bounds how long the end of a part is waited for.
const settleTime = time.Second

// settle waits until the nodes write nothing more, for a while at most, and
// looks again.
func (l *load) settle() (look, error) {
	const pause = 30 * time.Millisecond
	now, err := l.look()
	for waited := time.Duration(0); err == nil && waited < settleTime; waited += pause {
		before := now.nodes.WriteCalls
		time.Sleep(pause)
		if now, err = l.look(); err != nil || now.nodes.WriteCalls == before {
			break
		}
	}
	return now, err
}
