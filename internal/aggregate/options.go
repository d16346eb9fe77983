package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// DefaultListen is where events are received unless told otherwise.
const DefaultListen = "127.0.0.1:7071"

// Options are what an Aggregator is made of. Where zero is not a choice of its
// own it means the default named beside it.
type Options struct {
	Listen []string // UDP addresses, host:port, to receive at; none = only Offer brings events
	DC     string   // of events that name none; required

	Writer      string         // this process's name among those who push, such as host and role; required
	Incarnation uint64         // of this start; 0 = random
	Succeeds    []index.Writer // starts that ended without a goodbye and are not to be waited for

	Grace        time.Duration // how long after its end a second is closed; also how long late events wait for others; 0 = 500 ms
	OpenSeconds  int64         // how long after its begin owners take entries and finals of a second; 0 = 10
	TTLSeconds   int64         // older events are refused; 0 = ten days
	AheadSeconds int64         // events further ahead of the clock are refused; 0 = 10, negative = none may be ahead

	MaxBufferedBytes   int64 // of events and blobs held, allocators' rounding apart: allow for twice; 0 = 256 MiB, at least 1 MiB
	MaxGroups          int   // blobs collected at once; 0 = 4096
	MaxDCs             int   // dcs at once, the own one included; 0 = 16
	ReceiveBufferBytes int   // of each socket, asked of the kernel; 0 = 16 MiB

	Putters     int           // calls of PutBatch under way at once; 0 = 4
	CallTimeout time.Duration // of one call to the Sink; 0 = 10 s
	StopTimeout time.Duration // for what is under way when Run is told to stop; 0 = 10 s

	// OnAck is called once for every blob that was acknowledged, with how many
	// events it has and the xxhash64 of its value. OnDrop is called when events
	// were dropped. Both may be called by several goroutines at once, hold up
	// whoever calls them, and must not call the Aggregator.
	OnAck  func(key event.Key, events int, checksum uint64)
	OnDrop func(reason Reason, events int)

	Log *slog.Logger // nil = none
}

const (
	defaultGrace             = 500 * time.Millisecond
	defaultOpenSeconds       = 10
	defaultBuffered          = 256 << 20
	minBuffered              = 1 << 20
	defaultGroups            = 4096
	defaultDCs               = 16
	defaultReceive           = 16 << 20
	defaultPutters           = 4
	defaultCallTimeout       = 10 * time.Second
	defaultStopTimeout       = 10 * time.Second
	maxGrace                 = time.Minute
	maxPutters               = 256
	maxReceive               = 1 << 30
	idleDCSeconds      int64 = 600 // after which a foreign dc without events is left, with a goodbye
)

// Validate reports all that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(event.ValidName(o.DC), "dc %q: give 1 to %d of the characters A-Z a-z 0-9 _ . -", o.DC, event.MaxNameBytes)
	check(len(o.Writer) >= 1 && len(o.Writer) <= object.MaxNameBytes,
		"writer name %.80q: give 1 to %d bytes that no other pusher uses", o.Writer, object.MaxNameBytes)
	check(o.Grace >= 0 && o.Grace <= maxGrace, "a grace of %v: give 0 to %v", o.Grace, maxGrace)
	check(o.OpenSeconds >= 0, "%d open seconds: give 1 or more, or 0 for %d", o.OpenSeconds, defaultOpenSeconds)
	check(o.TTLSeconds >= 0, "a TTL of %d s: give 1 or more, or 0 for ten days", o.TTLSeconds)
	check(o.MaxBufferedBytes == 0 || o.MaxBufferedBytes >= minBuffered,
		"%d bytes of memory: give %d or more", o.MaxBufferedBytes, minBuffered)
	check(o.MaxGroups >= 0, "%d blobs at once: give 1 or more, or 0 for %d", o.MaxGroups, defaultGroups)
	check(o.MaxDCs >= 0, "%d dcs: give 1 or more, or 0 for %d", o.MaxDCs, defaultDCs)
	check(o.ReceiveBufferBytes >= 0 && o.ReceiveBufferBytes <= maxReceive,
		"a receive buffer of %d bytes: give up to %d, or 0 for %d", o.ReceiveBufferBytes, maxReceive, defaultReceive)
	check(o.Putters >= 0 && o.Putters <= maxPutters, "%d puts at once: give 1 to %d, or 0 for %d", o.Putters, maxPutters, defaultPutters)
	check(o.CallTimeout >= 0, "a call timeout of %v: give more than 0, or 0 for %v", o.CallTimeout, defaultCallTimeout)
	check(o.StopTimeout >= 0, "a stop timeout of %v: give more than 0, or 0 for %v", o.StopTimeout, defaultStopTimeout)
	check(len(o.Succeeds) <= index.MaxSucceeds, "succeeds %d writers: at most %d are possible", len(o.Succeeds), index.MaxSucceeds)
	for _, w := range o.Succeeds {
		check(!w.Anonymous() && w != o.self(), "succeeds %v: name an earlier start of a writer", w)
	}
	return errors.Join(faults...)
}

// self is who this start is.
func (o *Options) self() index.Writer {
	return index.Writer{Name: o.Writer, Incarnation: o.Incarnation}
}

// limits are the bounds of an event's epoch.
func (o *Options) limits() expiry.Limits {
	return expiry.Limits{TTLSeconds: o.TTLSeconds, AheadSeconds: o.AheadSeconds}
}

// withDefaults puts the defaults where zero stands for them, the incarnation and
// the log apart.
func (o Options) withDefaults() Options {
	o.Grace = cmp.Or(o.Grace, defaultGrace)
	o.OpenSeconds = cmp.Or(o.OpenSeconds, defaultOpenSeconds)
	o.TTLSeconds = cmp.Or(o.TTLSeconds, int64(bucket.DefaultEventsTTL))
	o.MaxBufferedBytes = cmp.Or(o.MaxBufferedBytes, defaultBuffered)
	o.MaxGroups = cmp.Or(o.MaxGroups, defaultGroups)
	o.MaxDCs = cmp.Or(o.MaxDCs, defaultDCs)
	o.ReceiveBufferBytes = cmp.Or(o.ReceiveBufferBytes, defaultReceive)
	o.Putters = cmp.Or(o.Putters, defaultPutters)
	o.CallTimeout = cmp.Or(o.CallTimeout, defaultCallTimeout)
	o.StopTimeout = cmp.Or(o.StopTimeout, defaultStopTimeout)
	o.Succeeds = slices.Clone(o.Succeeds)
	slices.SortFunc(o.Succeeds, index.Writer.Compare)
	o.Succeeds = slices.Compact(o.Succeeds)
	return o
}
