package main

import (
	"errors"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/ring"
)

func (f *fakeAdmin) picture() *picture { return newPicture(f.doc, f.reports, time.Unix(1, 0)) }

// The clock of a cluster is its members' middle one; of one that does not answer,
// that of who looks.
func TestPictureClock(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.change(1, func(r *memberReport) { r.NowMicros = 5e6 })
	f.change(2, func(r *memberReport) { r.NowMicros += 9e6 })
	if got := f.picture().now; got != fakeNow {
		t.Errorf("now is %d", got)
	}
	for i := range 3 {
		f.change(i+1, func(r *memberReport) { r.err = errors.New("gone") })
	}
	if got := f.picture().now; got != 1 {
		t.Errorf("nobody answers: now is %d", got)
	}
}

// TestPictureData: what plans are made of.
func TestPictureData(t *testing.T) {
	f := newFakeAdmin(t, 3)
	slot := f.doc.History.SlotOf(fakeNow)
	p0 := ring.Partition{Bits: 3}
	f.change(2, func(r *memberReport) {
		r.Stored[0].Timed = append(r.Stored[0].Timed, proto.SlotBytes{Slot: slot - 1000, Bytes: 1}) // expired
		r.Stored[0].Timed[2].Bytes = 5 << 20                                                        // has most
		r.Gaps = []proto.Gap{{Partition: p0, From: 3, Until: 4}}
	})
	f.reports[fakeID(3)] = memberReport{err: errors.New("gone")}
	d := f.picture().data()
	if d.Oldest != slot-240 || d.TTLSeconds != 10*86400 || len(d.Timed) != 24 || len(d.Plain) != 8 {
		t.Errorf("oldest %d, TTL %d, %d slots, %d partitions with plain data", d.Oldest, d.TTLSeconds, len(d.Timed), len(d.Plain))
	}
	if first, last := d.Timed[0], d.Timed[16]; first != (ring.Bytes{Slot: slot - 2, Partition: p0, Bytes: 1 << 20}) || last != (ring.Bytes{Slot: slot, Partition: p0, Bytes: 5 << 20}) {
		t.Errorf("timed data begins with %+v, the last slot with %+v", first, last)
	}
	want := []ring.Gap{{Node: fakeID(2), Partition: p0, From: 3, Until: 4}, {Node: fakeID(3), From: slot - 240, Until: ring.Forever}, {Node: fakeID(3), Plain: true}}
	if len(d.Gaps) != 3 || d.Gaps[0] != want[0] || d.Gaps[1] != want[1] || d.Gaps[2] != want[2] {
		t.Errorf("gaps %+v", d.Gaps)
	}
	f.apply(agreed.Command{Kind: agreed.SetBucket, Empty: true, Bucket: func() (b bucket.Properties) {
		b = f.doc.Buckets.Lookup("default", "forever")
		b.Timed = true
		return b
	}()})
	if d := f.picture().data(); d.Oldest != 0 || d.TTLSeconds != 0 {
		t.Errorf("with a bucket that keeps everything: oldest %d, TTL %d", d.Oldest, d.TTLSeconds)
	}
}

// Gaps that are too many become coarser, of those first that have most.
func TestCoarseGaps(t *testing.T) {
	var gaps []ring.Gap
	for i := range maxPlanGaps {
		gaps = append(gaps, ring.Gap{Node: fakeID(1 + i%2*i%3), From: int64(i), Until: int64(i) + 1})
	}
	few := ring.Gap{Node: fakeID(9), From: 1, Until: 2}
	got := coarse(append(gaps, few), 7)
	if len(got) > maxPlanGaps || len(got) < 3 {
		t.Errorf("%d gaps became %d", len(gaps), len(got))
	}
	kept, whole := false, false
	for _, g := range got {
		kept = kept || g == few
		whole = whole || g == ring.Gap{Node: fakeID(1), From: 7, Until: ring.Forever}
	}
	if !kept || !whole {
		t.Errorf("the few gaps of one node are kept: %t; the many of another are all: %t", kept, whole)
	}
}

// TestCopies counts those that are whole on members that answer.
func TestCopies(t *testing.T) {
	slot := int64(498865)
	timed, plain := dataPlace{ring.Partition{Bits: 3, Prefix: 1}, true, slot}, dataPlace{partition: ring.Partition{Bits: 3, Prefix: 1}}
	gone := memberReport{err: errors.New("gone")}
	for _, c := range []struct {
		claim string
		make  func(f *fakeAdmin)
		at    dataPlace
		want  int
	}{
		{"all are well", func(*fakeAdmin) {}, timed, 3},
		{"one is away", func(f *fakeAdmin) { f.reports[fakeID(1)] = gone }, timed, 2},
		{"one is away, of plain data", func(f *fakeAdmin) { f.reports[fakeID(1)] = gone }, plain, 2},
		{"one has a gap there", func(f *fakeAdmin) {
			f.change(1, func(r *memberReport) { r.Gaps = []proto.Gap{{From: slot, Until: slot + 1}} })
		}, timed, 2},
		{"a gap elsewhere", func(f *fakeAdmin) {
			f.change(1, func(r *memberReport) { r.Gaps = []proto.Gap{{From: slot + 1, Until: slot + 2}} })
		}, timed, 3},
		{"a gap of plain data is none of timed", func(f *fakeAdmin) {
			f.change(1, func(r *memberReport) { r.Gaps = []proto.Gap{{Plain: true}} })
		}, timed, 3},
		{"a gap of plain data", func(f *fakeAdmin) {
			f.change(1, func(r *memberReport) { r.Gaps = []proto.Gap{{Plain: true}} })
		}, plain, 2},
		{"a partition of fewer bits", func(*fakeAdmin) {}, dataPlace{ring.Partition{Bits: 1}, true, slot}, 3},
		{"a newcomer is no copy, a source is one", leaving, timed, 3},
		{"nor of plain data", leaving, plain, 3},
		{"a source that is away", func(f *fakeAdmin) { leaving(f); f.reports[fakeID(3)] = gone }, timed, 2},
	} {
		f := newFakeAdmin(t, 3)
		c.make(f)
		if have, wanted := f.picture().copies(c.at); have != c.want || wanted != 3 {
			t.Errorf("%s: %d copies of %d, want %d", c.claim, have, wanted, c.want)
		}
	}
}

