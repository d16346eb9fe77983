package agreed

import (
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// setBucket declares a bucket, or changes it. What the first put fixes can
// change only if the proposer has made sure that the bucket is empty: also of
// one that was never declared, for it may have been used as the plain bucket
// it was.
func (s *step) setBucket(p bucket.Properties, empty bool) error {
	if err := bucket.CheckNames(p.Type, p.Name); err != nil {
		return refused(err)
	}
	old := s.d.Buckets.Lookup(p.Type, p.Name)
	if p.Index != old.Index || p.Rows != old.Rows {
		return refuse(object.CodeBadRequest, "bucket %.40q: index and rows are the store's own, and cannot be set", p.Name)
	}
	if err := old.CheckChange(p); err != nil && !empty {
		return refused(err)
	}
	said := bucket.Declaration{Type: p.Type, Name: p.Name, Timed: &p.Timed, WriteOnce: &p.WriteOnce, N: &p.N, R: &p.R, W: &p.W, Sync: &p.Sync, MaxValueBytes: &p.MaxValueBytes}
	if p.TTLSeconds != old.TTLSeconds {
		said.TTLSeconds = &p.TTLSeconds
	}
	return s.declare(said)
}

// setTTL changes how long a bucket's objects live.
func (s *step) setTTL(p bucket.Properties) error {
	if p != (bucket.Properties{Type: p.Type, Name: p.Name, TTLSeconds: p.TTLSeconds}) {
		return refuse(object.CodeBadRequest, "set ttl: give the bucket's type, its name and ttl_seconds, and nothing else")
	}
	return s.declare(bucket.Declaration{Type: p.Type, Name: p.Name, TTLSeconds: &p.TTLSeconds})
}

func (s *step) declare(said bucket.Declaration) error {
	before, n := s.d.Buckets, s.d.N()
	next, err := before.Declare(said)
	if err != nil {
		return refused(err)
	}
	if equalBuckets(before, next) {
		return nil
	}
	s.d.Buckets = next
	if s.d.preparesPlan() && s.d.N() != n {
		return refuse(object.CodeConflict, "a change of the ring is pending, and would get another number of owners: wait until it is fixed, or cancel it")
	}
	return nil
}

func equalBuckets(a, b *bucket.Set) bool {
	if a.Len() != b.Len() {
		return false
	}
	for p := range a.All() {
		if !b.Declared(p.Type, p.Name) || b.Lookup(p.Type, p.Name) != p {
			return false
		}
	}
	return true
}

// setSettings changes all settings but the length of slots.
func (s *step) setSettings(next Settings) error {
	if next == s.d.Settings {
		return nil
	}
	if err := next.check(); err != nil {
		return err
	}
	switch {
	case next.SlotSeconds != s.d.Settings.SlotSeconds:
		return refuse(object.CodeBadRequest, "slots are %d seconds since the cluster was founded, and stay so: found another cluster for slots of %d", s.d.Settings.SlotSeconds, next.SlotSeconds)
	case s.d.Change.Phase == ring.Proposed:
		return refuse(object.CodeConflict, "a change of the ring is being prepared by the present settings: wait until it is fixed, or cancel it")
	}
	s.d.Settings = next
	return nil
}
