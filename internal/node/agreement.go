package node

import (
	"context"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// An Agreement is where this node learns what all nodes agree on, and brings its
// own word to it. Its methods may be called by any goroutine.
type Agreement interface {
	// Document returns the newest document known here. It must be quick.
	Document() *agreed.Document

	// Changed returns a channel that is closed when there is a newer one: to be
	// called before Document.
	Changed() <-chan struct{}

	// Propose brings a command to agreement, wherever that is made. The error, an
	// *object.Error, says whether that was not done or maybe done; a command that
	// was agreed and refused is the Result's failure.
	Propose(ctx context.Context, c agreed.Command) (agreed.Result, error)

	// CatchUp makes a document known here whose history is not older than v, which
	// that member has. It does not need a majority.
	CatchUp(ctx context.Context, v ring.Version, from ring.NodeID) error

	// Address returns where a member serves, as host:port; "" if that is not known.
	Address(id ring.NodeID) string

	// Alive reports whether a member is thought to be up.
	Alive(id ring.NodeID) bool

	// Close takes leave of the others.
	Close(ctx context.Context) error
}
