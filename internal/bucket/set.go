package bucket

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// MaxBuckets bounds the buckets of a set. Undeclared ones are not counted:
// they cost nothing.
const MaxBuckets = 4096

// A Declaration is what an operator says of one bucket: only what is to differ
// from its present properties, or, if it has none, from Plain's; nil is
// unsaid. Where N is said and a quorum is not, that becomes the majority of N.
type Declaration struct {
	Type          string `json:"type,omitempty" msgpack:"type,omitempty" toml:"type,omitempty"` // "" = DefaultType
	Name          string `json:"name" msgpack:"name" toml:"name"`
	Timed         *bool  `json:"timed,omitempty" msgpack:"timed,omitempty" toml:"timed,omitempty"`
	WriteOnce     *bool  `json:"write_once,omitempty" msgpack:"write_once,omitempty" toml:"write_once,omitempty"`
	TTLSeconds    *int64 `json:"ttl_seconds,omitempty" msgpack:"ttl_seconds,omitempty" toml:"ttl_seconds,omitempty"`
	N             *int   `json:"n,omitempty" msgpack:"n,omitempty" toml:"n,omitempty"`
	R             *int   `json:"r,omitempty" msgpack:"r,omitempty" toml:"r,omitempty"`
	W             *int   `json:"w,omitempty" msgpack:"w,omitempty" toml:"w,omitempty"`
	Sync          *Sync  `json:"sync,omitempty" msgpack:"sync,omitempty" toml:"sync,omitempty"`
	MaxValueBytes *int64 `json:"max_value_bytes,omitempty" msgpack:"max_value_bytes,omitempty" toml:"max_value_bytes,omitempty"`
}

// A Set is the buckets that have been declared; events and epochs always are.
// It is immutable: hold it behind an atomic pointer to change it live.
type Set struct {
	buckets map[names]Properties
}

type names struct{ bucketType, name string }

// DefaultSet returns the set of a cluster in which nobody has declared
// anything: events (timed, write-once, indexed, ten days) and its index epochs.
func DefaultSet() *Set {
	events := Plain(DefaultType, Events)
	events.Timed, events.WriteOnce, events.Index = true, true, true
	events.TTLSeconds = DefaultEventsTTL
	epochs := Plain(DefaultType, Epochs)
	epochs.Timed, epochs.Rows = true, true
	epochs.TTLSeconds = events.TTLSeconds
	return &Set{map[names]Properties{
		{DefaultType, Events}: events,
		{DefaultType, Epochs}: epochs,
	}}
}

// NewSet returns the set with exactly these buckets, as All yields them: for
// one that was stored or sent. It must have events and epochs. The error joins
// all faults, each wrapping ErrInvalid.
func NewSet(all ...Properties) (*Set, error) {
	s := &Set{make(map[names]Properties, len(all))}
	var faults []error
	for _, p := range all {
		name := names{p.Type, p.Name}
		if _, twice := s.buckets[name]; twice {
			faults = append(faults, fmt.Errorf("%s is there twice: %w", p.label(), ErrInvalid))
		}
		s.buckets[name] = p
	}
	if err := errors.Join(append(faults, s.validate())...); err != nil {
		return nil, err
	}
	return s, nil
}

// Lookup returns the properties of a bucket: as declared, or else Plain's.
func (s *Set) Lookup(bucketType, name string) Properties {
	p, declared := s.buckets[names{bucketType, name}]
	if !declared {
		return Plain(bucketType, name)
	}
	return p
}

// Declared reports whether the bucket is in the set.
func (s *Set) Declared(bucketType, name string) bool {
	_, declared := s.buckets[names{bucketType, name}]
	return declared
}

// Len returns the number of buckets declared.
func (s *Set) Len() int { return len(s.buckets) }

// All yields the declared buckets by type, then by name.
func (s *Set) All() iter.Seq[Properties] {
	return func(yield func(Properties) bool) {
		for _, n := range s.sorted() {
			if !yield(s.buckets[n]) {
				return
			}
		}
	}
}

