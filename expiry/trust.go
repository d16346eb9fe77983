package expiry

import (
	"fmt"
	"time"
)

// TrustConfig are the bounds of a Trust. The zero value of a field means its
// default.
type TrustConfig struct {
	// MaxJump is how far the wall clock may move apart from the monotonic one
	// between two observations, besides a slewing clock's 1 in 1000. Default 5 s.
	MaxJump time.Duration

	// Settle is how long the wall clock must agree with the monotonic one after
	// a jump, or after a start with an implausible gap, to be trusted again.
	// Default 1 h: time for an operator to see the alarm, and little against the
	// days for which data is kept.
	Settle time.Duration

	// MaxGap is how long after the newest data the clock may say a node starts
	// without settling first. A clock far in the future would otherwise expire
	// everything at the first look. Default 24 h.
	MaxGap time.Duration
}

// A Reason says why a clock is not trusted.
type Reason uint8

// The reasons, from none on.
const (
	Trusted      Reason = iota // it is trusted
	JumpedAhead                // the wall clock ran ahead of the monotonic one, less than Settle ago
	JumpedBack                 // the wall clock fell behind the monotonic one, less than Settle ago
	BeforeNewest               // at the start the clock was before the newest data, less than Settle ago
	LongAfter                  // at the start the clock was more than MaxGap after the newest data, less than Settle ago
)

// String names the reason in a few words, fit for a metric's label.
func (r Reason) String() string {
	switch r {
	case Trusted:
		return "trusted"
	case JumpedAhead:
		return "jumped ahead"
	case JumpedBack:
		return "jumped back"
	case BeforeNewest:
		return "before the newest data"
	case LongAfter:
		return "long after the newest data"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// A Verdict is what a Trust makes of the clock at one observation.
type Verdict struct {
	Reason Reason
	Off    time.Duration // how far the clock is off by that reason; 0 when trusted
	Wait   time.Duration // until it is trusted, if nothing else happens; 0 when trusted
}

// Trusted reports whether files may be unlinked and horizons raised.
func (v Verdict) Trusted() bool { return v.Reason == Trusted }

// String is a sentence for the log and the status page.
func (v Verdict) String() string {
	const waits = "; nothing is unlinked for another %v"
	switch v.Reason {
	case Trusted:
		return "the clock is trusted"
	case JumpedAhead:
		return fmt.Sprintf("the clock jumped ahead by %v"+waits, v.Off, v.Wait)
	case JumpedBack:
		return fmt.Sprintf("the clock jumped back by %v"+waits, v.Off, v.Wait)
	case BeforeNewest:
		return fmt.Sprintf("the node started %v before its newest data: set the clock right"+waits, v.Off, v.Wait)
	case LongAfter:
		return fmt.Sprintf("the node started %v after its newest data: if that is not so, set the clock right"+waits, v.Off, v.Wait)
	}
	panic(fmt.Sprintf("expiry: BUG: verdict with %v", v.Reason))
}

// startSlack is how far before its newest data a node may start unsuspected:
// an admitted epoch may be ahead of the clock by DefaultAheadSeconds, and the
// clock may have been stepped back a little since.
const startSlack = 2 * DefaultAheadSeconds * time.Second

// A Trust decides whether the wall clock may be believed enough to unlink
// files. Reading and admission go by the clock as it is; only what cannot be
// undone waits.
//
// Every doubt ends after Settle: an operator has had the time to see it, and a
// node that never unlinked again, because one record once came from a wrong
// future, would fill its disk. What remains after that is safe on the side
// that is likely: a clock that is behind unlinks too little, never too much.
//
// It sees jumps, not drift: a clock that is slewed, or stepped by less than
// MaxJump again and again, stays trusted. Comparing with peers finds those.
//
// A Trust belongs to one goroutine.
type Trust struct {
	cfg      TrustConfig
	newest   int64         // greatest epoch known to be on the disk; 0 = none
	started  bool          // wall is valid
	wall     time.Time     // at the last observation, without monotonic reading
	doubt    Reason        // why it settles; Trusted when it does not
	off      time.Duration // of doubt
	settling time.Duration // what is left of Settle
}

// NewTrust returns a Trust for a node that starts. newestEpoch is the greatest
// epoch the disk is known to hold data for (the start of the newest slot with
// a file does well); 0 means the disk is empty.
func NewTrust(cfg TrustConfig, newestEpoch int64) *Trust {
	setDefault(&cfg.MaxJump, 5*time.Second)
	setDefault(&cfg.Settle, time.Hour)
	setDefault(&cfg.MaxGap, 24*time.Hour)
	return &Trust{cfg: cfg, newest: newestEpoch}
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d <= 0 {
		*d = to
	}
}

// Observe takes one look at the clock: wall is the time it shows, elapsed the
// monotonic time since the previous observation (of the first one it is
// ignored). With prev kept from the last call, now := time.Now() and
// now.Sub(prev) are right. Call it every few seconds and before unlinking.
func (t *Trust) Observe(wall time.Time, elapsed time.Duration) Verdict {
	wall = wall.Round(0)
	if t.started {
		t.settle(elapsed)
		t.compare(wall.Sub(t.wall), elapsed)
	} else {
		t.started = true
		t.start(wall)
	}
	t.wall = wall
	return Verdict{t.doubt, t.off, t.settling}
}

// settle lets elapsed time pass for a doubt.
func (t *Trust) settle(elapsed time.Duration) {
	if t.settling -= max(0, elapsed); t.settling <= 0 {
		t.settling, t.doubt, t.off = 0, Trusted, 0
	}
}

// compare looks for a jump between two observations.
func (t *Trust) compare(passed, elapsed time.Duration) {
	off := passed - elapsed
	allowed := t.cfg.MaxJump + max(0, elapsed)/1000
	switch {
	case off > allowed:
		t.doubt, t.off, t.settling = JumpedAhead, off, t.cfg.Settle
	case off < -allowed:
		t.doubt, t.off, t.settling = JumpedBack, -off, t.cfg.Settle
	}
}

// start compares the first observation with the newest data.
func (t *Trust) start(wall time.Time) {
	if t.newest == 0 {
		return
	}
	gap := wall.Sub(time.Unix(t.newest, 0))
	switch {
	case gap < -startSlack:
		t.doubt, t.off, t.settling = BeforeNewest, -gap, t.cfg.Settle
	case gap > t.cfg.MaxGap:
		t.doubt, t.off, t.settling = LongAfter, gap, t.cfg.Settle
	}
}
