package peer

import (
	"context"
	"encoding/binary"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// A Syncer asks the peer what it has and gives it what it lacks: the side of a
// [SyncHandler] that asks. Unlike those of a Peer its methods wait, no longer
// than ctx. It is made by [Peer.Sync].
type Syncer struct {
	p       *Peer
	history func() ring.Version
}

// Sync returns the Peer for requests of merging. history returns this node's.
func (p *Peer) Sync(history func() ring.Version) *Syncer { return &Syncer{p, history} }

// Survey asks what the peer has of a partition.
func (s *Syncer) Survey(ctx context.Context, p ring.Partition) (Survey, error) {
	r, err := s.ask(ctx, OpSyncSurvey, appendPartition(nil, p), wire.Piece{})
	if err != nil {
		return Survey{}, err
	}
	defer r.Release()
	var survey Survey
	if err = checkSum(r.Meta, r.Body); err == nil {
		survey, err = parseSurvey(r.Body)
	}
	if err != nil {
		s.p.counters.badAnswers.Add(1)
		return Survey{}, badAnswer(object.NotDone, err)
	}
	return survey, nil
}

// Page asks what the peer has of a lane from a position on.
func (s *Syncer) Page(ctx context.Context, lane Lane, from uint64) (Page, error) {
	r, err := s.ask(ctx, OpSyncPage, appendPageRequest(nil, &lane, from), wire.Piece{})
	if err != nil {
		return Page{}, err
	}
	defer r.Release()
	page, err := parsePage(r.Meta, r.Body, from)
	if err != nil {
		s.p.counters.badAnswers.Add(1)
		return Page{}, badAnswer(object.NotDone, err)
	}
	return page, nil
}

// Digest asks what the peer's part of a lane sums up to.
func (s *Syncer) Digest(ctx context.Context, lane Lane) (LaneDigest, error) {
	r, err := s.ask(ctx, OpSyncDigest, appendLane(nil, &lane), wire.Piece{})
	if err != nil {
		return LaneDigest{}, err
	}
	defer r.Release()
	var digest LaneDigest
	if err = checkSum(r.Meta, r.Body); err == nil {
		digest, err = parseLaneDigest(r.Body)
	}
	if err != nil {
		s.p.counters.badAnswers.Add(1)
		return LaneDigest{}, badAnswer(object.NotDone, err)
	}
	return digest, nil
}

// RepairRecord gives the peer a record that it lacks; over is another value that
// may lose its key there.
func (s *Syncer) RepairRecord(ctx context.Context, rec object.Record, over object.Version) error {
	var meta []byte
	if over != (object.Version{}) {
		meta = appendVersion(nil, over)
	}
	r, err := s.ask(ctx, OpSyncRepair, meta, wire.Piece{Bytes: rec.Raw(), Buf: rec.Buf})
	if err != nil {
		return err
	}
	odd := len(r.Meta)+len(r.Body) > 0
	r.Release()
	if odd {
		s.p.counters.badAnswers.Add(1)
		return badAnswer(object.MaybeDone, malformed("bytes in the answer to a repair"))
	}
	return nil
}

// ask sends a request on the bulk connection and waits for its answer.
func (s *Syncer) ask(ctx context.Context, op uint8, meta []byte, body wire.Piece) (wire.Reply, error) {
	p := s.p
	conn, why := p.pick(true, p.start)
	if conn == nil {
		p.counters.disconnected.Add(1)
		return wire.Reply{}, why
	}
	size := int64(len(body.Bytes))
	if !p.admit(size) {
		p.counters.overloads.Add(1)
		return wire.Reply{}, errTooMuch
	}
	defer func() {
		p.bytes.Add(-size)
		p.requests.Add(-1)
	}()
	call := wire.Call{Op: op, Class: wire.Repair, History: wire.History(s.history()), Meta: meta}
	if size > 0 {
		call.Body = []wire.Piece{body}
	}
	r, err := conn.Call(ctx, &call)
	if theirs := ring.Version(r.History); p.learn(theirs) {
		deadline, _ := ctx.Deadline()
		p.cfg.CatchUp(theirs, deadline, func() {})
	}
	if err != nil {
		p.counters.failed.Add(1)
		return wire.Reply{}, object.AsError(err)
	}
	return r, nil
}

// appendSum appends the checksum of an answer's body.
func appendSum(dst, body []byte) []byte {
	return binary.LittleEndian.AppendUint64(dst, object.Checksum(body))
}

func checkSum(meta, body []byte) error {
	if len(meta) != 8 || binary.LittleEndian.Uint64(meta) != object.Checksum(body) {
		return malformed("an answer that was damaged on its way")
	}
	return nil
}