func (s *Set) sorted() []names {
	return slices.SortedFunc(maps.Keys(s.buckets), func(a, b names) int {
		return cmp.Or(cmp.Compare(a.bucketType, b.bucketType), cmp.Compare(a.name, b.name))
	})
}

// Declare returns a set with the declarations applied in order; s stays as it
// is. The error joins all faults, each wrapping ErrInvalid, and then nothing
// is applied. Whether a bucket that holds data may change so is another
// question: see Properties.CheckChange.
func (s *Set) Declare(declarations ...Declaration) (*Set, error) {
	next := &Set{maps.Clone(s.buckets)}
	var faults []error
	for _, d := range declarations {
		if d.isEpochs() && d.TTLSeconds != nil {
			faults = append(faults, fmt.Errorf("bucket %q: ttl_seconds is always that of %q; set it there: %w", Epochs, Events, ErrInvalid))
			continue
		}
		bucketType := cmp.Or(d.Type, DefaultType)
		next.buckets[names{bucketType, d.Name}] = d.apply(next.Lookup(bucketType, d.Name))
	}
	next.indexFollows()
	if err := errors.Join(append(faults, next.validate())...); err != nil {
		return nil, err
	}
	return next, nil
}

func (d Declaration) isEpochs() bool {
	return cmp.Or(d.Type, DefaultType) == DefaultType && d.Name == Epochs
}

// apply returns p with what d says.
func (d Declaration) apply(p Properties) Properties {
	before := p
	if d.N != nil && *d.N != p.N {
		p.R, p.W = majority(*d.N), majority(*d.N)
	}
	set(&p.Timed, d.Timed)
	set(&p.WriteOnce, d.WriteOnce)
	set(&p.TTLSeconds, d.TTLSeconds)
	set(&p.N, d.N)
	set(&p.R, d.R)
	set(&p.W, d.W)
	set(&p.Sync, d.Sync)
	set(&p.MaxValueBytes, d.MaxValueBytes)
	p.SmallestW = min(before.SmallestW, p.W)
	if p.N != before.N {
		p.SmallestW = p.W // a bucket whose n changes holds no data yet
	}
	return p
}

func set[T any](to *T, said *T) {
	if said != nil {
		*to = *said
	}
}

// indexFollows gives epochs the TTL of events: an index that died before what
// it indexes would hide it, and one that outlived it would name what is gone.
func (s *Set) indexFollows() {
	events, epochs := names{DefaultType, Events}, names{DefaultType, Epochs}
	p := s.buckets[epochs]
	p.TTLSeconds = s.buckets[events].TTLSeconds
	s.buckets[epochs] = p
}

// validate checks each bucket, and what must hold between them.
func (s *Set) validate() error {
	var faults []error
	if len(s.buckets) > MaxBuckets {
		faults = append(faults, fmt.Errorf("%d buckets, want at most %d: %w", len(s.buckets), MaxBuckets, ErrInvalid))
	}
	ids := make(map[ID]Properties, len(s.buckets))
	for p := range s.All() {
		if err := p.Validate(); err != nil {
			faults = append(faults, err)
			continue
		}
		if other, taken := ids[p.ID()]; taken {
			faults = append(faults, fmt.Errorf("%s has the same id, %v, as %s; rename it: %w", p.label(), p.ID(), other.label(), ErrInvalid))
		}
		ids[p.ID()] = p
	}
	events, haveEvents := s.buckets[names{DefaultType, Events}]
	epochs, haveEpochs := s.buckets[names{DefaultType, Epochs}]
	if !haveEvents || !haveEpochs {
		faults = append(faults, fmt.Errorf("the buckets %q and %q must be declared: %w", Events, Epochs, ErrInvalid))
	}
	if events.TTLSeconds != epochs.TTLSeconds {
		faults = append(faults, fmt.Errorf("bucket %q: ttl_seconds is %d, that of %q %d, and they must be equal: %w",
			Epochs, epochs.TTLSeconds, Events, events.TTLSeconds, ErrInvalid))
	}
	return errors.Join(faults...)
}
