package bitcask

// claims are the puts of a lane that are under way, at most one a placement hash. A
// few of them at a time is the rule; they are chained through themselves.
type claims struct{ chains *[8]*putOp } // by the low bits of the hash; nil before the first

// find returns the put that has the hash, nil if none has.
func (c *claims) find(hash uint64) *putOp {
	if c.chains == nil {
		return nil
	}
	op := c.chains[hash%8]
	for op != nil && op.hash != hash {
		op = op.chained
	}
	return op
}

// add notes a put whose hash no other has.
func (c *claims) add(op *putOp) {
	if c.chains == nil {
		c.chains = new([8]*putOp)
	}
	op.chained, c.chains[op.hash%8] = c.chains[op.hash%8], op
}

func (c *claims) remove(op *putOp) {
	at := &c.chains[op.hash%8]
	for *at != op {
		at = &(*at).chained
	}
	*at, op.chained = op.chained, nil
}
