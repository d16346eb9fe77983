package expiry

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotOf(t *testing.T) {
	for _, c := range []struct {
		name          string
		epoch, length int64
		want          Slot
	}{
		{"the first second of a slot is in it", 7200, 3600, 2},
		{"the last second of a slot is in it", 7199, 3600, 1},
		{"slots may be short", 1763800009, 10, 176380000},
		{"slots may be one second", 5, 1, 5},
		{"zero", 0, 3600, 0},
		{"before 1970 it is still a floor", -1, 3600, -1},
		{"and exact there too", -3600, 3600, -1},
		{"the greatest epoch", math.MaxInt64, 1, math.MaxInt64},
		{"the least epoch", math.MinInt64, 1, math.MinInt64},
	} {
		if got := SlotOf(c.epoch, c.length); got != c.want {
			t.Errorf("%s: SlotOf(%d, %d) = %d, want %d", c.name, c.epoch, c.length, got, c.want)
		}
	}
}

func TestSlotBounds(t *testing.T) {
	if start, end := Slot(2).Start(3600), Slot(2).End(3600); start != 7200 || end != 10800 {
		t.Errorf("slot 2 is [%d, %d), want [7200, 10800)", start, end)
	}
	if end := Slot(math.MaxInt64).End(3600); end != math.MaxInt64 {
		t.Errorf("the end of the last slot wrapped to %d", end)
	}
	if start := Slot(math.MinInt64).Start(3600); start != math.MinInt64 {
		t.Errorf("the start of the first slot wrapped to %d", start)
	}
}

func TestSlotsTileTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(1, 1<<32).Draw(t, "length")
		epoch := rapid.Int64Range(-1<<53, 1<<53).Draw(t, "epoch")
		slot := SlotOf(epoch, length)
		if epoch < slot.Start(length) || epoch >= slot.End(length) {
			t.Fatalf("%d is in slot %d, which is [%d, %d)", epoch, slot, slot.Start(length), slot.End(length))
		}
		if SlotOf(slot.End(length), length) != slot+1 {
			t.Fatalf("slot %d ends where slot %d does not begin", slot, slot+1)
		}
	})
}

func TestSlotLengthMustBePositive(t *testing.T) {
	for name, f := range map[string]func(){
		"SlotOf":      func() { SlotOf(1, 0) },
		"Start":       func() { Slot(1).Start(-1) },
		"NextHorizon": func() { NextHorizon(1, 0, 0) },
	} {
		func() {
			defer func() {
				if message, _ := recover().(string); !strings.HasPrefix(message, "expiry: BUG: ") {
					t.Errorf("%s with no slot length: recovered %q", name, message)
				}
			}()
			f()
		}()
	}
}

func TestExpired(t *testing.T) {
	const tenDays = 864000
	for _, c := range []struct {
		name            string
		epoch, ttl, now int64
		want            bool
	}{
		{"readable in its last second", 1000, tenDays, 1000 + tenDays - 1, false},
		{"gone exactly at its deadline", 1000, tenDays, 1000 + tenDays, true},
		{"gone after it", 1000, tenDays, 1000 + tenDays + 1, true},
		{"a TTL of one second", 1000, 1, 1000, false},
		{"a TTL of one second, one second on", 1000, 1, 1001, true},
		{"a TTL of zero is for ever", 1, 0, math.MaxInt64, false},
		{"a negative TTL must not delete", 1, -5, math.MaxInt64, false},
		{"an epoch ahead of the clock", 2000, 10, 1000, false},
		{"a deadline past the end of time is never", math.MaxInt64 - 5, 10, math.MaxInt64, false},
	} {
		if got := Expired(c.epoch, c.ttl, c.now); got != c.want {
			t.Errorf("%s: Expired(%d, %d, %d) = %t", c.name, c.epoch, c.ttl, c.now, got)
		}
	}
}

