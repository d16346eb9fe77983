package ring

import (
	"cmp"
	"fmt"
)

// A Version orders the histories of a cluster. Index grows with every agreed
// change; Era is raised when agreement is recovered by hand, and outweighs it.
// The zero Version is before all others.
type Version struct {
	Era   uint32
	Index uint64
}

// Compare returns -1, 0 or 1 as v is before, equal to or after other.
func (v Version) Compare(other Version) int {
	return cmp.Or(cmp.Compare(v.Era, other.Era), cmp.Compare(v.Index, other.Index))
}

// Before reports whether v is before other.
func (v Version) Before(other Version) bool { return v.Compare(other) < 0 }

// String returns "<era>.<index>".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Era, v.Index) }
