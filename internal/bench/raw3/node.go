package raw3

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// A Node is one of the three processes. Serve runs it.
type Node struct {
	peers []string // addresses of the other two
	dir   *vfs.Dir
	file  vfs.File
	end   atomic.Int64 // of the file: where the next record goes

	mu    sync.RWMutex
	index map[string]span
}

// A span is where a value lies in the file.
type span struct {
	offset int64
	bytes  int
}

// Open makes a Node that keeps a new file in dir and forwards to peers.
func Open(dir string, peers []string) (*Node, error) {
	d, err := vfs.MakeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("raw3: %w", err)
	}
	file, err := d.Create("log")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw3: %w", err), d.Close())
	}
	return &Node{peers: peers, dir: d, file: file, index: make(map[string]span)}, nil
}

// Close closes the file. Serve has returned.
func (n *Node) Close() error { return errors.Join(n.file.Close(), n.dir.Close()) }

// Serve takes connections on l until ctx ends, and returns when all of them
// have. It closes l.
func (n *Node) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("raw3: %w", err)
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { nc.Close() })
			defer stop()
			defer nc.Close()
			n.serve(nc)
		})
	}
}

// serve answers the requests of one connection, one after the other.
func (n *Node) serve(nc net.Conn) {
	var links links
	defer func() { links.close() }()
	var first [headBytes]byte
	for {
		if _, err := io.ReadFull(nc, first[:]); err != nil {
			return
		}
		h, err := parseHead(first[:])
		if err != nil {
			return
		}
		buf := object.NewBuffer(h.size())
		copy(buf.Bytes(), first[:])
		if _, err := io.ReadFull(nc, buf.Bytes()[headBytes:]); err != nil {
			buf.Release()
			return
		}
		answer := []byte{statusFailed}
		switch h.op {
		case opPut:
			if links == nil {
				links = openLinks(n.peers)
			}
			buf.Bytes()[0] = opCopy
			acks := links.forward(buf)
			if n.store(h, buf.Bytes()) == nil && anyOf(acks, len(links)) {
				answer[0] = statusOK
			}
		case opCopy:
			if n.store(h, buf.Bytes()) == nil {
				answer[0] = statusOK
			}
		case opGet:
			read := n.read(string(buf.Bytes()[headBytes:]))
			_, err = nc.Write(read.Bytes())
			read.Release()
			answer = nil
		}
		buf.Release()
		if answer != nil {
			_, err = nc.Write(answer)
		}
		if err != nil {
			return
		}
	}
}

// store appends a request as it came to the file and notes where its value is.
func (n *Node) store(h head, frame []byte) error {
	start := n.end.Add(int64(len(frame))) - int64(len(frame))
	if _, err := n.file.WritevAt([][]byte{frame}, start); err != nil {
		return err
	}
	at := headBytes + h.key
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index[string(frame[headBytes:at])] = span{start + int64(at), h.value}
	return nil
}

// read returns the answer to a get, which the caller releases.
func (n *Node) read(key string) *object.Buffer {
	n.mu.RLock()
	s, ok := n.index[key]
	n.mu.RUnlock()
	if ok {
		buf := object.NewBuffer(answerBytes + s.bytes)
		b := buf.Bytes()
		if _, err := n.file.ReadAt(b[answerBytes:], s.offset); err == nil {
			b[0] = statusOK
			binary.LittleEndian.PutUint32(b[1:], uint32(s.bytes))
			return buf
		}
		buf.Release()
	}
	buf := object.NewBuffer(1)
	buf.Bytes()[0] = statusAbsent
	return buf
}

// anyOf waits for a copy to be acknowledged, or for all to have failed.
func anyOf(acks <-chan bool, n int) bool {
	for range n {
		if <-acks {
			return true
		}
	}
	return false
}
