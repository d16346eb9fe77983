package aggregate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// TestFinalWaitsForEveryBlob: while one blob is not acknowledged there is no
// final, and it tries again until there is.
func TestFinalWaitsForEveryBlob(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	failures := 0
	r.store.fail = func(key string) error {
		if failures < 3 && strings.Contains(key, "CRON") {
			failures++
			return object.Errorf(object.CodeOverload, object.NotDone, "busy")
		}
		return nil
	}
	r.send(envelope(0, 1), envelopeOf(0, "", "CRON", "mailer", 2))
	r.at(2600 * ms)
	key := event.IndexKey{Epoch: second1, DC: "eu"}
	if s := r.store.rows[key].Sections; len(s) != 1 || s[0].Final != nil || len(s[0].Entries) != 1 {
		t.Fatalf("row before the retry: %+v", s)
	}
	r.at(4 * time.Second)
	s := r.store.rows[key].Sections[0]
	if failures != 3 || s.Final == nil || s.Final.Count != 2 {
		t.Fatalf("after %d failures: %+v", failures, s)
	}
	if *s.Final != index.FinalOf(&s) {
		t.Errorf("final %+v, the entries give %+v", *s.Final, index.FinalOf(&s))
	}
	if got := r.counters.BlobRetries.Load(); got != 3 {
		t.Errorf("%d retries counted, want 3", got)
	}
}

// TestRetriesAreIdentical: whatever came of a call, the same bytes are sent
// again, for a maybe-done put must not conflict with itself.
func TestRetriesAreIdentical(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	seen := make(map[string][]string)
	var records [][]byte
	lost := errors.New("the answer was lost")
	r.store.fail = func(key string) error {
		seen[key] = append(seen[key], r.clock())
		if len(seen[key]) < 4 {
			return lost
		}
		return nil
	}
	r.send(envelope(0, 1))
	for r.at(2500 * ms); r.c.blobs.len() > 0; r.at(r.now.Sub(time.Unix(epoch0, 0)) + 50*ms) {
		b, _ := r.c.blobs.peek()
		records = append(records, slices.Clone(b.record.Raw()))
	}
	for _, raw := range records {
		if !slices.Equal(raw, records[0]) {
			t.Fatal("a retry differs from the first attempt")
		}
	}
	if len(seen) != 1 || len(r.acked) != 1 {
		t.Errorf("attempts %v, acknowledged %v", seen, r.acked)
	}
}

// TestBackoff: a call that failed is made again at growing distances, half of
// each at random, without anything else happening meanwhile.
func TestBackoff(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	var tried []time.Time
	r.store.fail = func(string) error {
		tried = append(tried, r.now)
		return errors.New("down")
	}
	r.send(envelope(0, 1))
	r.at(3400 * ms) // before the next final, which may succeed
	if len(tried) < 4 {
		t.Fatalf("tried at %v", tried)
	}
	for i := range 3 {
		if gap, want := tried[i+1].Sub(tried[i]), firstBackoff<<i; gap < want/2 || gap > want {
			t.Errorf("attempt %d after %v, want %v to %v", i+2, gap, want/2, want)
		}
	}
}

// TestOutage: while the store takes nothing it is left in peace, one call at a
// time ever more rarely; then everything arrives, oldest first, and the final of
// a second that was closed meanwhile is missed, never invented.
func TestOutage(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	down := true
	calls := 0
	r.store.fail = func(string) error {
		if down {
			calls++
			return object.Errorf(object.CodeUnavailable, object.MaybeDone, "down")
		}
		return nil
	}
	r.store.failIndex = func(event.IndexKey, index.Section) error { return r.store.fail("") }
	for s := 1; s <= 30; s++ {
		r.at(time.Duration(s) * time.Second)
		r.send(envelope(0, byte(s)))
	}
	if calls > 60 {
		t.Errorf("%d calls in an outage of 30 s", calls)
	}
	if ops, seconds := r.c.ops.len(), len(r.c.seconds); ops > 11 || seconds > 11 {
		t.Errorf("%d additions to the index and %d finals are waited for, most of which owners would refuse", ops, seconds)
	}
	down = false
	r.log = nil
	r.at(45 * time.Second)
	want := make(map[string][]byte)
	for s := 1; s <= 30; s++ {
		want[fmt.Sprintf("+%d eu WEB:app", s)] = []byte{byte(s)}
	}
	wantEvents(t, r, want)
	var order []int64
	for _, line := range r.log {
		if strings.Contains(line, " put ") {
			_, n, _ := strings.Cut(line, "0123456789-")
			var chunk int64
			if _, err := fmt.Sscan(n, &chunk); err != nil {
				t.Fatal(err)
			}
			order = append(order, chunk)
		}
	}
	if !slices.IsSorted(order) {
		t.Errorf("chunks in the order %v, want oldest first", order)
	}
	for e := int64(epoch0 + 1); e <= epoch0+45; e++ {
		key := event.IndexKey{Epoch: e, DC: "eu"}
		row := r.store.rows[key]
		if len(row.Sections) == 0 {
			continue
		}
		if s := row.Sections[0]; s.Final != nil && *s.Final != index.FinalOf(&s) {
			t.Errorf("second +%d: final %+v, entries give %+v", e-epoch0, *s.Final, index.FinalOf(&s))
		}
	}
	if v := r.store.verdict(epoch0+43, "eu"); v.State != index.Complete {
		t.Errorf("a second after the outage is %v", v)
	}
	if r.counters.FinalsMissed.Load() == 0 {
		t.Error("no final was missed in an outage of 30 s")
	}
}

