package cluster

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// errRaft says that no leader or candidate of mayfly says such a thing.
var errRaft = errors.New("no message of Raft that a node sends")

// maxTermsAhead is by how much the term of a message may be ahead of this server's:
// elections happen once a second at most, and a term cannot be taken back.
const maxTermsAhead = 1 << 32

// A guardedTransport looks at what others ask of Raft before Raft does, which ends the
// process where it cannot decode a configuration, or meets an entry of a kind it does
// not know, or none where one should be. Nothing on the way has a checksum of its own
// but TCP's.
type guardedTransport struct {
	onePerTime
	term    func() (uint64, error)
	refused func() // told of each message that is refused
	out     chan raft.RPC
	stop    chan struct{} // closed by Close
	once    sync.Once
	wg      sync.WaitGroup
}

func newGuardedTransport(t onePerTime, term func() (uint64, error), refused func()) *guardedTransport {
	g := &guardedTransport{onePerTime: t, term: term, refused: refused, out: make(chan raft.RPC), stop: make(chan struct{})}
	g.wg.Go(g.run)
	return g
}

func (g *guardedTransport) run() {
	for {
		select {
		case rpc := <-g.onePerTime.Consumer():
			if !g.admits(rpc) {
				continue
			}
			select {
			case g.out <- rpc:
			case <-g.stop:
				return
			}
		case <-g.stop:
			return
		}
	}
}

// admits reports whether Raft is to see a message; if not, it is answered.
func (g *guardedTransport) admits(rpc raft.RPC) bool {
	term, err := g.term()
	if err == nil {
		err = checkRPC(rpc.Command, term)
	}
	if err != nil {
		g.refused()
		rpc.Respond(nil, err)
	}
	return err == nil
}

// Consumer implements [raft.Transport].
func (g *guardedTransport) Consumer() <-chan raft.RPC { return g.out }

// SetHeartbeatHandler implements [raft.Transport].
func (g *guardedTransport) SetHeartbeatHandler(handle func(raft.RPC)) {
	g.onePerTime.SetHeartbeatHandler(func(rpc raft.RPC) {
		if g.admits(rpc) {
			handle(rpc)
		}
	})
}

// Close implements [raft.WithClose].
func (g *guardedTransport) Close() error {
	g.once.Do(func() { close(g.stop) })
	g.wg.Wait()
	return g.onePerTime.Close()
}

// checkRPC says what is wrong with a message, term being this server's.
func checkRPC(command any, term uint64) error {
	var theirs uint64
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		theirs = c.Term
		for i, l := range c.Entries {
			if l == nil || l.Index != c.PrevLogEntry+uint64(i)+1 || l.Index == 0 || l.Term > c.Term {
				return fmt.Errorf("%w: entries that do not follow each other", errRaft)
			}
			if err := checkEntry(l); err != nil {
				return err
			}
		}
	case *raft.RequestVoteRequest:
		theirs = c.Term
	case *raft.RequestPreVoteRequest:
		theirs = c.Term
	case *raft.InstallSnapshotRequest:
		theirs = c.Term
		if c.SnapshotVersion != 1 || c.Size < 0 || c.Size > maxEnvelopeBytes {
			return fmt.Errorf("%w: a snapshot of version %d and %d bytes", errRaft, c.SnapshotVersion, c.Size)
		}
		if err := checkConfiguration(c.Configuration); err != nil {
			return err
		}
	}
	if theirs > term && theirs-term > maxTermsAhead {
		return fmt.Errorf("%w: term %d is %d ahead", errRaft, theirs, theirs-term)
	}
	return nil
}

// checkEntry says what is wrong with an entry of the log, its data aside, which only
// the machine understands.
func checkEntry(l *raft.Log) error {
	switch l.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		return nil
	case raft.LogConfiguration:
		return checkConfiguration(l.Data)
	}
	return fmt.Errorf("%w: an entry of kind %d", errRaft, l.Type)
}

// checkConfiguration says what is wrong with a configuration.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errRaft, r)
		}
	}()
	for _, s := range raft.DecodeConfiguration(b).Servers {
		_, log, err := parseServer(s.Address)
		if err != nil || s.ID != serverID(log) || s.Suffrage > raft.Staging {
			return fmt.Errorf("%w: a configuration with server %.80q at %.80q", errRaft, s.ID, s.Address)
		}
	}
	return nil
}
