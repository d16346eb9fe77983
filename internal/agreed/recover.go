package agreed

// Recovered returns the document with which agreement is recovered by hand: of
// the next era. A change that was under way is given up, what it was made of is
// staged again.
func (d *Document) Recovered() *Document {
	next := *d
	next.Version.Era, next.Version.Index = d.Version.Era+1, 1
	return &next
}
