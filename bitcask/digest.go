package bitcask

import (
	"slices"

	"github.com/mayflydb/mayfly/internal/object"
)

// A MinuteDigest sums up the records of one minute.
type MinuteDigest struct {
	Minute int64 // epoch / 60; 0 for everything in a plain bucket
	Count  int64 // records
	Digest object.Digest
}

// minutes sums up a segment's records by minute, ascending.
type minutes []MinuteDigest

func minuteOf(timed bool, epoch int64) int64 {
	if !timed {
		return 0
	}
	return epoch / 60
}

// at returns the sum of one minute, made if it is not there.
func (m *minutes) at(minute int64) *MinuteDigest {
	if n := len(*m); n > 0 && (*m)[n-1].Minute == minute { // what is put is new, mostly
		return &(*m)[n-1]
	}
	i, found := slices.BinarySearchFunc(*m, minute, func(d MinuteDigest, minute int64) int { return int(d.Minute - minute) })
	if !found {
		*m = slices.Insert(*m, i, MinuteDigest{Minute: minute})
	}
	return &(*m)[i]
}

func (d *MinuteDigest) add(hash uint64, v object.Version) {
	d.Count++
	d.Digest.Add(hash, v)
}

func (d *MinuteDigest) remove(hash uint64, v object.Version) {
	d.Count--
	d.Digest.Remove(hash, v)
}

// merge adds the sums of another segment.
func (m *minutes) merge(other minutes) {
	for _, d := range other {
		sum := m.at(d.Minute)
		sum.Count += d.Count
		sum.Digest.Merge(d.Digest)
	}
}
