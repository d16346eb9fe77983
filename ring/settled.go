package ring

// Settled reports whether nobody can deny any more, under an older history, what
// is acknowledged for the object under the one that counts. Where an amendment
// or a new ring gave an object other owners, w of the new ones need not meet those
// that answer for the old ones: two that have not heard of it would call absent
// what two others have acknowledged. So an acknowledgement waits until of each
// older history's owners at least w have left it behind: fewer than a quorum are
// left then that could speak for it.
//
// behind reports whether a node is known to have adopted a history of that version
// or a later one, or will never answer again: it is lost, or has left. One that is
// merely held for down may be up where nobody tells it so, and makes a quorum with
// another that has not heard either. w is the least number of owners that ever
// acknowledged a put in the object's bucket.
//
// Slots that a change was prepared for need nothing of it, and are settled when
// their owners promised; they are asked for all the same, as it costs nothing.
func (f *Fence) Settled(o Placed, w int, behind func(node NodeID, v Version) bool) bool {
	owners, _ := o.owners(f.History())
	for i, h := range f.known[:len(f.known)-1] {
		before, _ := o.owners(h)
		if sameNodes(before, owners) {
			continue
		}
		next, count := f.known[i+1].version, 0
		for _, id := range before {
			if behind(id, next) {
				count++
			}
		}
		if count < min(w, len(before)) {
			return false
		}
	}
	return true
}
