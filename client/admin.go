package client

import (
	"context"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// Document returns what the nodes have agreed on, as one of them knows it.
func (c *Client) Document(ctx context.Context) (d *agreed.Document, err error) {
	err = c.do(ctx, &request{
		what: "request for the agreed document", reads: true, cost: expectedAnswer,
		ask: askControl(proto.OpDocument, nil),
		take: func(reply *wire.Reply) error {
			defer reply.Release()
			if d, err = agreed.UnmarshalDocument(reply.Body); err != nil {
				return object.Errorf(object.CodeCorrupt, object.NotDone, "the agreed document: %w", err)
			}
			return nil
		},
	})
	return d, err
}

// Propose brings an operator's command to agreement, through any node. That it
// was refused is no error: see Result.Err. An error says whether it was done;
// one that may have been is not repeated, for a second time it may be refused:
// the document tells. Its Now is set by the node.
func (c *Client) Propose(ctx context.Context, command agreed.Command) (result agreed.Result, err error) {
	body, err := command.MarshalBinary()
	if err != nil {
		return agreed.Result{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	err = c.do(ctx, &request{
		what: command.Kind.String(), bytes: len(body), once: true,
		ask: askControl(proto.OpPropose, body),
		take: func(reply *wire.Reply) error {
			defer reply.Release()
			if result, err = agreed.UnmarshalResult(reply.Body); err != nil {
				return object.Errorf(object.CodeCorrupt, object.MaybeDone, "what came of it: %w", err)
			}
			return nil
		},
	})
	return result, err
}

// Report returns what one of the nodes says of itself: the one that was named,
// if the Client is pinned to it.
func (c *Client) Report(ctx context.Context) (r proto.Report, err error) {
	err = c.do(ctx, &request{
		what: "request for a report", reads: true, cost: expectedAnswer,
		ask: askControl(proto.OpReport, nil),
		take: func(reply *wire.Reply) error {
			defer reply.Release()
			if r, err = proto.ParseReport(reply.Body); err != nil {
				return object.Errorf(object.CodeCorrupt, object.NotDone, "the node's report: %w", err)
			}
			return nil
		},
	})
	return r, err
}

func askControl(op uint8, body []byte) func(context.Context, *wire.Conn) (wire.Reply, error) {
	return func(ctx context.Context, conn *wire.Conn) (wire.Reply, error) {
		call := &wire.Call{Op: op, Class: wire.Control}
		if len(body) > 0 {
			call.Body = []wire.Piece{{Bytes: body}}
		}
		return conn.Call(ctx, call)
	}
}
