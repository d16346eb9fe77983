package node

import (
	"context"

	"github.com/mayflydb/mayfly/internal/native/proto"
)

// clientStore is the node as its clients' door sees it: its data, and where the
// data of the others is.
type clientStore struct {
	*Store
	n *Node
}

// History tells who owns what, and where they are: all members that are, or are
// about to be, of use. An address that means nothing elsewhere is not told.
func (s clientStore) History(context.Context) (proto.History, error) {
	view := s.n.view.Load()
	h := proto.History{Rings: view.fence.History()}
	for _, m := range view.doc.Members { // ascending by id
		at := s.n.agreement.Address(m.ID)
		if m.State.Live() && proto.ValidAddress(at) && len(h.Addresses) < proto.MaxAddresses {
			h.Addresses = append(h.Addresses, proto.Address{Node: m.ID, At: at})
		}
	}
	return h, nil
}
