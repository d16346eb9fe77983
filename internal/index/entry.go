package index

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/object"
)

// MaxSuffixBytes bounds how a row names a blob: "type:subtype:chunk", in a late
// row with "epoch:" before it.
const MaxSuffixBytes = 255

// Flags qualify an entry.
type Flags uint8

const (
	// Erased: the blob was erased on purpose. Its entry stays, so that nobody
	// takes it for lost.
	Erased Flags = 1 << iota
	// Late: the entry is outside its writer's final and does not make its writer
	// expected. An entry seen both ways is not late.
	Late
	// Listed: the entry came after its second was closed and stands in the late
	// list of the second it arrived in. Who follows arrival takes it from there
	// and passes over it here. An entry seen both ways is listed. Listed implies
	// that the entry was Late where it was made.
	Listed

	knownFlags = Erased | Late | Listed
)

// String names the flags, separated by commas; "" if there are none.
func (f Flags) String() string {
	var names []string
	for i, name := range []string{"erased", "late", "listed"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// An Entry says that a blob exists and what it is.
type Entry struct {
	Suffix   string         // event.Key.Suffix; in late rows "<epoch>:" and the suffix
	Version  object.Version // of the blob's record; of its tombstone if only that is known
	Checksum uint64         // xxhash64 of the value
	Bytes    uint32         // length of the value
	Events   uint32         // events in the blob
	Flags    Flags
}

// EntryOf derives the key and the entry of a blob from its record's header: all
// that an index needs, so that the entry of a blob can be made again from the
// blob at any time. A tombstone gives an erased entry. The error, if the key is
// not a blob's, is an *event.KeyError. The results do not alias h.
func EntryOf(h *object.Header) (event.Key, Entry, error) {
	text := string(h.Key)
	key, err := event.ParseKey(text)
	if err != nil {
		return event.Key{}, Entry{}, err
	}
	suffixBytes := len(key.Type) + 1 + len(key.Subtype) + 1 + len(key.Chunk)
	e := Entry{
		Suffix:   text[len(text)-suffixBytes:],
		Version:  h.Version(),
		Checksum: h.Checksum,
		Bytes:    h.ValueBytes,
		Events:   h.EventCount,
	}
	if h.Kind == object.Tombstone {
		e.Flags |= Erased
	}
	return key, e, nil
}

// DeltaOf returns the index key and the delta of one blob's record. Deltas of
// several blobs of one second are joined with [Merge]. The error is an
// *event.KeyError.
func DeltaOf(h *object.Header) (event.IndexKey, Row, error) {
	key, e, err := EntryOf(h)
	if err != nil {
		return event.IndexKey{}, Row{}, err
	}
	return key.Index(), Row{[]Section{{Writer: WriterOf(h), Entries: []Entry{e}}}}, nil
}

// Key returns the key of the blob that the row of that key calls e.Suffix. In a
// late row the epoch comes from the suffix. The error is an *event.KeyError. The
// key's parts alias the arguments.
func (e *Entry) Key(row event.IndexKey) (event.Key, error) {
	if !row.Late {
		return event.ParseSuffix(row.Epoch, row.DC, e.Suffix)
	}
	epoch, suffix, err := cutEpoch(e.Suffix)
	if err != nil {
		return event.Key{}, err
	}
	return event.ParseSuffix(epoch, row.DC, suffix)
}

// cutEpoch splits the suffix of a late row's entry.
func cutEpoch(suffix string) (epoch int64, rest string, err error) {
	digits, rest, _ := strings.Cut(suffix, ":")
	if strings.Contains(digits, "-") { // which TimedEpoch takes for a ':'
		digits = ""
	}
	epoch, err = event.TimedEpoch(suffix[:len(digits)+len(":")])
	return epoch, rest, err
}

// lateSuffix returns how a late row names a blob of that epoch.
func lateSuffix(epoch int64, suffix string) string {
	return strconv.FormatInt(epoch, 10) + ":" + suffix
}

// counts reports whether a final counts e: late entries are outside it, and a
// tombstone was never a blob of its writer's second.
func (e *Entry) counts() bool { return e.Flags&Late == 0 && !e.Version.Tombstone }

// join merges two entries of one suffix in one section. What they say of the
// blob comes from one of them: a value before a tombstone, for a final counts
// the value for ever; then the greater version. Erased and Listed are kept from
// either side. An entry is late only if both are: once counted, always counted,
// or a complete second could become incomplete.
func join(a, b *Entry) Entry {
	e := *a
	if compareContent(a, b) < 0 {
		e = *b
	}
	e.Flags = (a.Flags|b.Flags)&(Erased|Listed) | a.Flags&b.Flags&Late
	return e
}

// compareContent orders what two entries of a suffix say, flags apart. Entries
// with equal versions are of one record and equal; that the rest is compared
// too makes the order total whatever strangers send.
func compareContent(a, b *Entry) int {
	if a.Version.Tombstone != b.Version.Tombstone {
		if a.Version.Tombstone {
			return -1
		}
		return 1
	}
	return cmp.Or(
		a.Version.Compare(b.Version),
		cmp.Compare(a.Checksum, b.Checksum),
		cmp.Compare(a.Bytes, b.Bytes),
		cmp.Compare(a.Events, b.Events),
	)
}

// fault says what is wrong with e, or returns "". late tells which kind of row
// the suffix belongs to.
func (e *Entry) fault() (late bool, fault string) {
	switch {
	case len(e.Suffix) > MaxSuffixBytes:
		return false, "a blob name that is too long"
	case e.Flags&^knownFlags != 0:
		return false, "unknown flags of an entry"
	case e.Version.TimestampMicros < 1:
		return false, "an entry without a timestamp"
	case e.Version.Tombstone && (e.Flags&Erased == 0 || e.Bytes != 0):
		return false, "a tombstone that is not erased or has bytes"
	case e.Bytes > object.MaxValueBytes:
		return false, "a blob larger than any can be"
	}
	suffix := e.Suffix
	if strings.Count(suffix, ":") == 3 {
		_, rest, err := cutEpoch(suffix)
		if err != nil {
			return true, "a blob name with a bad epoch"
		}
		if e.Flags&Late == 0 || e.Flags&Listed == 0 {
			return true, "an entry of a late list that is not marked so"
		}
		late, suffix = true, rest
	}
	if _, err := event.ParseSuffix(1, "x", suffix); err != nil {
		return late, "a blob name that is not type:subtype:chunk"
	}
	return late, ""
}
