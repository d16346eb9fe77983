// Package bucket says what a bucket is: its name, its id, its properties, and
// which buckets a cluster has declared.
//
// It is pure. Sets never change once made, so any number of goroutines may use
// one; a change makes a new set, which takes effect where the new one is put.
package bucket

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The names that mean something to the store itself.
const (
	DefaultType = "default" // the bucket type of buckets named without one
	Events      = "events"  // in DefaultType: the blobs
	Epochs      = "epochs"  // in DefaultType: the index of Events
)

// Bounds and defaults of properties.
const (
	MaxN                 = 16                 // replicas
	DefaultN             = 3                  // replicas
	MaxTTLSeconds        = 100 * 366 * 86_400 // a century
	DefaultEventsTTL     = 10 * 86_400        // seconds
	MaxValueBytes        = 50 << 20           // of one object
	DefaultMaxValueBytes = MaxValueBytes
)

// A Sync policy says when what was appended is made safe from a machine that
// stops.
type Sync string

// The sync policies.
const (
	SyncNone     Sync = "none"     // when the system sees fit; at sealing
	SyncInterval Sync = "interval" // once a second or as configured
	SyncAlways   Sync = "always"   // before the put is acknowledged
)

// Properties are what the store knows of one bucket. Those in a Set, and those
// that Set.Lookup returns, are complete and valid.
type Properties struct {
	Type string `json:"type" msgpack:"type" toml:"type"` // the bucket type
	Name string `json:"name" msgpack:"name" toml:"name"`

	// Timed: keys begin with an epoch, which is the object's time. Fixed before
	// the first put.
	Timed bool `json:"timed" msgpack:"timed" toml:"timed"`

	// WriteOnce: a key's value, once taken, is never another. Fixed before the
	// first put.
	WriteOnce bool `json:"write_once" msgpack:"write_once" toml:"write_once"`

	// Index: its puts are indexed, second by second, in the bucket epochs. True
	// for events and no other.
	Index bool `json:"index" msgpack:"index" toml:"index"`

	// Rows: its values are index rows, made by merging deltas. True for epochs
	// and no other.
	Rows bool `json:"rows" msgpack:"rows" toml:"rows"`

	// TTLSeconds is how long objects live after their time; 0 = for ever. It may
	// change at any moment and counts for all objects, old and new. That of
	// epochs is always that of events.
	TTLSeconds int64 `json:"ttl_seconds" msgpack:"ttl_seconds" toml:"ttl_seconds"`

	N int `json:"n" msgpack:"n" toml:"n"` // replicas, 1..MaxN; not changed once the bucket holds data
	R int `json:"r" msgpack:"r" toml:"r"` // owners whose answers make a value found, 1..N
	W int `json:"w" msgpack:"w" toml:"w"` // owners that must take a put, 1..N

	// SmallestW is the smallest W the bucket ever had: what tells absent from
	// unknown. Declare keeps it.
	SmallestW int `json:"smallest_w" msgpack:"smallest_w" toml:"smallest_w"`

	Sync          Sync  `json:"sync" msgpack:"sync" toml:"sync"`
	MaxValueBytes int64 `json:"max_value_bytes" msgpack:"max_value_bytes" toml:"max_value_bytes"` // 1..MaxValueBytes
}

// Plain returns the properties of a bucket that nobody declared.
func Plain(bucketType, name string) Properties {
	return Properties{
		Type: bucketType, Name: name,
		N: DefaultN, R: majority(DefaultN), W: majority(DefaultN), SmallestW: majority(DefaultN),
		Sync: SyncInterval, MaxValueBytes: DefaultMaxValueBytes,
	}
}

func majority(n int) int { return n/2 + 1 }

// ID returns the bucket's id.
func (p Properties) ID() ID { return IDOf(p.Type, p.Name) }

// For returns n, r and w as they count in a cluster of so many nodes, at least
// one: with fewer nodes than N, every node is an owner, and the quorums are cut
// to what there is.
func (p Properties) For(nodes int) (n, r, w int) {
	n = min(p.N, nodes)
	return n, min(p.R, n), min(p.W, n)
}

// AbsentQuorum returns how many complete owners must say so before a key is
// absent, in a cluster of so many nodes: enough that one of them was among
// the owners that took the put, whatever W was then.
func (p Properties) AbsentQuorum(nodes int) int {
	n := min(p.N, nodes)
	return n - min(p.SmallestW, n) + 1
}

