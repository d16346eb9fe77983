package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/event"
)

func blobKey(n uint64) event.Key {
	return event.Key{Epoch: 1_700_000_000, DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.PlainChunk(n)}
}

// TestLedger tells stories of a demo. Those that went well are silent, each of
// the others is noticed.
func TestLedger(t *testing.T) {
	sent := func(l *ledger, hashes ...uint64) {
		for _, h := range hashes {
			l.noteSent(h)
		}
	}
	for _, c := range []struct {
		name                      string
		story                     func(*ledger)
		lost, corrupt, duplicates int64
		fault                     string // part of the first one; "" is none
	}{
		{"all is well", func(l *ledger) {
			sent(l, 1, 2, 2)
			l.noteAcknowledged(blobKey(0), 3, 9)
			l.noteTailed(blobKey(0), []uint64{2, 1, 2}, 9)
		}, 0, 0, 0, ""},
		{"tailed before it was acknowledged", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteAcknowledged(blobKey(0), 1, 9)
		}, 0, 0, 0, ""},
		{"lost on the network", func(l *ledger) { sent(l, 1, 2) }, 0, 0, 0, ""},
		{"tailed and never acknowledged", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
		}, 0, 0, 0, ""},
		{"acknowledged and never tailed", func(l *ledger) {
			sent(l, 1, 2)
			l.noteAcknowledged(blobKey(0), 2, 9)
		}, 2, 0, 0, "was acknowledged and never tailed"},
		{"an event nobody sent", func(l *ledger) {
			sent(l, 1)
			l.noteAcknowledged(blobKey(0), 1, 9)
			l.noteTailed(blobKey(0), []uint64{7}, 9)
		}, 0, 1, 0, "an event that was not sent"},
		{"an event twice", func(l *ledger) {
			sent(l, 1)
			l.noteAcknowledged(blobKey(0), 2, 9)
			l.noteTailed(blobKey(0), []uint64{1, 1}, 9)
		}, 0, 1, 0, "an event that was not sent"},
		{"another value than was stored", func(l *ledger) {
			sent(l, 1)
			l.noteAcknowledged(blobKey(0), 1, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 8)
		}, 0, 1, 0, "came otherwise"},
		{"another value, tailed first", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 8)
			l.noteAcknowledged(blobKey(0), 1, 9)
		}, 0, 1, 0, "came otherwise"},
		{"fewer events than were stored", func(l *ledger) {
			sent(l, 1, 2)
			l.noteAcknowledged(blobKey(0), 2, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
		}, 0, 2, 0, "came otherwise"},
		{"a blob tailed twice", func(l *ledger) {
			sent(l, 1, 1)
			l.noteAcknowledged(blobKey(0), 1, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
		}, 0, 0, 1, "was tailed twice"},
		{"a blob acknowledged twice", func(l *ledger) {
			l.noteAcknowledged(blobKey(0), 0, 9)
			l.noteAcknowledged(blobKey(0), 0, 9)
			l.noteTailed(blobKey(0), nil, 9)
		}, 0, 0, 0, "acknowledged twice"},
		{"a blob that cannot be read back", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteReadBack("n", blobKey(0), 0, errors.New("absent"))
		}, 1, 0, 0, "cannot be read back through n: absent"},
		{"a blob that reads back differently", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteReadBack("n", blobKey(0), 8, nil)
		}, 0, 1, 0, "reads back through n with"},
		{"a blob that the index does not list", func(l *ledger) {
			sent(l, 1)
			l.noteAcknowledged(blobKey(0), 1, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteListed("n", blobKey(0).Index(), []event.Key{blobKey(1)})
		}, 1, 0, 0, "is not in the index of its second"},
		{"blobs that the index lists", func(l *ledger) {
			sent(l, 1)
			l.noteAcknowledged(blobKey(0), 1, 9)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			for _, second := range l.seconds() {
				l.noteListed("n", second, []event.Key{blobKey(0)})
			}
			l.noteListed("n", event.IndexKey{Epoch: 5, DC: "ams"}, nil)
		}, 0, 0, 0, ""},
		{"a blob that reads back", func(l *ledger) {
			sent(l, 1)
			l.noteTailed(blobKey(0), []uint64{1}, 9)
			l.noteReadBack("n", blobKey(0), 9, nil)
		}, 0, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger()
			c.story(l)
			got, faults := l.totalsNow(), l.verdict()
			if got.lost != c.lost || got.corrupt != c.corrupt || got.duplicates != c.duplicates {
				t.Errorf("lost %d, corrupt %d, duplicates %d; want %d, %d, %d", got.lost, got.corrupt, got.duplicates, c.lost, c.corrupt, c.duplicates)
			}
			if c.fault == "" && len(faults) > 0 || c.fault != "" && (len(faults) == 0 || !strings.Contains(faults[0], c.fault)) {
				t.Errorf("the faults are %q, want one with %q", faults, c.fault)
			}
		})
	}
}

