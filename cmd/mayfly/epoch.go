package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/config"
)

// parseEpoch reads a second as people write it: "1763712000" (Unix time), "now",
// "now-10m", or "2025-11-21T08:00:00Z".
func parseEpoch(text string, now time.Time) (int64, error) {
	fault := func() error {
		return fmt.Errorf("%q is not a second; write Unix time, as in 1763712000, or now, now-10m, 2025-11-21T08:00:00Z", text)
	}
	if ago, ok := strings.CutPrefix(text, "now"); ok {
		if ago == "" {
			return now.Unix(), nil
		}
		d, err := config.ParseDuration(strings.TrimPrefix(ago, "-"))
		if err != nil || ago[0] != '-' || d < 0 {
			return 0, fault()
		}
		return now.Add(-time.Duration(d)).Unix(), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		if t.Unix() < 1 {
			return 0, fault()
		}
		return t.Unix(), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > event.MaxEpoch || strconv.FormatInt(n, 10) != text {
		return 0, fault()
	}
	return n, nil
}

// expandNow replaces a leading "now:" of a key by the present second.
func expandNow(key string, now time.Time) string {
	if rest, ok := strings.CutPrefix(key, "now:"); ok {
		return strconv.FormatInt(now.Unix(), 10) + ":" + rest
	}
	return key
}
