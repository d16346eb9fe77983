package bitcask

import "iter"

// A location says where one record of a segment is: 16 bytes without a pointer,
// so that the collector never looks at a table of millions.
type location struct {
	hash    uint32 // low 32 bits of the placement hash; the high ones are the partition
	offset8 uint32 // of the frame, in units of 8 bytes
	size8   uint32 // frame, record and padding, in units of 8 bytes; never 0
	digest  uint32 // the version's, see object.Version.Short
}

func (l location) offset() int64 { return int64(l.offset8) * align }
func (l location) size() int64   { return int64(l.size8) * align }

const (
	maxSize8      = 1<<24 - 1 // what a hint's entry has room for
	keydirMinHome = 12        // places in a new table
)

// A keydir finds the records of one unsealed segment by hash. It is a sorted
// array with gaps (linear probing kept in the order of the hashes): an entry's
// home is its hash scaled to the table's length, and no gap is between its home
// and its place. Lookups of what is not there end at the first greater hash, and
// the table read from front to back is sorted, which is what a hint is made of.
//
// Equal hashes lie side by side in the order they came; the caller tells them
// apart by the keys in the records. Nothing is ever deleted.
//
// At most 5 in 6 homes are taken and the table grows by a fifth, so that an
// entry costs 16 bytes / (5/6 / 1.2), 23.1 bytes at worst, just after growing.
//
// The sums of the minute of the last insert are here, and not with the segment's
// others: what is put is new, mostly, and finds all it changes in one cache line.
type keydir struct {
	places []location
	homes  int32 // places that are somebody's home; the others take the overflow of the last
	n      int32
	newest MinuteDigest
}

func (k *keydir) home(hash uint32) int { return int(uint64(hash) * uint64(k.homes) >> 32) }

func (k *keydir) len() int { return int(k.n) }

// sums returns the sum of a minute. What was the newest before is put with the others;
// of what is the newest now they keep what it was.
func (k *keydir) sums(minute int64, others *minutes) *MinuteDigest {
	if k.newest.Minute != minute {
		if k.n > 0 {
			*others.at(k.newest.Minute) = k.newest
		}
		k.newest = *others.at(minute)
	}
	return &k.newest
}

// sizeBytes returns what the table occupies.
func (k *keydir) sizeBytes() int64 { return int64(cap(k.places)) * 16 }

// find yields the entries with that hash.
func (k *keydir) find(hash uint32) iter.Seq[location] {
	return func(yield func(location) bool) {
		if k.homes == 0 {
			return
		}
		for i := k.home(hash); i < len(k.places) && k.places[i].size8 != 0 && k.places[i].hash <= hash; i++ {
			if k.places[i].hash == hash && !yield(k.places[i]) {
				return
			}
		}
	}
}

// full reports whether another entry would take too many homes. A segment of 32 GiB has
// room for so many that six times that is no int32.
func (k *keydir) full() bool { return 6*(int64(k.n)+1) > 5*int64(k.homes) }

// insert adds an entry and reports whether the table was made anew for it.
func (k *keydir) insert(l location) (grown bool) {
	if l.size8 == 0 || l.size8 > maxSize8 {
		panic("bitcask: BUG: a record's size does not fit a location")
	}
	if k.full() {
		k.grow()
		grown = true
	}
	for !k.place(l) {
		k.grow()
		grown = true
	}
	k.n++
	return grown
}

// place puts an entry behind those of its hash and moves the following up to
// the next gap; it fails if there is none.
func (k *keydir) place(l location) bool {
	i := k.home(l.hash)
	for i < len(k.places) && k.places[i].size8 != 0 && k.places[i].hash <= l.hash {
		i++
	}
	gap := i
	for gap < len(k.places) && k.places[gap].size8 != 0 {
		gap++
	}
	if gap == len(k.places) {
		return false
	}
	copy(k.places[i+1:gap+1], k.places[i:gap])
	k.places[i] = l
	return true
}

// replace overwrites the entry with old's hash and offset; it reports whether
// there was one.
func (k *keydir) replace(old, with location) bool {
	if k.homes == 0 || old.hash != with.hash {
		return false
	}
	for i := k.home(old.hash); i < len(k.places) && k.places[i].size8 != 0 && k.places[i].hash <= old.hash; i++ {
		if k.places[i].hash == old.hash && k.places[i].offset8 == old.offset8 {
			k.places[i] = with
			return true
		}
	}
	return false
}

// grow gives the table a fifth more homes and lays the entries out again.
func (k *keydir) grow() {
	old := k.places
	k.homes = max(keydirMinHome, k.homes+k.homes/5+1)
	// The overflow behind the last home is short, as all clusters are; insert
	// grows the table again in the rare case that it does not suffice.
	spare := 4 + k.homes/64
	k.places = make([]location, int(k.homes+spare))
	next := 0
	for _, l := range old {
		if l.size8 == 0 {
			continue
		}
		next = max(next, k.home(l.hash))
		if next == len(k.places) {
			k.places = append(k.places, location{})
		}
		k.places[next] = l
		next++
	}
}

// all yields every entry in ascending order of hash.
func (k *keydir) all() iter.Seq[location] {
	return func(yield func(location) bool) {
		for _, l := range k.places {
			if l.size8 != 0 && !yield(l) {
				return
			}
		}
	}
}