func TestSlotDead(t *testing.T) {
	// Slot 3 of 10 s holds 30..39; with a TTL of 100 the last of it dies at 139.
	for now, want := range map[int64]bool{138: false, 139: true, 140: true} {
		if got := SlotDead(3, 10, 100, now); got != want {
			t.Errorf("at %d: dead = %t, want %t", now, got, want)
		}
	}
	if SlotDead(3, 10, 0, math.MaxInt64) {
		t.Error("a slot died without a TTL")
	}
}

// A slot is dead when every epoch in it is expired, and only then.
func TestSlotDeadIsAllExpired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(1, 20).Draw(t, "length")
		slot := Slot(rapid.Int64Range(0, 50).Draw(t, "slot"))
		ttl := rapid.Int64Range(0, 100).Draw(t, "ttl")
		now := rapid.Int64Range(0, 1200).Draw(t, "now")
		all := true
		for epoch := slot.Start(length); epoch < slot.End(length); epoch++ {
			all = all && Expired(epoch, ttl, now)
		}
		if got := SlotDead(slot, length, ttl, now); got != all {
			t.Fatalf("dead = %t, all expired = %t", got, all)
		}
		if below := slot.End(length) <= int64(NextHorizon(now, ttl, length)); below != all {
			t.Fatalf("below the next horizon = %t, all expired = %t", below, all)
		}
	})
}

func TestNextHorizon(t *testing.T) {
	for _, c := range []struct {
		name             string
		now, ttl, length int64
		want             Horizon
	}{
		{"nothing dead yet", 100, 864000, 3600, 0},
		{"no TTL", 1 << 40, 0, 3600, 0},
		{"the slot of the oldest readable epoch stays", 7200 + 50 + 100, 50, 3600, 7200},
		{"a slot dies with its last epoch", 139, 100, 10, 40},
		{"not a second before", 138, 100, 10, 30},
		{"a clock before 1970", -100, 50, 10, 0},
		{"an absurd TTL", 1000, math.MaxInt64, 10, 0},
	} {
		if got := NextHorizon(c.now, c.ttl, c.length); got != c.want {
			t.Errorf("%s: NextHorizon(%d, %d, %d) = %d, want %d", c.name, c.now, c.ttl, c.length, got, c.want)
		}
	}
}

func TestHorizonNeverGoesDown(t *testing.T) {
	var h Horizon
	for _, c := range []struct {
		to    Horizon
		moved bool
		want  Horizon
	}{{3600, true, 3600}, {0, false, 3600}, {3600, false, 3600}, {-5, false, 3600}, {7200, true, 7200}} {
		if moved := h.Raise(c.to); moved != c.moved || h != c.want {
			t.Errorf("Raise(%d) = %t, now %d; want %t, %d", c.to, moved, h, c.moved, c.want)
		}
	}
	if !h.Covers(7199) || h.Covers(7200) {
		t.Error("the horizon itself must be the first epoch it does not cover")
	}
	if Horizon(0).Covers(1) {
		t.Error("no horizon covers the first epoch")
	}
}

// Whatever is shown after a horizon was raised and the TTL changed at will, it
// is nothing from a file that Dead gave leave to unlink.
func TestNothingReadableIsUnlinked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(1, 20).Draw(t, "length")
		var h Horizon
		now := int64(0)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			now += rapid.Int64Range(0, 100).Draw(t, "passed")
			ttl := rapid.Int64Range(0, 100).Draw(t, "ttl") // set anew each time
			for slot := range Dead(slices.Values([]Slot{0, 1, 2, 3, 5, 8, 13, 21}), func(s Slot) Slot { return s }, length, h) {
				for epoch := slot.Start(length); epoch < slot.End(length); epoch++ {
					limits := Limits{TTLSeconds: ttl, DropHorizon: h}
					if !Hidden(epoch, now, limits) || Admit(epoch, now, limits) == nil {
						t.Fatalf("epoch %d of unlinked slot %d is shown or admitted", epoch, slot)
					}
				}
			}
			h.Raise(NextHorizon(now, ttl, length))
		}
	})
}

