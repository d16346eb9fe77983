package index

import (
	"slices"

	"github.com/mayflydb/mayfly/event"
)

// Relist makes the late form of a delta that owners refused because its second
// was closed: list, to be written to the late list of the second arrival (the
// key is LateKey(key, arrival)), and marked, for the row the delta was meant
// for. The list is written first: a blob that is marked as listed must be found
// there. Only entries become late; what the writer said about the second itself
// is dropped, for a closed second is not reopened. Both rows are empty if
// nothing is left.
//
// The delta of a late list that is itself closed by now is moved on to the list
// of a newer second; marked is empty then, for the blobs' own rows have them.
func Relist(key event.IndexKey, delta Row, arrival int64) (marked, list Row) {
	for i := range delta.Sections {
		s := &delta.Sections[i]
		if len(s.Entries) == 0 {
			continue
		}
		own := Section{Writer: s.Writer, Entries: slices.Clone(s.Entries)}
		for j := range own.Entries {
			own.Entries[j].Flags |= Late | Listed
		}
		if key.Late {
			list.Sections = append(list.Sections, own)
			continue
		}
		listed := Section{Writer: s.Writer, Entries: slices.Clone(own.Entries)} // one prefix for all keeps the order
		for j := range listed.Entries {
			listed.Entries[j].Suffix = lateSuffix(key.Epoch, listed.Entries[j].Suffix)
		}
		marked.Sections = append(marked.Sections, own)
		list.Sections = append(list.Sections, listed)
	}
	return marked, list
}

// LateKey returns the key of the late list that takes, in the second arrival,
// what comes too late for the row of key.
func LateKey(key event.IndexKey, arrival int64) event.IndexKey {
	return event.IndexKey{Epoch: arrival, DC: key.DC, Late: true}
}
