package tail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Config holds a hub's bounds.
type Config struct {
	LatenessSeconds int64 // when a second that is not complete is told to be incomplete; 1..3600
	OpenSeconds     int64 // how long after that index owners still take entries for it; 1..3600
	SettleSeconds   int64 // how long after that the hub waits before it calls the second finished; 1..3600

	Subscriptions int           // at once; 1..65536
	QueueItems    int           // that wait for one subscription's reader; 16 or more
	QueueBytes    int64         // of bodies that wait for one subscription's reader; 0 or more
	TotalBytes    int64         // of bodies that wait for all readers; 0 or more
	WindowBlobs   int           // the hub remembers, some 500 bytes each; 1024 or more
	Reads         int           // of index rows at once; 1..1024
	ReadTimeout   time.Duration // of one read of an index row; 1ms or more

	// Runtime is where time and concurrency come from. Default: the clock and
	// goroutines.
	Runtime Runtime
}

// A Runtime lets the owner of a hub decide what time it is and what runs when,
// for simulations. A hub with one starts no goroutine of its own: the owner calls
// [Hub.Step] every second, and the Source bounds its reads itself. But for Go, its
// methods are called without the hub's lock.
type Runtime interface {
	Now() time.Time
	// Go has f run beside the caller: not before it has returned.
	Go(f func())
	// Pause returns when wake has something, which it takes, when d is over, if it
	// is not 0, when closed is, or when ctx ends.
	Pause(ctx context.Context, closed, wake <-chan struct{}, d time.Duration)
}

// realTime is the Runtime of the world.
type realTime struct{ wg *sync.WaitGroup }

func (r realTime) Now() time.Time { return time.Now() }

func (r realTime) Go(f func()) { r.wg.Go(f) }

func (r realTime) Pause(ctx context.Context, closed, wake <-chan struct{}, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-wake:
	case <-over:
	case <-closed:
	case <-ctx.Done():
	}
}

// DefaultConfig returns the bounds of an ordinary node.
func DefaultConfig() Config {
	return Config{
		LatenessSeconds: 5,
		OpenSeconds:     5,
		SettleSeconds:   10,
		Subscriptions:   1024,
		QueueItems:      16 << 10,
		QueueBytes:      64 << 20,
		TotalBytes:      256 << 20,
		WindowBlobs:     256 << 10,
		Reads:           16,
		ReadTimeout:     2 * time.Second,
	}
}

// Validate reports all that is out of range.
func (c Config) Validate() error {
	var faults []error
	check := func(ok bool, name, want string) {
		if !ok {
			faults = append(faults, fmt.Errorf("tail: %s must be %s", name, want))
		}
	}
	for name, seconds := range map[string]int64{
		"LatenessSeconds": c.LatenessSeconds, "OpenSeconds": c.OpenSeconds, "SettleSeconds": c.SettleSeconds,
	} {
		check(seconds >= 1 && seconds <= 3600, name, "1 to 3600")
	}
	check(c.Subscriptions >= 1 && c.Subscriptions <= 65536, "Subscriptions", "1 to 65536")
	check(c.QueueItems >= 16, "QueueItems", "16 or more")
	check(c.QueueBytes >= 0, "QueueBytes", "0 or more")
	check(c.TotalBytes >= 0, "TotalBytes", "0 or more")
	check(c.WindowBlobs >= 1024, "WindowBlobs", "1024 or more")
	check(c.Reads >= 1 && c.Reads <= 1024, "Reads", "1 to 1024")
	check(c.ReadTimeout >= time.Millisecond, "ReadTimeout", "1ms or more")
	return errors.Join(faults...)
}

// finishSeconds is how long after its beginning a second of arrival can be
// finished.
func (c *Config) finishSeconds() int64 { return c.LatenessSeconds + c.OpenSeconds + c.SettleSeconds }
