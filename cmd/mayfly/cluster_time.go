package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mayflydb/mayfly/internal/config"
)

// How often a command that waits looks again.
const (
	documentPause = 250 * time.Millisecond // at the document
	reportsPause  = time.Second            // at all members
)

// pause waits, and returns why it ended before its time.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clockText writes a second for people.
func clockText(second int64) string {
	return time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

// whenText writes a second and how far it is from now.
func whenText(second, now int64) string {
	switch {
	case second > now:
		return fmt.Sprintf("%s (in %s)", clockText(second), spanText(second-now))
	case second < now:
		return fmt.Sprintf("%s (%s ago)", clockText(second), spanText(now-second))
	}
	return clockText(second) + " (now)"
}

// spanText writes a length of time in at most two units: nobody plans by the
// second what takes days.
func spanText(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d >= 24*time.Hour:
		d = d.Round(time.Hour)
	case d >= time.Hour:
		d = d.Round(time.Minute)
	}
	return config.Duration(d).String()
}

// slotText writes a slot with the time it begins at.
func slotText(slot, slotSeconds, now int64) string {
	return fmt.Sprintf("slot %d, %s", slot, whenText(slot*slotSeconds, now))
}

// etaText writes how long something takes at a rate.
func etaText(bytes, perSecond uint64) string {
	if perSecond == 0 {
		return "rate not known yet"
	}
	return fmt.Sprintf("%s/s, about %s", bytesText(int64(perSecond)), spanText(int64((bytes+perSecond-1)/perSecond)))
}
