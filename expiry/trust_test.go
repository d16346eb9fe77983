package expiry

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Unix(1763812800, 0)

const newest = 1763809200 // an hour before noon

// look is one observation: the wall clock at noon plus at, elapsed since the
// one before.
type look struct {
	at, elapsed time.Duration
	want        Reason
}

func TestTrust(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	for _, c := range []struct {
		name   string
		newest int64
		looks  []look
	}{
		{"a steady clock is trusted from the first look", newest, []look{{0, 0, Trusted}, {10 * s, 10 * s, Trusted}}},
		{"elapsed does not count in the first look", newest, []look{{0, 99 * h, Trusted}}},
		{"a slewed clock is trusted", newest, []look{{0, 0, Trusted}, {10*h + 40*s, 10 * h, Trusted}}},
		{"a small step is trusted", newest, []look{{0, 0, Trusted}, {14 * s, 10 * s, Trusted}, {16 * s, 6 * s, Trusted}}},
		{"a jump ahead is not, until it has settled", newest, []look{
			{0, 0, Trusted},
			{1*h + 10*s, 10 * s, JumpedAhead},
			{1*h + 10*s + 9*m, 9 * m, JumpedAhead},
			{1*h + 10*s + 10*m, 1 * m, Trusted}}},
		{"a jump back is not either", newest, []look{
			{0, 0, Trusted},
			{-1 * h, 10 * s, JumpedBack},
			{-1*h + 10*m, 10 * m, Trusted}}},
		{"a second jump starts the wait again", newest, []look{
			{0, 0, Trusted},
			{1 * h, 1 * s, JumpedAhead},
			{0, 9 * m, JumpedBack},
			{5 * m, 5 * m, JumpedBack},
			{10 * m, 5 * m, Trusted}}},
		{"a machine that slept has jumped", newest, []look{{0, 0, Trusted}, {8 * h, 1 * s, JumpedAhead}}},
		{"a clock that stands still falls behind", newest, []look{{0, 0, Trusted}, {0, 6 * s, JumpedBack}}},
		{"a monotonic clock that runs backwards earns no trust", newest, []look{
			{0, 0, Trusted}, {1 * h, 1 * s, JumpedAhead}, {-8 * h, -9 * h, JumpedAhead}}},
		{"a start before the newest data is not trusted", noon.Unix() + 3600, []look{
			{0, 0, BeforeNewest},
			{9 * m, 9 * m, BeforeNewest},
			{10 * m, 1 * m, Trusted}}},
		{"data a little ahead is no sign", noon.Unix() + 20, []look{{0, 0, Trusted}}},
		{"data further ahead is", noon.Unix() + 21, []look{{0, 0, BeforeNewest}}},
		{"a start a day after the newest data is trusted", noon.Unix() - 86400, []look{{0, 0, Trusted}}},
		{"a start in the far future is not, until an operator could see it", noon.Unix() - 86401, []look{
			{0, 0, LongAfter}, {10 * m, 10 * m, Trusted}}},
		{"an empty disk has nothing to lose", 0, []look{{0, 0, Trusted}}},
	} {
		trust := NewTrust(TrustConfig{Settle: 10 * m}, c.newest)
		for i, l := range c.looks {
			v := trust.Observe(noon.Add(l.at), l.elapsed)
			if v.Reason != l.want || v.Trusted() != (l.want == Trusted) {
				t.Errorf("%s: look %d: %v, want %v", c.name, i, v, l.want)
			}
			if v.Trusted() != (v.Wait == 0) || v.Trusted() != (v.Off == 0) {
				t.Errorf("%s: look %d: off %v, wait %v", c.name, i, v.Off, v.Wait)
			}
		}
	}
}

func TestTrustBoundsAreSettings(t *testing.T) {
	trust := NewTrust(TrustConfig{MaxJump: time.Hour, Settle: time.Second, MaxGap: 72 * time.Hour}, noon.Unix()-48*3600)
	for i, l := range []look{
		{0, 0, Trusted},
		{time.Hour, 0, Trusted},
		{3 * time.Hour, 0, JumpedAhead},
		{3*time.Hour + time.Second, time.Second, Trusted},
	} {
		if v := trust.Observe(noon.Add(l.at), l.elapsed); v.Reason != l.want {
			t.Errorf("look %d: %v, want %v", i, v, l.want)
		}
	}
}

func TestTrustSettlesInAnHour(t *testing.T) {
	trust := NewTrust(TrustConfig{}, newest)
	trust.Observe(noon, 0)
	if v := trust.Observe(noon.Add(time.Hour), 0); v != (Verdict{JumpedAhead, time.Hour, time.Hour}) {
		t.Errorf("got %+v", v)
	}
}

func TestVerdictSaysWhy(t *testing.T) {
	for _, c := range []struct {
		v    Verdict
		want string
	}{
		{Verdict{}, "the clock is trusted"},
		{Verdict{JumpedAhead, time.Hour, time.Minute}, "the clock jumped ahead by 1h0m0s; nothing is unlinked for another 1m0s"},
		{Verdict{JumpedBack, time.Hour, time.Minute}, "the clock jumped back by 1h0m0s"},
		{Verdict{BeforeNewest, time.Hour, time.Minute}, "the node started 1h0m0s before its newest data: set the clock right; nothing"},
		{Verdict{LongAfter, time.Hour, time.Minute}, "the node started 1h0m0s after its newest data: if that is not so"},
	} {
		if got := c.v.String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%q, want %q…", got, c.want)
		}
		if label := c.v.Reason.String(); label == "" || strings.HasPrefix(label, "reason") {
			t.Errorf("reason %d has no name", c.v.Reason)
		}
	}
}
