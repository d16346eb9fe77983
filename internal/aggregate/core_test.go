package aggregate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
)

const (
	ms      = time.Millisecond
	second1 = epoch0 + 1
)

func wantLog(t *testing.T, r *rig, want ...string) {
	t.Helper()
	if !slices.Equal(r.log, want) {
		t.Errorf("what was sent:\n%s\nwant:\n%s", strings.Join(r.log, "\n"), strings.Join(want, "\n"))
	}
}

func chunkName(n int) string { return fmt.Sprintf("abcdef0123456789-%d", n) }

func wantEvents(t *testing.T, r *rig, want map[string][]byte) {
	t.Helper()
	got := r.store.events(t)
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("events stored: %v, want %v", got, want)
	}
}

// TestASecond is a second as the package comment tells it.
func TestASecond(t *testing.T) {
	r := newRig(t, nil)
	r.at(1100 * ms)
	r.send(envelope(0, 1), envelope(second1, 2))
	r.at(1900 * ms)
	r.send(envelopeOf(second1, "", "CRON", "mailer", 3))
	r.at(2400 * ms)
	r.send(envelope(second1, 4)) // within the grace
	r.at(2700 * ms)
	r.send(envelope(second1, 5)) // late
	r.at(3600 * ms)
	wantLog(t, r,
		"+0.2 hello 1800000000:eu: <nil>",
		"+2.5 put WEB:app:"+chunkName(0)+" events=3: <nil>",
		"+2.5 put CRON:mailer:"+chunkName(1)+" events=1: <nil>",
		"+2.5 final(2) 1800000001:eu: <nil>",
		"+3.2 put WEB:app:"+chunkName(2)+" events=1: <nil>",
		"+3.5 final(0) 1800000002:eu: <nil>",
	)
	wantEvents(t, r, map[string][]byte{"+1 eu WEB:app": {1, 2, 4, 5}, "+1 eu CRON:mailer": {3}})
	if v := r.store.verdict(second1, "eu"); v.State != index.Complete {
		t.Errorf("the second is %v although a late blob came", v)
	}
	if got := r.counters.LateEvents.Load(); got != 1 {
		t.Errorf("%d late events counted, want 1", got)
	}
	if r.counters.Events.Load() != 5 || r.counters.EventsAcknowledged.Load() != 5 || r.counters.DroppedTotal() != 0 {
		t.Errorf("counted %d events, %d acknowledged, %d dropped; want 5, 5, 0",
			r.counters.Events.Load(), r.counters.EventsAcknowledged.Load(), r.counters.DroppedTotal())
	}
}

// TestStop: what was collected is stored at once, each second after the hello gets
// its final, up to the last one ahead of the clock that has a blob, and goodbye comes
// last, in the row of that: it hides nothing.
func TestStop(t *testing.T) {
	r := newRig(t, nil)
	r.at(1100 * ms)
	r.log = nil
	r.send(envelope(0, 1), envelope(epoch0+3, 2), envelopeOf(0, "us", "WEB", "app", 3))
	r.work()
	r.stop()
	wantLog(t, r,
		"+1.1 hello 1800000001:us: <nil>",
		"+1.1 put WEB:app:"+chunkName(0)+" events=1: <nil>",
		"+1.1 put WEB:app:"+chunkName(1)+" events=1: <nil>",
		"+1.1 put WEB:app:"+chunkName(2)+" events=1: <nil>",
		"+1.1 final(0) 1800000002:eu: <nil>",
		"+1.1 final(0) 1800000002:us: <nil>",
		"+1.1 final(0) 1800000003:us: <nil>",
		"+1.1 final(1) 1800000001:eu: <nil>",
		"+1.1 final(1) 1800000003:eu: <nil>",
		"+1.1 goodbye 1800000003:eu: <nil>",
		"+1.1 goodbye 1800000003:us: <nil>",
	)
	if len(r.store.broken) > 0 {
		t.Error(r.store.broken)
	}
	if !r.c.idle() {
		t.Error("not idle after everything was acknowledged")
	}
	for e := int64(epoch0 + 4); e < epoch0+20; e++ {
		if v := r.store.verdict(e, "us"); v.State != index.NoWriters {
			t.Errorf("second +%d after the goodbye is %v", e-epoch0, v)
		}
	}
}

