package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// awaitQuiet waits, with a bar, until nothing is under way or enough says that it
// is enough. What is to be copied is counted in partitions: the document knows
// these for certain, bytes are what members estimate.
func (r *clusterRun) awaitQuiet(ctx context.Context, enough func(*picture) bool) error {
	bar := newStepBar(r.stderr)
	defer bar.done()
	bar.set("asking all members;", 0, 0)
	most := 0
	var pace pacer
	for {
		p, err := r.look(ctx)
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if err != nil {
			bar.set("no node answers: "+err.Error(), 0, most)
		} else {
			h := p.handing()
			h.Rate = max(h.Rate, pace.see(time.Now(), h.ToGet))
			most = max(most, h.Moves)
			if enough(p) || p.doc.Change.Phase != ring.Proposed && h.done() {
				return nil
			}
			bar.set(barText(p, &h), most-h.Moves, most)
		}
		if pause(ctx, reportsPause) != nil {
			return interrupted(ctx)
		}
	}
}

func interrupted(ctx context.Context) error {
	return worded{context.Cause(ctx), "what is under way goes on by itself; \"mayfly cluster status --wait\" waits again"}
}

// A pacer tells how fast something gets less, over some seconds.
type pacer struct {
	times []time.Time
	left  []uint64
}

// paceOver is how many looks a pace is taken of.
const paceOver = 10

// see takes in how much is left, and returns how much less it gets a second.
func (p *pacer) see(now time.Time, left uint64) uint64 {
	p.times, p.left = append(p.times, now), append(p.left, left)
	if len(p.times) > paceOver {
		p.times, p.left = p.times[1:], p.left[1:]
	}
	took := now.Sub(p.times[0])
	if took <= 0 || left >= p.left[0] {
		return 0
	}
	return uint64(float64(p.left[0]-left) / took.Seconds())
}

func barText(p *picture, h *handing) string {
	if p.doc.Change.Phase == ring.Proposed {
		return fmt.Sprintf("preparing slot %d, waiting for %s", p.doc.Change.Boundary, waitingFor(p.doc))
	}
	return fmt.Sprintf("%s to get, %s;", bytesText(int64(h.ToGet)), etaText(h.ToGet, h.Rate))
}
