package replication

// calls tells the questions of one operation apart. Operations are used again;
// the number of a question never is, so that an answer that comes twice, or
// after the operation has long become another, is recognised and thrown away.
//
// A question's number:
//
//	bits    meaning
//	0–6     owner
//	7       attempt: 0 at first, 1 after the history changed
//	8–63    counts up over the life of the operation's memory
type calls struct {
	last uint64
	at   [2][maxAsked]uint64 // the question open to each owner or source; 0 none
}

// open begins a question.
func (c *calls) open(attempt, owner int) uint64 {
	c.last++
	call := c.last<<8 | uint64(attempt)<<7 | uint64(owner)
	c.at[attempt][owner] = call
	return call
}

// close ends a question; ok is false if it is not open.
func (c *calls) close(call uint64) (attempt, owner int, ok bool) {
	attempt, owner = int(call>>7&1), int(call&0x7f)
	if owner >= maxAsked || call == 0 || c.at[attempt][owner] != call {
		return 0, 0, false
	}
	c.at[attempt][owner] = 0
	return attempt, owner, true
}

// isOpen reports whether an owner has a question open.
func (c *calls) isOpen(attempt, owner int) bool { return c.at[attempt][owner] != 0 }