// TestStopWhileTheStoreIsDown: seconds that begin while it stops are not its any
// more, and a hello that was never acknowledged is not sent after all.
func TestStopWhileTheStoreIsDown(t *testing.T) {
	r := newRig(t, nil)
	down := errors.New("down")
	r.store.fail = func(string) error { return down }
	r.store.failIndex = func(event.IndexKey, index.Section) error { return down }
	r.at(1000 * ms)
	r.send(envelopeOf(0, "us", "A", "a", 1))
	r.at(1100 * ms)
	r.stop()
	r.at(6 * time.Second)
	r.store.fail, r.store.failIndex, r.log = nil, nil, nil
	r.at(20 * time.Second)
	if !r.c.idle() {
		t.Error("not idle")
	}
	var sent []string
	for _, line := range r.log {
		_, what, _ := strings.Cut(line, " ")
		sent = append(sent, strings.TrimSuffix(what, ": <nil>"))
	}
	slices.Sort(sent)
	want := []string{
		"final(0) 1800000001:eu", "goodbye 1800000001:eu", "goodbye 1800000001:us", "put A:a:" + chunkName(0) + " events=1",
	}
	if !slices.Equal(sent, want) {
		t.Errorf("sent\n%s\nwant\n%s", strings.Join(sent, "\n"), strings.Join(want, "\n"))
	}
}

// TestForeignDCs: hello at the first event, a final each second, goodbye after
// ten silent minutes, and a bound on their number.
func TestForeignDCs(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxDCs = 2 })
	r.at(1000 * ms)
	r.send(envelopeOf(0, "us", "A", "a", 1), envelopeOf(0, "asia", "A", "a", 2))
	if got := r.counters.Dropped(TooManyDCs); got != 1 {
		t.Errorf("%d events of a third dc dropped, want 1", got)
	}
	r.at(4 * time.Second)
	row := r.store.rows[event.IndexKey{Epoch: second1, DC: "us"}]
	if len(row.Sections) != 2 || !row.Sections[0].Writer.Anonymous() || len(row.Sections[0].Entries) != 1 || !row.Sections[1].Hello || row.Sections[1].Final != nil {
		t.Fatalf("row of the first second: %+v", row)
	}
	row = r.store.rows[event.IndexKey{Epoch: second1 + 1, DC: "us"}]
	if len(row.Sections) != 1 || row.Sections[0].Final == nil {
		t.Fatalf("row of the next: %+v", row)
	}
	r.at(700 * time.Second)
	goodbyes := 0
	for key, row := range r.store.rows {
		if row.Sections[0].Goodbye {
			goodbyes++
			if key.DC != "us" || key.Epoch < epoch0+600 || key.Epoch > epoch0+602 {
				t.Errorf("goodbye in %v", key)
			}
		}
	}
	if goodbyes != 1 {
		t.Errorf("%d goodbyes, want 1", goodbyes)
	}
	r.send(envelopeOf(0, "asia", "A", "a", 2))
	if got := r.counters.Dropped(TooManyDCs); got != 1 {
		t.Error("the place of the dc that was left is not free")
	}
}

