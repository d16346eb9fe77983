package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/config"
)

// profile begins CPU profiles of the nodes and of this process, for as long as
// a part is to take, in whole seconds and at least one, if it is one that is
// measured. The function it returns waits for them and says what went wrong.
func (l *load) profile(ctx context.Context, part Part) func() error {
	if l.b.o.ProfileDir == "" || !slices.Contains(l.b.o.Parts, part) {
		return func() error { return nil }
	}
	name := func(who string) string {
		return filepath.Join(l.b.o.ProfileDir, fmt.Sprintf("%s-%v-%s-%02d-%s.pprof", part, config.Size(l.size), l.system.name(), l.b.done/2+1, who))
	}
	seconds := max(1, int(l.b.o.For/time.Second))
	var wg sync.WaitGroup
	errs := make([]error, len(l.nodes.children)+1)
	for i, c := range l.nodes.children {
		wg.Go(func() { errs[i] = fetchProfile(ctx, c.out.metrics, seconds, name(nodeName(i))) })
	}
	own, err := os.Create(name("client"))
	if err == nil {
		err = pprof.StartCPUProfile(own)
	}
	return func() error {
		if err == nil {
			pprof.StopCPUProfile()
		}
		wg.Wait()
		errs[len(errs)-1] = errors.Join(err, own.Close())
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		return nil
	}
}

// fetchProfile takes a node's profile, which its listener for metrics makes.
func fetchProfile(ctx context.Context, metrics string, seconds int, file string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+30*time.Second)
	defer cancel()
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", strings.TrimSuffix(metrics, "/metrics"), seconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
