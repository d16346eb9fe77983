package index

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestStanding(t *testing.T) {
	type word struct{ row, now int64 }
	for _, c := range []struct {
		name  string
		left  int64
		words []word
		want  []span // what Holds says yes to, of seconds 1 to 99
	}{
		{"nobody has heard of it", 0, nil, nil},
		{"a hello", 0, []word{{10, 10}}, []span{{11, 21}}},
		{"one that took long", 0, []word{{10, 18}}, []span{{19, 21}}},
		{"and too long", 0, []word{{10, 20}}, nil},
		{"said ahead of its second", 0, []word{{12, 10}}, []span{{13, 23}}},
		{"a final each second", 0, []word{{10, 10}, {11, 13}, {12, 14}, {13, 15}}, []span{{11, 24}}},
		{"in any order", 0, []word{{13, 15}, {12, 15}, {10, 15}}, []span{{16, 24}}},
		{"an outage just short enough", 0, []word{{10, 10}, {20, 20}}, []span{{11, 31}}},
		{"one second longer", 0, []word{{10, 10}, {21, 21}}, []span{{11, 21}, {22, 32}}},
		{"an old final after it", 0, []word{{10, 10}, {20, 23}}, []span{{11, 21}, {24, 31}}},
		{"two outages", 0, []word{{10, 10}, {30, 30}, {50, 50}}, []span{{31, 41}, {51, 61}}},
		{"a clock set back", 0, []word{{50, 50}, {40, 40}}, []span{{41, 61}}},
		{"far back", 0, []word{{50, 50}, {20, 20}}, []span{{21, 31}, {51, 61}}},
		{"soon after a goodbye", 9, []word{{10, 10}}, []span{{20, 21}}},
	} {
		var s Standing
		if c.left != 0 {
			s.Left(c.left)
		}
		for _, w := range c.words {
			s.Acknowledged(w.row, w.now)
		}
		for second := int64(1); second < 100; second++ {
			want := false
			for _, p := range c.want {
				want = want || p.has(second)
			}
			if got := s.Holds(second); got != want {
				t.Errorf("%s: in %d it holds: %v", c.name, second, got)
			}
			if got := s.Lapses(second); c.left == 0 && got == s.Holds(second+1) {
				t.Errorf("%s: in %d it lapses: %v", c.name, second, got)
			}
		}
	}
}

// TestLapsesAfterGoodbye: a hello is of use once it reaches beyond what the goodbye
// hides, and one is enough until then.
func TestLapsesAfterGoodbye(t *testing.T) {
	var s Standing
	s.Left(100)
	var said []int64
	for now := int64(95); now < 130; now++ {
		if s.Lapses(now) {
			said = append(said, now)
			s.Acknowledged(now, now)
		}
	}
	if !slices.Equal(said, []int64{101, 111, 121}) {
		t.Errorf("hellos in %v", said)
	}
}

// TestStandingIsExpected: readers who judge a second when it is over expect whoever
// had a standing in it, whatever came through when.
func TestStandingIsExpected(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := Writer{Name: "w", Incarnation: 1}
		var s Standing
		rows := map[int64]Row{}
		var waiting []int64 // seconds whose final is not acknowledged
		down, holds := false, map[int64]bool{}
		for now := int64(100); now < 200; now++ {
			if rapid.IntRange(0, 9).Draw(rt, "turn") == 0 {
				down = !down
			}
			if s.Holds(now - 1) {
				waiting = append(waiting, now-2)
			}
			if !down {
				for _, row := range append(waiting, now) { // the hello goes last
					if row > now-10 {
						rows[row] = Row{Sections: []Section{{Writer: w, Hello: true}}}
						s.Acknowledged(row, now)
					}
				}
				waiting = nil
			}
			// Now the reader judges the second that is over.
			var before []Row
			for e := now - 1 - ExpectedSeconds; e < now-1; e++ {
				before = append(before, rows[e])
			}
			if expected := len(ExpectedIn(before...)) > 0; holds[now-1] && !expected {
				rt.Fatalf("in %d it had a standing, and nobody expects it", now-1)
			}
			holds[now+1] = s.Holds(now + 1)
			if holds[now] != s.Holds(now) {
				rt.Fatalf("whether it has a standing in %d changed when that had begun", now)
			}
		}
	})
}