// TestHelloNamesWhomItSucceeds also shows that a hello goes to the second it is
// sent in, or the next one if that is near, however often it had to be tried, and
// when Ready may be told.
func TestHelloNamesWhomItSucceeds(t *testing.T) {
	before := []index.Writer{{Name: "agg-1", Incarnation: 9}, {Name: "agg-1", Incarnation: 7}, {Name: "agg-1", Incarnation: 9}}
	o := testOptions()
	o.Succeeds = before
	r := &rig{t: t, now: begin, store: newModelStore(), acked: make(map[string]uint64)}
	r.sealer = sealer{writer: []byte(o.Writer), incarnation: o.Incarnation, next: &r.chunk}
	r.store.failIndex = func(event.IndexKey, index.Section) error {
		if r.now.Before(time.Unix(epoch0+3, 0)) {
			return errors.New("not up yet")
		}
		return nil
	}
	r.c = newCore(o.withDefaults(), &r.counters, r.now)
	r.work()
	r.at(2900 * ms)
	if r.c.ready(r.now) || r.counters.Hellos.Load() != 0 {
		t.Error("ready before the hello was acknowledged")
	}
	r.at(9 * time.Second)
	if !r.c.ready(r.now) {
		t.Error("not ready after the hello was acknowledged")
	}
	hellos := 0
	for key, row := range r.store.rows {
		s := row.Sections[0]
		if !s.Hello {
			continue
		}
		hellos++
		if key.Epoch < epoch0+3 || key.Epoch > epoch0+8 {
			t.Errorf("hello in %v", key)
		}
		if want := []index.Writer{before[1], before[0]}; !slices.Equal(s.Succeeds, want) {
			t.Errorf("succeeds %v, want %v", s.Succeeds, want)
		}
		if d := r.c.dcs[0]; d.standing.Holds(key.Epoch) || !d.standing.Holds(key.Epoch+1) {
			t.Errorf("hello in %v, and expected in it or not in the next", key)
		}
	}
	if hellos != 1 {
		t.Errorf("%d hellos, want 1", hellos)
	}
}

// TestReadyIsTheNextSecond: not the one of the hello.
func TestReadyIsTheNextSecond(t *testing.T) {
	r := newRig(t, nil)
	if r.c.ready(r.now) {
		t.Error("ready in the second of the hello")
	}
	if wake := r.c.wake(r.now); !wake.Equal(time.Unix(epoch0+1, 0)) {
		t.Errorf("wakes at %v, want the next second", wake)
	}
	r.at(time.Second)
	if !r.c.ready(r.now) {
		t.Error("not ready in the next second")
	}
}

// TestWakesRarely: an idle core asks to be woken once a second, and one whose
// store is down not much more often: nothing spins.
func TestWakesRarely(t *testing.T) {
	r := newRig(t, nil)
	r.at(100 * time.Second)
	if r.wakes > 102 {
		t.Errorf("woken %d times in 100 idle seconds", r.wakes)
	}
	r.wakes = 0
	r.store.fail = func(string) error { return errors.New("down") }
	r.store.failIndex = func(event.IndexKey, index.Section) error { return errors.New("down") }
	r.send(envelope(0, 1))
	r.at(200 * time.Second)
	if r.wakes > 300 {
		t.Errorf("woken %d times in 100 seconds without a store", r.wakes)
	}
	r.wakes = 0
	r.c.stop(r.now)
	r.at(210 * time.Second)
	if r.wakes > 150 {
		t.Errorf("woken %d times in 10 seconds of stopping", r.wakes)
	}
}

// TestClockSetBack: seconds that were closed are not closed again, their events
// go in new chunks, and nothing waits for the wall clock to catch up.
func TestClockSetBack(t *testing.T) {
	r := newRig(t, nil)
	r.at(100 * time.Second)
	r.send(envelope(0, 1))
	r.now = r.now.Add(-50 * time.Second)
	r.c.datagram(r.now, envelope(0, 2))
	finals := r.counters.Finals.Load()
	r.at(52 * time.Second)
	if got := r.counters.Finals.Load(); got != finals {
		t.Errorf("%d finals of seconds that had theirs", got-finals)
	}
	if got := r.store.events(t)["+50 eu WEB:app"]; !slices.Equal(got, []byte{2}) {
		t.Errorf("events of the repeated second: %v", got)
	}
	r.at(103 * time.Second)
	wantEvents(t, r, map[string][]byte{"+50 eu WEB:app": {2}, "+100 eu WEB:app": {1}})
}

// TestClockSetAhead: a jump of a day makes no finals for each second of it.
func TestClockSetAhead(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	r.send(envelope(0, 1))
	r.log = nil
	r.now = r.now.Add(24 * time.Hour)
	r.work()
	if got := len(r.log); got > 15 {
		t.Errorf("%d things sent after the jump:\n%s", got, strings.Join(r.log, "\n"))
	}
	wantEvents(t, r, map[string][]byte{"+1 eu WEB:app": {1}})
	if r.counters.FinalsMissed.Load() != 1 {
		t.Errorf("%d finals missed, want that of the second with the event", r.counters.FinalsMissed.Load())
	}
}

