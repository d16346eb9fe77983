package native

import (
	"context"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A Cluster is a node's part in what its cluster agrees on, for those who look
// after it. Its methods may be called by any goroutine; their errors are
// *object.Error.
type Cluster interface {
	// Document returns the newest agreed document that this node knows.
	Document(ctx context.Context) (*agreed.Document, error)

	// Propose brings an operator's command to agreement, through whichever node it
	// takes, and waits until this node has applied it or ctx ends. The node sets
	// the command's Now: an operator's machine may have any clock. A command that
	// was refused is no error: its result says why. An error whose outcome is
	// object.MaybeDone leaves open whether the command was applied.
	Propose(ctx context.Context, c agreed.Command) (agreed.Result, error)

	// Report says how the node is.
	Report(ctx context.Context) (proto.Report, error)
}

// WithCluster has the door take the operations of those who look after the
// cluster as well; without it they are refused. It returns h, and is called
// before h serves.
func (h *Handler) WithCluster(c Cluster) *Handler {
	h.cluster = c
	return h
}

// administer serves the operations on the cluster.
func (h *Handler) administer(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	if h.cluster == nil {
		return wire.Answer{}, object.Errorf(object.CodeUnsupported, object.NotDone,
			"what the cluster has agreed on is not served here")
	}
	switch r.Op {
	case proto.OpDocument:
		return h.document(ctx)
	case proto.OpPropose:
		return h.propose(ctx, r)
	}
	return h.report(ctx)
}

func (h *Handler) document(ctx context.Context) (wire.Answer, error) {
	d, err := h.cluster.Document(ctx)
	if err != nil {
		return wire.Answer{}, err
	}
	return answerWith(d.MarshalBinary())
}

func (h *Handler) propose(ctx context.Context, r *wire.Request) (wire.Answer, error) {
	c, err := agreed.UnmarshalCommand(r.Body)
	if err != nil {
		return wire.Answer{}, badRequest(err)
	}
	if !proto.MayPropose(c.Kind) {
		return wire.Answer{}, object.Errorf(object.CodeRefused, object.NotDone, "%v is said by nodes to each other, and not by who looks after them", c.Kind)
	}
	if deadline, ok := ctx.Deadline(); ok { // who asks should hear why it takes so long, and not just that it does
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/8))
		defer cancel()
	}
	result, err := h.cluster.Propose(ctx, c)
	if err != nil {
		return wire.Answer{}, err
	}
	return answerWith(result.MarshalBinary())
}

func (h *Handler) report(ctx context.Context) (wire.Answer, error) {
	report, err := h.cluster.Report(ctx)
	if err != nil {
		return wire.Answer{}, err
	}
	return answerWith(proto.AppendReport(nil, report))
}

func answerWith(body []byte, err error) (wire.Answer, error) {
	if err != nil {
		return wire.Answer{}, object.Errorf(object.CodeInternal, object.MaybeDone, "%w", err)
	}
	return wire.Answer{Body: wire.Piece{Bytes: body}}, nil
}