// leaving has a fourth member take the places of the third.
func leaving(f *fakeAdmin) {
	f.join(4, 4)
	f.must("replace", "n3", "n4")
	f.must("commit", "--yes", "--no-wait")
	f.promise()
}

func TestHanding(t *testing.T) {
	f := newFakeAdmin(t, 3)
	if h := f.picture().handing(); !h.done() {
		t.Errorf("nothing is under way: %+v", h)
	}
	leaving(f)
	h := f.picture().handing()
	if h.Moves != 16 || h.done() || len(h.Leaving) != 1 || h.Leaving[0] != "n3" {
		t.Errorf("%+v, want 8 partitions of timed and 8 of plain data", h)
	}
	f.complete()
	if h := f.picture().handing(); !h.done() {
		t.Errorf("when all is complete: %+v", h)
	}
	f.change(1, func(r *memberReport) { r.Merging = proto.Merging{BytesToGet: 5 << 20, BytesPerSecond: 1 << 20} })
	if h := f.picture().handing(); h.done() || h.sentence() != "5.0 MiB to get; 1.0 MiB/s, about 5s" {
		t.Errorf("%+v: %s", h, h.sentence())
	}
}

// TestToGet: what members say of themselves counts, or else what they lack of
// what others have.
func TestToGet(t *testing.T) {
	f := newFakeAdmin(t, 3)
	leaving(f) // n4 takes the places of n3
	if got, want := f.picture().toGet(fakeID(4)), uint64(8*(3<<20+1<<10)); got != want {
		t.Errorf("a newcomer without anything has %d bytes to get, want %d", got, want)
	}
	f.change(4, func(r *memberReport) {
		r.Stored = []proto.Stored{{Partition: ring.Partition{Bits: 3}, Plain: 1 << 10, Timed: []proto.SlotBytes{{Slot: 498865, Bytes: 1 << 19}}}}
	})
	if got, want := f.picture().toGet(fakeID(4)), uint64(8*(3<<20+1<<10)-1<<10-1<<19); got != want {
		t.Errorf("of what it has nothing counts: %d bytes to get, want %d", got, want)
	}
	f.change(4, func(r *memberReport) { r.Merging.BytesToGet = 5 })
	if got := f.picture().toGet(fakeID(4)); got != 5 {
		t.Errorf("it says 5 bytes, and %d are told", got)
	}
	f.change(1, func(r *memberReport) { r.Stored = nil })
	if got := f.picture().toGet(fakeID(1)); got != 0 {
		t.Errorf("an owner that vouches for all has %d bytes to get", got)
	}
	f.change(1, func(r *memberReport) { r.Gaps = []proto.Gap{{Plain: true}} })
	if got := f.picture().toGet(fakeID(1)); got != 8<<10 {
		t.Errorf("with a gap of plain data it has %d bytes to get", got)
	}
}

func TestPace(t *testing.T) {
	var p pacer
	at := time.Unix(100, 0)
	for i, c := range []struct{ left, want uint64 }{{1000, 0}, {900, 100}, {700, 150}, {1000, 0}, {600, 100}} {
		if got := p.see(at.Add(time.Duration(i)*time.Second), c.left); got != c.want {
			t.Errorf("look %d: %d a second, want %d", i, got, c.want)
		}
	}
	for i := range 2 * paceOver {
		p.see(at.Add(time.Duration(10+i)*time.Second), 500)
	}
	if got := p.see(at.Add(40*time.Second), 500); got != 0 {
		t.Errorf("when nothing moves any more: %d a second", got)
	}
}

func TestClusterTimes(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0s", 59: "59s", 61: "1m1s", 3599: "59m59s", 3661: "1h1m", 86399: "1d", 86400: "1d", 90000: "1d1h", 864000: "10d"} {
		if got := spanText(seconds); got != want {
			t.Errorf("%d seconds: %q, want %q", seconds, got, want)
		}
	}
	for _, c := range []struct {
		at   int64
		want string
	}{
		{fakeNow, "2026-11-29 01:00:00 UTC (now)"}, {fakeNow + 60, "2026-11-29 01:01:00 UTC (in 1m)"}, {fakeNow - 60, "2026-11-29 00:59:00 UTC (1m ago)"},
	} {
		if got := whenText(c.at, fakeNow); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := etaText(10, 0); got != "rate not known yet" {
		t.Errorf("got %q", got)
	}
}
