package node

import (
	"context"
	"slices"

	"github.com/mayflydb/mayfly/internal/native/proto"
)

// clientStore is the node as its clients' door sees it: its data, and where the
// data of the others is.
type clientStore struct {
	*Store
	n *Node
}

// History tells who owns what, and where they are: the members of the list. A
// node that is alone tells no address, for what it listens on may mean nothing
// elsewhere.
func (s clientStore) History(context.Context) (proto.History, error) {
	h := proto.History{Rings: s.n.ring()}
	for _, m := range s.n.cfg.Members {
		if proto.ValidAddress(m.Address) && len(h.Addresses) < proto.MaxAddresses {
			h.Addresses = append(h.Addresses, proto.Address{Node: memberID(s.n.cfg.Cluster, m.Name), At: m.Address})
		}
	}
	slices.SortFunc(h.Addresses, func(a, b proto.Address) int { return a.Node.Compare(b.Node) })
	return h, nil
}
