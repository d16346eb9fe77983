package bitcask

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	defaultSyncInterval    = time.Second
	defaultSealAfter       = 120     // seconds
	defaultMaxHandles      = 1024    // open files
	defaultHintCache       = 4 << 20 // bytes
	defaultMaxSegmentBytes = 1 << 30 // bytes
	maxSegmentBytes        = 32 << 30
	defaultMinFree         = 1 << 30  // bytes, or 2 % of the disk if that is less
	defaultMergeRate       = 16 << 20 // bytes a second
	defaultTombstoneGrace  = 864_000  // seconds: ten days
	defaultReserve         = 2 << 20  // bytes: manifests of some 60,000 segments
)

// A Config says whose a disk is and how to use it. Zero values of the optional
// fields mean their defaults.
type Config struct {
	Cluster, Node ID    // required: the disk must be theirs, or new
	Disk          ID    // of a directory that is made a disk now; zero: random
	SlotSeconds   int64 // required: the cluster's slot length, seconds

	// Hash is the placement hash (ring.HashBytes); required. Recovery computes it
	// for records it finds. It must be the one callers pass to Put and Get.
	Hash func(bucketType, bucket, key []byte) uint64

	// TTL returns a bucket's present TTL in seconds, 0 for never. It is called
	// with every get and put: it must be quick. Nil means never for all.
	TTL func(bucketID uint64) (seconds int64)

	// Unneeded reports whether nobody needs what the disk has in plain buckets of a
	// partition: all who own it have it. Maintain drops it then, segments that it
	// has asked about before and after it chose them: what is put once a partition
	// is needed again stays. Nil: everything is needed.
	Unneeded func(p Partition) bool

	// BootID is vfs.BootID(): tells the restart of a process from one of the
	// machine. Empty counts as a machine start each time.
	BootID string

	SyncInterval     time.Duration // of SyncInterval buckets; default 1 s
	SealAfterSeconds int64         // after a slot's end, or its last late record; default 120
	MakeLate         bool          // a slot's segments are made by its first puts; by default Maintain makes them before
	MaxHandles       int           // open files kept at once, at least 8; default 1024
	HintCacheBytes   int64         // of checked pages of hints, kept in memory; default 4 MiB; negative: none
	MaxSegmentBytes  int64         // a segment that would grow beyond it is followed by another; default 1 GiB, at most 32 GiB
	MinFreeBytes     int64         // puts are refused while less is free; default 1 GiB, or 2 % of the disk if that is less

	// MergeBytesPerSecond bounds what merging plain buckets reads and writes;
	// default 16 MiB. Negative: nothing is merged, and replaced records stay.
	MergeBytesPerSecond int64

	// TombstoneGraceSeconds is how old a plain bucket's tombstone must be to be
	// dropped when its file is merged; default ten days. Replicas that have not
	// heard of a delete by then may bring the object back.
	TombstoneGraceSeconds int64

	Log *slog.Logger // default: discards

	// Manual starts no goroutine: the owner calls Disk.Tick. For simulations.
	Manual bool
	// Random gives the bits of new disks' ids and of segments' generations. It may
	// be called by any goroutine. Default: the runtime's.
	Random func() uint64

	reserveBytes int64 // of the reserve file; default 2 MiB, less in tests
	mergeAfter   int64 // seconds from the first Maintain on; default 60, less in tests
}

// withDefaults returns the configuration with its defaults filled in.
func (c Config) withDefaults() Config {
	setDefault(&c.SyncInterval, defaultSyncInterval)
	setDefault(&c.SealAfterSeconds, defaultSealAfter)
	setDefault(&c.MaxHandles, defaultMaxHandles)
	setDefault(&c.HintCacheBytes, defaultHintCache)
	setDefault(&c.MaxSegmentBytes, defaultMaxSegmentBytes)
	setDefault(&c.MergeBytesPerSecond, defaultMergeRate)
	setDefault(&c.TombstoneGraceSeconds, defaultTombstoneGrace)
	setDefault(&c.reserveBytes, defaultReserve)
	if c.Random == nil {
		c.Random = rand.Uint64
	}
	setDefault(&c.mergeAfter, mergeAfterStart)
	if c.TTL == nil {
		c.TTL = func(uint64) int64 { return 0 }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all faults of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("bitcask: "+format, args...))
		}
	}
	fault(c.Cluster == ID{}, "no cluster id")
	fault(c.Node == ID{}, "no node id")
	fault(c.Hash == nil, "no placement hash")
	fault(c.SlotSeconds <= 0, "a slot of %d seconds; it must be positive", c.SlotSeconds)
	fault(c.SyncInterval < 0, "a sync interval of %v; it must be positive", c.SyncInterval)
	fault(c.SealAfterSeconds < 0, "sealing %d seconds after a slot's end; it must not be negative", c.SealAfterSeconds)
	fault(c.MaxHandles < 0 || c.MaxHandles > 0 && c.MaxHandles < 8, "%d file handles; at least 8 are needed", c.MaxHandles)
	fault(c.MaxSegmentBytes < 0 || c.MaxSegmentBytes > maxSegmentBytes, "segments of %d bytes; at most %d are allowed", c.MaxSegmentBytes, int64(maxSegmentBytes))
	fault(c.MinFreeBytes < 0, "a reserve of %d bytes; it must not be negative", c.MinFreeBytes)
	fault(c.TombstoneGraceSeconds < 0, "tombstones kept for %d seconds; it must not be negative", c.TombstoneGraceSeconds)
	return errors.Join(faults...)
}
