package tail

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
)

// TestDemand: what all subscriptions together want is told whenever one comes or
// goes.
func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(newMemStore("ams"), DefaultConfig(), slog.New(slog.DiscardHandler))
		defer h.Close()
		told := 0
		h.OnDemand(func() { told++ })
		var subs []*Subscription
		check := func(claim string, tails int, bodies bool, dcs ...string) {
			t.Helper()
			if d := h.Demand(); d.Tails != tails || d.Bodies != bodies || !slices.Equal(d.DCs, dcs) {
				t.Errorf("%s: %+v", claim, d)
			}
		}
		subscribe := func(o Options) {
			t.Helper()
			s, err := h.Subscribe(o)
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, s)
		}
		check("nobody", 0, false)
		subscribe(Options{DC: "fra,ams", WithoutBodies: true})
		check("by name", 1, false, "ams", "fra")
		subscribe(Options{DC: "ams,zrh"})
		check("some more", 2, true, "ams", "fra", "zrh")
		subscribe(Options{DC: "lon,z*", WithoutBodies: true})
		check("by a pattern", 3, true)
		subs[2].Close()
		check("it has gone", 2, true, "ams", "fra", "zrh")
		subscribe(Options{WithoutBodies: true})
		check("everything", 3, true)
		subs[1].Close()
		check("nobody wants bodies", 2, false)
		if told != 6 {
			t.Errorf("told %d times", told)
		}
		for _, s := range subs {
			s.Close()
			s.Close()
		}
		check("nobody again", 0, false)
		if told != 8 {
			t.Errorf("told %d times in all", told)
		}
	})
}
