package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/ring"
)

const (
	reportTimeout = 3 * time.Second // for a member to say how it is
	reportsAtOnce = 16              // members asked side by side
)

// A wireAdmin is a clusterAdmin over the wire: any node for what is agreed, each member
// for what only that knows.
type wireAdmin struct {
	*client.Client
	e *config.Effective
}

func dialAdmin(ctx context.Context, e *config.Effective) (clusterAdmin, error) {
	c, err := connect(ctx, e)
	if err != nil {
		return nil, err
	}
	return wireAdmin{c, e}, nil
}

// Reports implements clusterAdmin.
func (w wireAdmin) Reports(ctx context.Context, d *agreed.Document) map[ring.NodeID]memberReport {
	addresses := w.addresses(ctx, d)
	reports := make(map[ring.NodeID]memberReport, len(addresses))
	var mu sync.Mutex // guards reports
	var wg sync.WaitGroup
	turn := make(chan struct{}, reportsAtOnce)
	for id, at := range addresses {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			r := w.report(ctx, id, at)
			mu.Lock()
			defer mu.Unlock()
			reports[id] = r
		})
	}
	wg.Wait()
	return reports
}

// addresses returns where the members are that may answer: as agreed, or where
// the node that is asked has seen them since.
func (w wireAdmin) addresses(ctx context.Context, d *agreed.Document) map[ring.NodeID]string {
	at := make(map[ring.NodeID]string, len(d.Members))
	for _, m := range d.Members {
		if m.State.Live() {
			at[m.ID] = m.Address
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if r, err := w.Report(ctx); err == nil {
		for _, s := range r.Members {
			if _, live := at[s.Node]; live && s.Address != "" {
				at[s.Node] = s.Address
			}
		}
	}
	return at
}

// report asks one member.
func (w wireAdmin) report(ctx context.Context, id ring.NodeID, at string) (r memberReport) {
	cfg := clientConfig(&w.e.Config, nil)
	cfg.Addrs, cfg.Pinned, cfg.Timeout = []string{at}, true, reportTimeout
	c, err := client.New(cfg)
	if err != nil {
		return memberReport{err: err}
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	if r.Report, r.err = c.Report(ctx); r.err == nil && r.Node != id {
		r.err = fmt.Errorf("at %s answers node %v, which is another one", at, r.Node)
	}
	return r
}