// TestPermanentErrors: what the store will never take is dropped and counted,
// and holds up neither the final nor the others.
func TestPermanentErrors(t *testing.T) {
	for _, code := range []object.Code{object.CodeBadRequest, object.CodeTooLarge, object.CodeExpired, object.CodeConflict} {
		t.Run(code.String(), func(t *testing.T) {
			r := newRig(t, nil)
			r.at(1000 * ms)
			r.store.fail = func(key string) error {
				if strings.Contains(key, "CRON") {
					return fmt.Errorf("node 1: %w", object.Errorf(code, object.NotDone, "no"))
				}
				return nil
			}
			r.send(envelope(0, 1), envelopeOf(0, "", "CRON", "mailer", 2), envelopeOf(0, "", "CRON", "mailer", 3))
			r.at(2500 * ms)
			if got := r.counters.Dropped(Refused); got != 2 {
				t.Errorf("%d events dropped as refused, want 2", got)
			}
			if drops := r.c.takeDrops(); drops[Refused] != 2 {
				t.Errorf("told of %v", drops)
			}
			if v := r.store.verdict(second1, "eu"); v.State != index.Complete {
				t.Errorf("the second is %v", v)
			}
			if r.c.buffered != 0 {
				t.Errorf("%d bytes still held", r.c.buffered)
			}
		})
	}
}

// TestAbandon: what cannot be stored in time is counted, and what a call returns
// later is not tried again.
func TestAbandon(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	down := errors.New("down")
	r.store.fail = func(string) error { return down }
	r.store.failIndex = func(event.IndexKey, index.Section) error { return down }
	for i := range 5 {
		r.at(time.Second + time.Duration(i)*time.Second)
		r.send(envelope(0, byte(i)), envelopeOf(0, "", "B", "b", byte(i)))
	}
	r.now = r.now.Add(10 * time.Second)
	r.c.tick(r.now)
	batch := r.c.takeBatch(r.now)
	if len(batch) == 0 {
		t.Fatal("nothing is sent")
	}
	job := r.c.takeJob()
	r.c.stop(r.now)
	r.c.abandon()
	if r.c.idle() {
		t.Error("idle with a call under way")
	}
	r.c.batchDone(r.now, batch, slices.Repeat([]error{down}, len(batch)))
	if job != nil {
		r.c.sealed(job, r.sealer.seal(job))
	}
	r.check()
	if !r.c.idle() || r.c.buffered != 0 {
		t.Errorf("idle %v with %d bytes held", r.c.idle(), r.c.buffered)
	}
	if got := r.counters.Dropped(Stopped); got != 10 {
		t.Errorf("%d events dropped as stopped, want 10", got)
	}
}

// TestBatches: blobs of one second and dc go together, within both bounds.
func TestBatches(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	for i := range 100 {
		r.send(envelopeOf(0, "", "A", fmt.Sprint(i), 1))
	}
	r.send(envelopeOf(0, "us", "A", "a", 1))
	r.at(2499 * ms)
	r.now = r.now.Add(2 * ms)
	r.c.tick(r.now)
	for g := r.c.takeJob(); g != nil; g = r.c.takeJob() {
		r.c.sealed(g, r.sealer.seal(g))
	}
	var sizes []int
	for {
		batch := r.c.takeBatch(r.now)
		if batch == nil {
			break
		}
		for _, b := range batch {
			if b.key.Index() != batch[0].key.Index() {
				t.Errorf("%v and %v in one batch", b.key, batch[0].key)
			}
		}
		sizes = append(sizes, len(batch))
		r.c.batchDone(r.now, batch, r.store.put(r.now, records(batch)))
	}
	if total := sum(sizes); total != 101 || slices.Max(sizes) != maxBatchBlobs {
		t.Errorf("batches of %v", sizes)
	}
}

func sum(n []int) (total int) {
	for _, v := range n {
		total += v
	}
	return total
}
