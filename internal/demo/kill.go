package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Kill is what became of the node that was stopped with no goodbye, and of
// those who used it.
type Kill struct {
	Node           string  `json:"node"`             // its name; "" if the sending ended before
	HadTail        bool    `json:"had_tail"`         // the tailer was connected to it
	KilledSeconds  float64 `json:"killed_seconds"`   // of sending
	AwaySeconds    float64 `json:"away_seconds"`     // until it was started again
	ReadyMS        float64 `json:"ready_ms"`         // from then until it was ready
	BlobsWhileAway int64   `json:"blobs_while_away"` // acknowledged without it
	RunReads       int64   `json:"run_reads"`        // of acknowledged blobs through each node during the run, each with its answer
	RunReadsFailed int64   `json:"run_reads_failed"` // and those without, most of them from the node that was away
	FalseAbsent    int64   `json:"false_absent"`     // and those whose answer was "absent"
	Retries        uint64  `json:"retries"`          // repetitions of the aggregator's and the tailer's client
	FailedCalls    uint64  `json:"failed_calls"`     // its calls that no repetition mended; the aggregator sends again
	TailResumes    uint64  `json:"tail_resumes"`
}

// A killer stops a node with no goodbye and brings it back, while readers read
// what is acknowledged through each node. It is made when sending begins.
type killer struct {
	*readers
	kill Kill
	wg   sync.WaitGroup // run
	err  error          // of run; read after wg
}

// startKiller begins; when sending ends early a node that is away is brought
// back at once.
func (d *Demo) startKiller(ctx, whole context.Context) *killer {
	k := &killer{readers: d.startReaders(whole)}
	k.wg.Go(func() { k.err = k.run(ctx, whole) })
	return k
}

// end waits for what is under way and returns what went wrong with it.
func (k *killer) end() error {
	k.readers.end()
	k.wg.Wait()
	s := k.d.client.Stats()
	k.kill.RunReads, k.kill.RunReadsFailed, k.kill.FalseAbsent = k.reads.Load(), k.failed.Load(), k.absent.Load()
	k.kill.Retries, k.kill.FailedCalls, k.kill.TailResumes = s.Retries, s.Failures, s.TailResumes
	return k.err
}

// run kills one node at its time and starts it again at its other.
func (k *killer) run(ctx, whole context.Context) error {
	o, begun := &k.d.o, time.Now()
	if !pause(ctx, o.Kill) {
		return nil
	}
	var victim *child
	victim, k.kill.HadTail = k.d.processes.withTail(whole)
	if err := victim.kill(); err != nil {
		return err
	}
	killed, acknowledged := time.Now(), len(k.d.ledger.acknowledgedFrom(0))
	k.d.say(victim.name + " is killed; ")
	k.kill.Node, k.kill.KilledSeconds = victim.name, seconds(killed.Sub(begun))
	pause(ctx, o.back())
	started := time.Now()
	k.kill.AwaySeconds = seconds(started.Sub(killed))
	missed := k.d.ledger.acknowledgedFrom(acknowledged)
	k.kill.BlobsWhileAway = int64(len(missed))
	if err := victim.start(); err != nil {
		return err
	}
	if err := await(whole, victim.place, victim.ended); err != nil {
		return err
	}
	k.kill.ReadyMS = milliseconds(time.Since(started))
	k.d.say(victim.name + " is back; ")
	return k.readAll(whole, victim.place, missed)
}

func seconds(d time.Duration) float64      { return float64(d.Milliseconds()) / 1000 }
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// pause waits for d, or until ctx ends, which it reports.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// withTail returns the node that serves a tail, by its metrics. If none says so
// it is the first one.
func (nodes processes) withTail(ctx context.Context) (c *child, has bool) {
	for _, c := range nodes {
		if n, err := c.metric(ctx, "mayfly_tails"); err == nil && n > 0 {
			return c, true
		}
	}
	return nodes[0], false
}

// metric returns one of the node's metrics that has no labels.
func (c *child) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true // no connection is kept
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 4<<20))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s: %w", c.name, name, lines.Err())
}
