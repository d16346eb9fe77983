package raw3

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/object"
)

const (
	linkQueue   = 8 // blobs that wait for a slow node, for each connection
	linkTimeout = 5 * time.Second
)

// links carry the blobs of one client's connection to the other nodes, to each
// over a connection and by a goroutine of its own.
type links []*link

type link struct {
	queue chan forward
	wg    sync.WaitGroup
}

// A forward is one blob on its way to one node.
type forward struct {
	buf  *object.Buffer // a use of it is the link's
	acks chan<- bool    // with room for all answers
}

func openLinks(peers []string) (all links) {
	for _, address := range peers {
		l := &link{queue: make(chan forward, linkQueue)}
		l.wg.Go(func() { l.run(address) })
		all = append(all, l)
	}
	return all
}

// forward hands the request to all links and returns where their outcomes come.
func (ls links) forward(buf *object.Buffer) <-chan bool {
	acks := make(chan bool, len(ls))
	for _, l := range ls {
		l.queue <- forward{buf.Retain(), acks}
	}
	return acks
}

// close lets the links finish what they have, and waits for them.
func (ls links) close() {
	for _, l := range ls {
		close(l.queue)
	}
	for _, l := range ls {
		l.wg.Wait()
	}
}

// run sends what is queued, in order, one at a time. After a failure it dials
// again for the next.
func (l *link) run(address string) {
	var nc net.Conn
	defer func() {
		if nc != nil {
			nc.Close()
		}
	}()
	for f := range l.queue {
		ok := false
		if nc == nil {
			nc, _ = net.DialTimeout("tcp", address, linkTimeout)
		}
		if nc != nil {
			if ok = exchange(nc, f.buf.Bytes()); !ok {
				nc.Close()
				nc = nil
			}
		}
		f.buf.Release()
		f.acks <- ok
	}
}

func exchange(nc net.Conn, frame []byte) bool {
	if nc.SetDeadline(time.Now().Add(linkTimeout)) != nil {
		return false
	}
	if _, err := nc.Write(frame); err != nil {
		return false
	}
	var status [1]byte
	_, err := io.ReadFull(nc, status[:])
	return err == nil && status[0] == statusOK
}