func TestLedgerFaultsAreBounded(t *testing.T) {
	l := newLedger()
	for n := range uint64(100) {
		l.noteTailed(blobKey(n), []uint64{n}, 1)
		l.noteAcknowledged(blobKey(1000+n), 1, 1)
	}
	if n := len(l.verdict()); n != 2*maxFaults {
		t.Errorf("%d faults are told, want %d", n, 2*maxFaults)
	}
	if got := l.totalsNow(); got.corrupt != 100 || got.lost != 100 {
		t.Errorf("got %+v", got)
	}
}

// wait must return when the last acknowledged blob is tailed, and on giveUp.
func TestLedgerWait(t *testing.T) {
	l := newLedger()
	l.wait()
	l.noteAcknowledged(blobKey(0), 1, 9)
	done := make(chan struct{})
	go func() { l.wait(); close(done) }()
	l.noteTailed(blobKey(0), []uint64{1}, 9)
	<-done
	l.noteAcknowledged(blobKey(1), 1, 9)
	done = make(chan struct{})
	go func() { l.wait(); close(done) }()
	l.giveUp()
	<-done
}

func TestSampleIsSpread(t *testing.T) {
	l := newLedger()
	for n := range uint64(100) {
		l.noteTailed(blobKey(n), nil, n)
	}
	l.noteAcknowledged(blobKey(1000), 0, 0)
	if got := l.sample(10); len(got) != 10 || got[0] != blobKey(0) {
		t.Errorf("got %v", got)
	}
	if got := l.sample(1000); len(got) != 100 {
		t.Errorf("%d of 100 are sampled", len(got))
	}
}

// Names must count: an event that comes out under another type is another event.
func TestEventHashTellsNamesApart(t *testing.T) {
	d := xxhash.New()
	seen := map[uint64]bool{}
	for _, c := range [][3]string{{"a", "b", "c"}, {"a", "c", "b"}, {"ab", "", "c"}, {"a", "b", "d"}, {"", "ab", "c"}} {
		seen[eventHash(d, c[0], c[1], []byte(c[2]))] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d hashes for 5 events", len(seen))
	}
}

func TestQuantiles(t *testing.T) {
	var empty timing
	if got := empty.quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	var even, weighted timing
	for i := range 100 {
		even.add(time.Duration(100-i), 1)
	}
	weighted.add(10, 98)
	weighted.add(20, 1)
	weighted.add(30, 1)
	for _, c := range []struct {
		t    *timing
		q    float64
		want time.Duration
	}{{&even, 0, 1}, {&even, 0.5, 51}, {&even, 0.99, 100}, {&even, 1, 100}, {&weighted, 0.5, 10}, {&weighted, 0.985, 20}, {&weighted, 0.99, 30}} {
		if got := c.t.quantile(c.q); got != c.want {
			t.Errorf("quantile %v is %d, want %d", c.q, got, c.want)
		}
	}
}
