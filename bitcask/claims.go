package bitcask

// claims are the puts of a lane that are under way, at most one a placement hash. One
// at a time is the rule; others are chained through themselves.
type claims struct {
	first  *putOp
	others int
	chains *[8]*putOp // of the others, by the low bits of the hash; nil before there are any
}

// find returns the put that has the hash, nil if none has.
func (c *claims) find(hash uint64) *putOp {
	if c.first != nil && c.first.hash == hash {
		return c.first
	}
	if c.others == 0 {
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
	if c.first == nil {
		c.first = op
		return
	}
	if c.chains == nil {
		c.chains = new([8]*putOp)
	}
	c.others++
	op.chained, c.chains[op.hash%8] = c.chains[op.hash%8], op
}

func (c *claims) remove(op *putOp) {
	if c.first == op {
		c.first = nil
		return
	}
	c.others--
	at := &c.chains[op.hash%8]
	for *at != op {
		at = &(*at).chained
	}
	*at, op.chained = op.chained, nil
}
