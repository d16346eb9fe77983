package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"os"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A Config says who a node is, where its data lies and what it may use. Fields
// without "required" have a default.
type Config struct {
	Name        string      // in messages and in the index; default: the host's name
	Cluster     string      // required: the cluster's name
	Listen      string      // required: TCP address of the native protocol
	Data        []string    // required: data directories, one a disk
	SlotSeconds int64       // length of a slot; default 3600; fixed when the cluster is founded
	Partitions  int         // of the ring, a power of two; default 64; fixed when the cluster is founded
	Buckets     *bucket.Set // properties when the cluster is founded; default bucket.DefaultSet

	Join Join // how the node finds its cluster; the zero Join: it founds one of its own
	// Listener serves instead of a listener on Listen; Close closes it.
	Listener net.Listener

	AheadSeconds          int64         // how far ahead an epoch may be; default 10
	LatenessSeconds       int64         // how long a second is waited for before it is incomplete; default 5
	SealAfterSeconds      int64         // after a slot's end, or its last late record; default 120
	SyncInterval          time.Duration // of buckets that sync at intervals; default 1 s
	UpkeepInterval        time.Duration // how often slots are looked at for sealing and expiry; default 1 s
	MinFreeBytes          int64         // free space below which a disk takes no puts; default 1 GiB or 2 %, the lesser
	MergeBytesPerSecond   int64         // of each disk, for plain buckets; default 16 MiB, negative: none
	TombstoneGraceSeconds int64         // how long tombstones of plain buckets are kept; default ten days
	MaxHandles            int           // open files; default 1024
	HintCacheBytes        int64         // of the node's disks together, for pages of hints; default 4 MiB, negative: none
	MaxInFlightBytes      int64         // of requests being worked on; default 256 MiB
	TailBufferBytes       int64         // held for tails that have not read it yet; default 256 MiB

	Version string           // of the program, in its information
	Log     *slog.Logger     // default: discards
	Now     func() time.Time // the clock; default time.Now

	agreement  Agreement     // instead of one made of Join; tests
	id         ring.NodeID   // of a node that is new, with agreement; tests
	mergeGrace time.Duration // replication.MergerConfig.Grace; tests make it short
	bootID     string        // of the machine; default vfs.BootID
}

// maxPartitions bounds the ring: each partition costs directories and files.
const maxPartitions = 1 << 12

func (c Config) withDefaults() Config {
	if c.Name == "" {
		if c.Name, _ = os.Hostname(); c.Name == "" {
			c.Name = "node"
		}
	}
	setDefault(&c.SlotSeconds, 3600)
	setDefault(&c.Partitions, 64)
	setDefault(&c.AheadSeconds, 10)
	setDefault(&c.LatenessSeconds, 5)
	setDefault(&c.SealAfterSeconds, 120)
	setDefault(&c.SyncInterval, time.Second)
	setDefault(&c.UpkeepInterval, time.Second)
	setDefault(&c.MaxHandles, 1024)
	setDefault(&c.HintCacheBytes, 4<<20)
	setDefault(&c.MaxInFlightBytes, 256<<20)
	setDefault(&c.TailBufferBytes, 256<<20)
	if c.Buckets == nil {
		c.Buckets = bucket.DefaultSet()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	setDefault(&c.bootID, vfs.BootID())
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
	c = c.withDefaults()
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Cluster == "", "the cluster needs a name")
	fault(c.Listen == "" && c.Listener == nil, "the node needs an address to listen on, such as 127.0.0.1:7070")
	fault(len(c.Data) == 0, "the node needs a data directory")
	fault(c.SlotSeconds < 1, "a slot of %d seconds: at least 1", c.SlotSeconds)
	fault(c.Partitions < 1 || c.Partitions > maxPartitions || bits.OnesCount(uint(c.Partitions)) != 1,
		"%d partitions: a power of two from 1 to %d", c.Partitions, maxPartitions)
	fault(c.AheadSeconds < 1, "epochs may be %d seconds ahead: at least 1", c.AheadSeconds)
	fault(c.LatenessSeconds < 1, "a lateness bound of %d seconds: at least 1", c.LatenessSeconds)
	fault(c.MaxInFlightBytes < 64<<20, "%d bytes of requests at once: at least 64 MiB, or one large object could not be put", c.MaxInFlightBytes)
	fault(c.TailBufferBytes < 16<<20, "%d bytes held for tails: at least 16 MiB", c.TailBufferBytes)
	return errors.Join(faults...)
}

// partitionBits returns the bits that tell partitions apart.
func (c Config) partitionBits() uint8 { return uint8(bits.TrailingZeros(uint(c.Partitions))) }