// ErrInvalid is wrapped by every error about names and properties. Nothing was
// changed.
var ErrInvalid = errors.New("invalid")

// Validate says what is wrong with the properties, all of it. Errors wrap
// ErrInvalid.
func (p Properties) Validate() error {
	f := faults{bucket: p.label()}
	f.check(CheckNames(p.Type, p.Name))
	isEvents := p.Type == DefaultType && p.Name == Events
	isEpochs := p.Type == DefaultType && p.Name == Epochs
	f.require(p.Index == isEvents, "index must be %t: the bucket events, and no other, is indexed", isEvents)
	f.require(p.Rows == isEpochs, "rows must be %t: the bucket epochs, and no other, holds the index", isEpochs)
	f.require(p.Timed || !isEvents && !isEpochs, "timed must be true")
	f.require(p.WriteOnce || !isEvents, "write_once must be true")
	f.require(!p.WriteOnce || !isEpochs, "write_once must be false: index rows are merged")
	f.require(p.TTLSeconds >= 0 && p.TTLSeconds <= MaxTTLSeconds, "ttl_seconds is %d, want 0 (for ever) to %d", p.TTLSeconds, MaxTTLSeconds)
	f.require(p.N >= 1 && p.N <= MaxN, "n is %d, want 1 to %d", p.N, MaxN)
	f.require(p.R >= 1 && p.R <= p.N, "r is %d, want 1 to n, which is %d", p.R, p.N)
	f.require(p.W >= 1 && p.W <= p.N, "w is %d, want 1 to n, which is %d", p.W, p.N)
	f.require(p.SmallestW >= 1 && p.SmallestW <= p.W, "smallest_w is %d, want 1 to w, which is %d", p.SmallestW, p.W)
	f.require(p.Sync.valid(), "sync is %.20q, want none, interval or always", p.Sync)
	f.require(p.MaxValueBytes >= 1 && p.MaxValueBytes <= MaxValueBytes, "max_value_bytes is %d, want 1 to %d", p.MaxValueBytes, MaxValueBytes)
	return f.join()
}

func (s Sync) valid() bool { return s == SyncNone || s == SyncInterval || s == SyncAlways }

// CheckChange says which properties of p that are fixed by the first put
// differ in next: what must not be changed in a bucket that holds data. Errors
// wrap ErrInvalid.
func (p Properties) CheckChange(next Properties) error {
	const fixed = "%s cannot become %v: the bucket holds data; make another bucket"
	f := faults{bucket: p.label()}
	f.require(p.Timed == next.Timed, fixed, "timed", next.Timed)
	f.require(p.WriteOnce == next.WriteOnce, fixed, "write_once", next.WriteOnce)
	f.require(p.N == next.N, fixed, "n", next.N)
	return f.join()
}

// label names the bucket for people, its type only where it is not the default.
func (p Properties) label() string {
	if p.Type == DefaultType {
		return fmt.Sprintf("bucket %.40q", p.Name)
	}
	return fmt.Sprintf("bucket %.40q of type %.40q", p.Name, p.Type)
}

// faults gathers what is wrong with one bucket.
type faults struct {
	bucket string
	found  []error
}

func (f *faults) require(ok bool, format string, args ...any) {
	if !ok {
		f.found = append(f.found, fmt.Errorf("%s: %s: %w", f.bucket, fmt.Sprintf(format, args...), ErrInvalid))
	}
}

func (f *faults) check(err error) {
	if err != nil {
		f.found = append(f.found, err)
	}
}

func (f *faults) join() error { return errors.Join(f.found...) }

// CheckNames says what is wrong with a bucket's type and name: each is 1 to
// MaxNameBytes bytes of UTF-8 without control characters. Errors wrap
// ErrInvalid.
func CheckNames(bucketType, name string) error {
	return errors.Join(checkName("bucket type", bucketType), checkName("bucket", name))
}

// MaxNameBytes bounds the names of buckets and of bucket types.
const MaxNameBytes = 255

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s: name is empty: %w", what, ErrInvalid)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("%s %.40q…: name of %d bytes, want at most %d: %w", what, name, len(name), MaxNameBytes, ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%s %.40q: name must be UTF-8 without control characters: %w", what, name, ErrInvalid)
	}
	return nil
}
