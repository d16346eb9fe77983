package wire

import "fmt"

// A Class says what kind of work a request is. It decides which requests are
// shed first when a server has too much to do (invariant I10), how large a
// request's body may be, and which connection a pool chooses.
type Class uint8

const (
	Control Class = 1 + iota // pings, agreement, information: never shed
	Ingest                   // puts and index additions: shed last
	Get                      // keyed reads and rows
	Repair                   // sync between replicas
	Tail                     // following the newest seconds
	Range                    // reading closed seconds
	Export                   // bulk drains: shed first

	numClasses = int(Export) + 1
)

// rules holds, for each class, what a server grants it.
var rules = [numClasses]struct {
	name string
	// maxBody is the most a request's body may have, bytes. Answers are bounded
	// by the caller's hello alone.
	maxBody uint32
	// share is the part of a server's request bound up to which this class is
	// still taken in, percent: the rest is kept for those shed later.
	share int
}{
	Control: {"control", 1 << 20, 100},
	Ingest:  {"ingest", MaxBodyBytes, 100},
	Get:     {"get", 64 << 10, 90},
	Repair:  {"repair", MaxBodyBytes, 80},
	Tail:    {"tail", 32 << 20, 70}, // a cursor may be long
	Range:   {"range", 64 << 10, 60},
	Export:  {"export", 64 << 10, 50},
}

// Known tells whether c is one of the classes above.
func (c Class) Known() bool { return c >= Control && int(c) < numClasses }

// String returns the class's name as metrics spell it.
func (c Class) String() string {
	if c.Known() {
		return rules[c].name
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// share returns how many of limit requests may be running when another one of
// class c is still taken in.
func (c Class) share(limit int) int { return limit * rules[c].share / 100 }