func TestDead(t *testing.T) {
	type file struct {
		name string
		slot Slot
	}
	files := []file{{"a", 9}, {"b", 3}, {"c", 5}, {"d", 4}, {"e", 3}}
	slot := func(f file) Slot { return f.slot }
	names := func(h Horizon) (got string) {
		for f := range Dead(slices.Values(files), slot, 10, h) {
			got += f.name
		}
		return got
	}
	for h, want := range map[Horizon]string{0: "", 39: "", 40: "be", 49: "be", 50: "bde", 100: "abcde"} {
		if got := names(h); got != want {
			t.Errorf("horizon %d: %q may go, want %q", h, got, want)
		}
	}
	for range Dead(slices.Values(files), slot, 10, 100) {
		break // a loop that ends early must not be fed more
	}
}

func TestAdmit(t *testing.T) {
	limits := Limits{TTLSeconds: 100, AheadSeconds: 5, DropHorizon: 930}
	for _, c := range []struct {
		name  string
		epoch int64
		l     Limits
		want  error
		say   string
	}{
		{"now", 1000, limits, nil, ""},
		{"as far ahead as allowed", 1005, limits, nil, ""},
		{"one second further", 1006, limits, ErrTooFarAhead,
			"epoch 1006 is 6 s ahead of the clock (1000), 1 s more than allowed: check the sender's clock: too far ahead"},
		{"milliseconds instead of seconds", 1000000, limits, ErrTooFarAhead, "999000 s ahead"},
		{"the first epoch above the horizon", 930, limits, nil, ""},
		{"below the horizon though the TTL would allow it", 929, limits, ErrExpired,
			"epoch 929 is before 930, where this bucket's data has been dropped: expired"},
		{"below both", 10, limits, ErrExpired, "epoch 10 is before 930"},
		{"the oldest readable", 901, Limits{TTLSeconds: 100}, nil, ""},
		{"one second older", 900, Limits{TTLSeconds: 100}, ErrExpired, "epoch 900 was readable until 1000, now is 1000: expired"},
		{"the default lead", 1010, Limits{}, nil, ""},
		{"one second more", 1011, Limits{}, ErrTooFarAhead, "11 s ahead"},
		{"no lead at all", 1001, Limits{AheadSeconds: -1}, ErrTooFarAhead, "1 s ahead"},
		{"no lead, now", 1000, Limits{AheadSeconds: -1}, nil, ""},
		{"a lead past the end of time", math.MaxInt64, Limits{AheadSeconds: math.MaxInt64}, nil, ""},
		{"for ever", 1, Limits{}, nil, ""},
	} {
		err := Admit(c.epoch, 1000, c.l)
		if !errors.Is(err, c.want) || (c.want == nil && err != nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
			continue
		}
		if c.want == nil {
			continue
		}
		refused, typed := errors.AsType[*RefusedError](err)
		if !typed || refused.Epoch != c.epoch || refused.Now != 1000 {
			t.Errorf("%s: %#v does not carry the numbers", c.name, err)
		}
		if !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %q, want %q in it", c.name, err, c.say)
		}
	}
}

// What is too far ahead to be taken in is not hidden if it is there: another
// clock admitted it.
func TestReadableLooksBackOnly(t *testing.T) {
	if err := Readable(5000, 1000, Limits{TTLSeconds: 100}); err != nil {
		t.Errorf("an epoch ahead of the clock: %v", err)
	}
}

func TestHiddenIsReadable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		epoch, now := rapid.Int64().Draw(t, "epoch"), rapid.Int64().Draw(t, "now")
		l := Limits{TTLSeconds: rapid.Int64().Draw(t, "ttl"), DropHorizon: Horizon(rapid.Int64().Draw(t, "horizon"))}
		if Hidden(epoch, now, l) != (Readable(epoch, now, l) != nil) {
			t.Fatalf("Hidden = %t, Readable = %v", Hidden(epoch, now, l), Readable(epoch, now, l))
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	b.ReportAllocs()
	limits := Limits{TTLSeconds: 864000, DropHorizon: 1763000000}
	for b.Loop() {
		if err := Admit(1763800000, 1763800003, limits); err != nil {
			b.Fatal(err)
		}
	}
}
