package client

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"
)

// Config says whom a Client talks to and what it may use. Fields without
// "required" have a default.
type Config struct {
	// Addrs are native addresses of nodes, "host:port", in any order; required, at
	// most MaxAddrs. One is enough: the others are learnt from the first that answers,
	// and several keep the start from depending on that one.
	Addrs []string
	// Pinned asks these addresses and no others: nothing is learnt, and every call
	// goes through a node that was named. It is for looking at one node; programs
	// that should survive its death leave it off.
	Pinned  bool
	User    string   // this program's name, for the nodes' logs; at most 255 bytes
	Cluster [16]byte // the cluster's id; zero takes any

	// Timeout is how long a call may take, its repetitions included, if its context
	// has no earlier deadline; default 5 s. Tails have no end.
	Timeout time.Duration
	// AttemptTimeout is how long one node has to answer before the call is made
	// elsewhere, apart from the time its bytes need; default two fifths of Timeout.
	AttemptTimeout time.Duration
	DialTimeout    time.Duration // of one connection, hello included; default 2 s

	// Conns is the number of connections to each address for ordinary calls;
	// default 2. One more carries what is large; each tail has its own.
	Conns int
	// MaxInFlightBytes bounds the bytes of objects that are being sent, and of those
	// that are expected, over all calls; further calls wait. Default 64 MiB.
	MaxInFlightBytes int64
	// RetryBudget is how many repetitions the client may make at once; calls earn
	// new ones at a tenth of a repetition each. Default 100: it sees ten calls at once
	// through an outage of five seconds. Reaching a node after another could not be
	// connected to costs nothing.
	RetryBudget int
	// HedgeLeast and HedgeMost bound how long a read waits for its answer before one
	// more node is asked: between them it is the 95th percentile of recent answers.
	// A second question costs a repetition of the budget. Default 5 ms and 500 ms.
	HedgeLeast, HedgeMost time.Duration

	Log *slog.Logger     // default: discards
	Now func() time.Time // the clock that stamps objects; default time.Now
}

// MaxAddrs bounds the addresses of a Config.
const MaxAddrs = 1024

func (c Config) withDefaults() Config {
	setDefault(&c.Timeout, 5*time.Second)
	setDefault(&c.AttemptTimeout, c.Timeout*2/5)
	setDefault(&c.DialTimeout, 2*time.Second)
	setDefault(&c.Conns, 2)
	setDefault(&c.MaxInFlightBytes, 64<<20)
	setDefault(&c.RetryBudget, 100)
	setDefault(&c.HedgeLeast, 5*time.Millisecond)
	setDefault(&c.HedgeMost, max(500*time.Millisecond, c.HedgeLeast))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
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
	c = c.withDefaults()
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("client: "+format, args...))
		}
	}
	fault(len(c.Addrs) == 0, "no address of a node is given: name at least one, such as 127.0.0.1:7070")
	fault(len(c.Addrs) > MaxAddrs, "%d addresses; at most %d are taken, and one is enough", len(c.Addrs), MaxAddrs)
	for i, a := range c.Addrs {
		_, _, err := net.SplitHostPort(a)
		fault(err != nil, "%q is not host:port", a)
		fault(slices.Contains(c.Addrs[:i], a), "%q is given twice", a)
	}
	fault(len(c.User) > 255, "the user's name has %d bytes; at most 255 are taken", len(c.User))
	fault(c.Timeout < 0 || c.AttemptTimeout < 0 || c.DialTimeout < 0, "a timeout is negative")
	fault(c.Conns < 0 || c.Conns > 64, "%d connections to a node; 1 to 64 are taken", c.Conns)
	fault(c.MaxInFlightBytes < 0, "a negative bound of bytes in flight")
	fault(c.RetryBudget < 0, "a negative budget of repetitions")
	fault(c.HedgeLeast < 0 || c.HedgeMost < c.HedgeLeast, "a second node is asked after %v at least and %v at most: give positive times, the first not above the second", c.HedgeLeast, c.HedgeMost)
	return errors.Join(faults...)
}
