package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A leader is waited for as long as an election takes, and no longer than who asks
// waits for the sentence that there is none.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Cluster{cfg: Config{Timing: Timing{Election: time.Second}}}
		for _, w := range []struct{ asks, want time.Duration }{
			{0, 4 * time.Second}, {time.Minute, 4 * time.Second}, {8 * time.Second, 4 * time.Second}, {2 * time.Second, time.Second}, {-1, 0},
		} {
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if w.asks != 0 {
				ctx, cancel = context.WithTimeout(ctx, w.asks)
			}
			if got := c.patience(ctx); got != w.want {
				t.Errorf("who asks waits for %v: %v, want %v", w.asks, got, w.want)
			}
			cancel()
		}
	})
}
