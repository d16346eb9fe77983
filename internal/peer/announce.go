package peer

import (
	"context"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// OpAdopted tells a node that the caller has adopted the history of which every
// request carries the version. It says nothing else: what counts is that it is said
// at once, and not with the next request.
const OpAdopted uint8 = 41

// Announce tells the peer which history this node has adopted, and learns which one
// the peer has: [Peer.Seen]. It waits for the answer, no longer than ctx.
func (p *Peer) Announce(ctx context.Context, v ring.Version) error {
	conn, why := p.pick(false, p.start)
	if conn == nil {
		return why
	}
	r, err := conn.Call(ctx, &wire.Call{Op: OpAdopted, Class: wire.Control, History: wire.History(v)})
	if err != nil {
		return object.AsError(err)
	}
	theirs := ring.Version(r.History)
	odd := len(r.Meta)+len(r.Body) > 0
	r.Release()
	if odd {
		p.counters.badAnswers.Add(1)
		return badAnswer(object.NotDone, malformed("bytes in the answer to an announcement"))
	}
	if p.learn(theirs) {
		deadline, _ := ctx.Deadline()
		p.cfg.CatchUp(theirs, deadline, func() {})
	}
	return nil
}

// Seen returns the newest history that the peer is known to have adopted: its
// answers, and what [Peer.Saw] was told, say so. It is zero as long as nothing is
// known.
func (p *Peer) Seen() ring.Version { return *p.seen.Load() }

// Saw notes that a request of the peer's came under that history. It reports
// whether that is newer than all that was known of the peer.
func (p *Peer) Saw(v ring.Version) bool { return p.learn(v) }
