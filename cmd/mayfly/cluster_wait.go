package main

import (
	"context"
	"fmt"

	"github.com/mayflydb/mayfly/ring"
)

// awaitQuiet waits, with a bar, until nothing is under way or enough says that it
// is enough. What is to be copied is counted in partitions: the document knows
// these for certain, bytes are what members estimate.
func (r *clusterRun) awaitQuiet(ctx context.Context, enough func(*picture) bool) error {
	bar := newStepBar(r.stderr)
	defer bar.done()
	most := 0
	for {
		p, err := r.look(ctx)
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if err != nil {
			bar.set("no node answers: "+err.Error(), 0, most)
		} else {
			h := p.handing()
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
	return fmt.Errorf("what is under way goes on by itself; \"mayfly cluster status --wait\" waits again (%w)", context.Cause(ctx))
}

func barText(p *picture, h *handing) string {
	if p.doc.Change.Phase == ring.Proposed {
		return fmt.Sprintf("preparing slot %d, waiting for %s", p.doc.Change.Boundary, waitingFor(p.doc))
	}
	return fmt.Sprintf("%s to get, %s;", bytesText(int64(h.ToGet)), etaText(h.ToGet, h.Rate))
}
