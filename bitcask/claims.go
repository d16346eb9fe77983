package bitcask

// claims are the puts of a lane that are under way, at most one a placement hash. A
// few of them at a time is the rule; they are chained through themselves.
type claims [8]*putOp // by the low bits of the hash

// find returns the put that has the hash, nil if none has.
func (c *claims) find(hash uint64) *putOp {
	op := c[hash%8]
	for op != nil && op.hash != hash {
		op = op.chained
	}
	return op
}

// add notes a put whose hash no other has.
func (c *claims) add(op *putOp) {
	op.chained, c[op.hash%8] = c[op.hash%8], op
}

func (c *claims) remove(op *putOp) {
	at := &c[op.hash%8]
	for *at != op {
		at = &(*at).chained
	}
	*at, op.chained = op.chained, nil
}
