package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/peer"
	"github.com/mayflydb/mayfly/ring"
)

// A peerSet is the ways to the other members, which come and go. Looking one up
// takes no lock; who got a Peer before it went finds it closed. A member that is
// gone is forgotten with its goroutines and connections.
type peerSet struct {
	// open makes the way to a member; it is connected by the set.
	open func(id ring.NodeID) (*peer.Peer, error)
	// changed is called after members have come or gone; it must be quick.
	changed func()

	all atomic.Pointer[map[ring.NodeID]*peer.Peer] // replaced, never modified

	mu     sync.Mutex // held by who replaces all
	closed bool
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup // those who connect, and those who close
}

func newPeerSet(open func(ring.NodeID) (*peer.Peer, error), changed func()) *peerSet {
	s := &peerSet{open: open, changed: changed}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.all.Store(&map[ring.NodeID]*peer.Peer{})
	return s
}

// get returns the way to a member, nil if there is none.
func (s *peerSet) get(id ring.NodeID) *peer.Peer { return (*s.all.Load())[id] }

// each returns the members there is a way to. The map must not be changed.
func (s *peerSet) each() map[ring.NodeID]*peer.Peer { return *s.all.Load() }

// update makes the set the ways to these members, and begins to connect to those
// that are new. Those that cannot be made are left out; the error says why.
func (s *peerSet) update(members []ring.NodeID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	next := maps.Clone(s.each())
	var faults []error
	different := false
	for id, p := range next {
		if !slices.Contains(members, id) {
			delete(next, id)
			different = true
			s.wg.Go(func() { _ = p.Close() })
		}
	}
	for _, id := range members {
		if next[id] != nil {
			continue
		}
		p, err := s.open(id)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		next[id], different = p, true
		s.wg.Go(func() { _ = p.Connect(s.ctx) }) // the Peer tells of failures itself
	}
	if different {
		s.all.Store(&next)
		s.changed()
	}
	return errors.Join(faults...)
}

// close ends all connections, and waits for all goroutines.
func (s *peerSet) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	var faults []error
	for _, p := range s.each() {
		faults = append(faults, p.Close())
	}
	s.wg.Wait()
	return errors.Join(faults...)
}