// TestLongOutage: after an outage that was longer than readers wait for a silent writer,
// nobody expects this one in the seconds that had begun. What it has of them bears
// no name and has no final, and hello is said again.
func TestLongOutage(t *testing.T) {
	r := newRig(t, nil)
	r.at(5600 * ms)
	down := errors.New("down")
	r.store.fail = func(string) error { return down }
	r.store.failIndex = func(event.IndexKey, index.Section) error { return down }
	for s := 6; s < 20; s++ {
		r.at(time.Duration(s)*time.Second + 200*ms)
		r.send(envelope(0, byte(s)))
	}
	r.store.fail, r.store.failIndex = nil, nil
	for s := 20; s < 30; s++ {
		r.at(time.Duration(s)*time.Second + 200*ms)
		r.send(envelope(0, byte(s)))
	}
	r.at(32 * time.Second)
	if len(r.store.broken) > 0 {
		t.Error(r.store.broken)
	}
	// The final of +4 was the last one before: it makes the writer expected up to +14.
	last := r.c.dcs[0].standing
	var named, finals, hellos []int64
	for s := int64(6); s < 30; s++ {
		row := r.store.rows[event.IndexKey{Epoch: epoch0 + s, DC: "eu"}]
		for i := range row.Sections {
			section := &row.Sections[i]
			if !section.Writer.Anonymous() && len(section.Entries) > 0 {
				named = append(named, s)
			}
			if section.Final != nil {
				finals = append(finals, s)
			}
			if section.Hello {
				hellos = append(hellos, s)
			}
		}
	}
	if len(hellos) != 1 || hellos[0] < 20 || hellos[0] > 24 {
		t.Fatalf("hellos in %v, want one, soon after +20", hellos)
	}
	var want []int64
	for s := int64(6); s < 30; s++ {
		if s <= 14 || s > hellos[0] {
			want = append(want, s)
		}
	}
	if !slices.Equal(named, want) {
		t.Errorf("blobs with a name in %v, want %v", named, want)
	}
	for _, s := range finals {
		if s > 14 && s <= hellos[0] {
			t.Errorf("a final in +%d", s)
		}
	}
	if got, want := r.counters.Unexpected.Load(), 1+hellos[0]-14; got != want {
		t.Errorf("%d seconds counted in which nobody expects it, want %d: that of the first hello, and those of the outage", got, want)
	}
	if !last.Holds(epoch0+30) || len(finals) == 0 || finals[len(finals)-1] != 29 {
		t.Errorf("it is not expected again: finals in %v", finals)
	}
	for s := hellos[0] + 1; s < 30; s++ {
		if v := r.store.verdict(epoch0+s, "eu"); v.State != index.Complete {
			t.Errorf("+%d is %v", s, v)
		}
	}
}

// TestBackAfterGoodbye: a dc that was left and has events again at once is one in
// which readers do not expect this writer for as long as they see the goodbye.
func TestBackAfterGoodbye(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	r.send(envelopeOf(0, "us", "A", "a", 1))
	at := time.Duration(idleDCSeconds) * time.Second
	for ; r.counters.Goodbyes.Load() == 0; at += time.Second {
		r.at(at + 600*ms)
	}
	left := r.now.Unix() - 1 // the second of the goodbye
	if !r.store.rows[event.IndexKey{Epoch: left, DC: "us"}].Sections[0].Goodbye {
		t.Fatal("the goodbye is elsewhere")
	}
	for range 15 {
		at += time.Second
		r.at(at)
		r.send(envelopeOf(0, "us", "A", "a", 2))
	}
	r.at(at + 3*time.Second)
	for e := left; e <= left+15; e++ {
		named := 0
		for _, s := range r.store.rows[event.IndexKey{Epoch: e, DC: "us"}].Sections {
			if !s.Writer.Anonymous() && (len(s.Entries) > 0 || s.Final != nil) {
				named++
			}
		}
		if want := e > left+index.ExpectedSeconds; (named > 0) != want && e != left {
			t.Errorf("%d seconds after the goodbye it gives its name: %v, want %v", e-left, named > 0, want)
		}
	}
	if len(r.c.left) != 0 {
		t.Errorf("it remembers %v for ever", r.c.left)
	}
}

// TestHelloAtTheEndOfASecond: one that is on its way when the next second begins
// makes nobody wait for a writer that gives no name in that.
func TestHelloAtTheEndOfASecond(t *testing.T) {
	r := newRig(t, nil)
	r.at(1900 * ms)
	r.send(envelopeOf(0, "us", "A", "a", 1))
	hello := r.c.takeOp(r.now)
	if err := r.store.append(r.now, hello.key, hello.delta); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(150 * ms)
	r.c.opDone(r.now, hello, nil)
	r.at(7 * time.Second)
	for e := int64(second1); e < epoch0+6; e++ {
		if v := r.store.verdict(e, "us"); v.State == index.Incomplete || v.State != index.Complete && e >= epoch0+3 {
			t.Errorf("+%d is %v", e-epoch0, v)
		}
	}
	if got := r.counters.Hellos.Load(); got != 2 {
		t.Errorf("%d hellos, want one to each dc", got)
	}
}

// TestNoHelloToADCThatWasLeft: not even one that was under way then and failed.
func TestNoHelloToADCThatWasLeft(t *testing.T) {
	r := newRig(t, nil)
	r.at(1000 * ms)
	down := errors.New("down")
	r.store.failIndex = func(key event.IndexKey, _ index.Section) error {
		if key.DC == "us" {
			return down
		}
		return nil
	}
	r.send(envelopeOf(0, "us", "A", "a", 1))
	r.at((time.Duration(idleDCSeconds) - 2) * time.Second)
	var hello *op
	for hello == nil || hello.kind != opHello {
		r.now = r.now.Add(100 * ms)
		r.c.tick(r.now)
		for hello = r.c.takeOp(r.now); hello != nil && hello.kind != opHello; hello = r.c.takeOp(r.now) {
			r.c.opDone(r.now, hello, nil)
		}
	}
	for len(r.c.dcs) > 1 {
		r.now = r.now.Add(100 * ms)
		r.c.tick(r.now)
	}
	r.c.opDone(r.now, hello, down)
	r.store.failIndex = nil
	r.at((time.Duration(idleDCSeconds) + 30) * time.Second)
	for key, row := range r.store.rows {
		if s := row.Sections[0]; key.DC == "us" && s.Hello {
			t.Errorf("a hello in %v", key)
		}
	}
}

// TestNoHelloWhileTheClockIsBehind: after the clock was set back, seconds come that
// are closed already. They get no final, so nobody should wait for one.
func TestNoHelloWhileTheClockIsBehind(t *testing.T) {
	r := newRig(t, nil)
	r.at(5 * time.Second)
	r.now = r.now.Add(-100 * time.Second) // before it began: nobody has heard of it there
	hellos := r.counters.Hellos.Load()
	for s := -94; s < 3; s++ {
		r.at(time.Duration(s) * time.Second)
		r.send(envelope(0, 1))
	}
	if got := r.counters.Hellos.Load(); got != hellos {
		t.Errorf("%d hellos before seconds that get no finals", got-hellos)
	}
	r.at(20 * time.Second)
	for e := int64(epoch0 + 1); e < epoch0+18; e++ {
		if v := r.store.verdict(e, "eu"); v.State != index.Complete {
			t.Errorf("+%d is %v", e-epoch0, v)
		}
	}
}

// TestGoodbyeAfterHello: who stops, or leaves a dc, right after a hello is expected
// no more, however far ahead that one stands.
func TestGoodbyeAfterHello(t *testing.T) {
	r := newRig(t, nil)
	r.at(1900 * ms)
	r.send(envelopeOf(0, "us", "A", "a", 1))
	r.work()
	r.stop()
	for e := int64(epoch0 + 3); e < epoch0+20; e++ {
		for _, dc := range []string{"eu", "us"} {
			if v := r.store.verdict(e, dc); v.State == index.Incomplete {
				t.Errorf("+%d of %s is %v", e-epoch0, dc, v)
			}
		}
	}
}
