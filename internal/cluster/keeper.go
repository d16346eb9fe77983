package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A keeper has the newest document. Raft and whoever fetches from other nodes offer
// what they have; the cluster's keep loop puts the newest of it on disk, and shows
// it then.
type keeper struct {
	now atomic.Pointer[held] // shown

	mu   sync.Mutex
	next held          // offered and newer, its doc nil if there is none
	wake chan struct{} // capacity 1
	news chan struct{} // closed when now changes
}

func (k *keeper) init(h held) {
	k.now.Store(&h)
	k.wake, k.news = make(chan struct{}, 1), make(chan struct{})
}

func (k *keeper) newest() held { return *k.now.Load() }

func (k *keeper) changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.news
}

// offer takes a document in, if it is newer. It does not wait.
func (k *keeper) offer(h held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.now.Load().version().Before(h.version()) || k.next.doc != nil && !k.next.version().Before(h.version()) {
		return
	}
	k.next = h
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// taken returns what was offered last, if anything.
func (k *keeper) taken() (held, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.next
	k.next = held{}
	return h, h.doc != nil
}

// show makes a document the newest one.
func (k *keeper) show(h held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now.Store(&h)
	close(k.news)
	k.news = make(chan struct{})
}

// keepRetry is how many times Timing.Upkeep after a failure to write the document, or to
// open the log, it is tried again.
const keepRetry = 4

// keep puts documents on disk and shows them, until the cluster ends. It alone
// changes the era.
func (c *Cluster) keep() {
	defer close(c.kept)
	var retry <-chan time.Time
	if c.era() == nil { // it could not be opened
		retry = time.After(keepRetry * c.cfg.Timing.Upkeep)
	}
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.keeper.wake:
		case <-retry:
		case <-c.logUnsure():
			c.closeLog()
			retry = time.After(0)
			continue
		}
		h, newer := c.keeper.taken()
		if !newer {
			h = c.keeper.newest() // it could not be written
		}
		retry = nil
		if err := c.write(h); err != nil {
			retry = time.After(keepRetry * c.cfg.Timing.Upkeep)
		}
		if newer {
			c.keeper.show(h)
			c.stats.documents.Add(1)
			if q := c.era(); q == nil || q.era != h.version().Era {
				c.changeEra(h)
			}
			c.gossip.tell(c.news())
		} else if c.era() == nil {
			c.changeEra(h)
		}
		if c.era() == nil {
			retry = time.After(keepRetry * c.cfg.Timing.Upkeep)
		}
	}
}

// write puts a document on all disks. The document counts although it is on none:
// the others have it, and a node asks them before it answers after a start.
func (c *Cluster) write(h held) error {
	b, err := c.encoded.envelope(h)
	if err != nil {
		return err
	}
	n, err := publish(c.dirs, agreedName, b)
	if err != nil {
		c.stats.writeFailures.Add(1)
		c.cfg.Log.Error("the agreed document could not be written everywhere; it is tried again", "version", fmt.Sprint(h.version()), "written", n, "error", err)
	}
	return err
}

// logUnsure returns a channel that is closed when the log is not certain to be on disk.
func (c *Cluster) logUnsure() <-chan struct{} {
	if q := c.era(); q != nil {
		return q.store.unsure
	}
	return nil
}

// closeLog ends this node's part in Raft until its log is written anew.
func (c *Cluster) closeLog() {
	c.quorumMu.Lock()
	q := c.quorum
	c.quorum = nil
	c.quorumMu.Unlock()
	c.rewrite = filepath.Join(q.dir, logName)
	c.stats.writeFailures.Add(1)
	c.cfg.Log.Error("the disk could not make the log of the agreed state durable: it is written anew, and until then this node does not vote; look after the disk", "log", c.rewrite)
	if err := q.close(); err != nil {
		c.cfg.Log.Warn("the log was not closed cleanly", "error", err)
	}
}

// changeEra ends this node's part in the Raft of an older era, keeps its log under
// another name, and waits to be made a server of the new one.
func (c *Cluster) changeEra(h held) {
	c.quorumMu.Lock()
	old := c.quorum
	c.quorum = nil
	c.quorumMu.Unlock()
	if old != nil {
		c.stats.eras.Add(1)
		c.cfg.Log.Warn("agreement was recovered on another node: this one follows it, and its own log counts no more",
			"was", fmt.Sprintf("era %d of node %v", old.era, old.origin), "now", fmt.Sprintf("era %d of node %v", h.version().Era, h.origin))
		if err := old.close(); err != nil {
			c.cfg.Log.Warn("the log of the last era was not closed cleanly", "error", err)
		}
	}
	if c.rewrite != "" {
		err := rewriteLog(c.rewrite)
		if _, system := errors.AsType[syscall.Errno](err); system && !errors.Is(err, fs.ErrNotExist) { // else it is damaged, or set aside
			c.cfg.Log.Error("the log of the agreed state cannot be written anew; it is tried again, and meanwhile this node does not vote", "error", err)
			return
		}
		c.rewrite = ""
	}
	if err := c.openQuorum(h, false); err != nil {
		c.cfg.Log.Error("the log of the new era cannot be opened; it is tried again, and meanwhile this node does not vote", "error", err)
	}
}

// learn takes in a document that another node has. The error says why it is not
// believed.
func (c *Cluster) learn(h held) error {
	now := c.keeper.newest()
	switch {
	case h.doc.Cluster != now.doc.Cluster:
		return fmt.Errorf("it is of cluster %x, not of %x", h.doc.Cluster, now.doc.Cluster)
	case h.version().Era == now.version().Era && h.origin != now.origin:
		c.stats.twoOrigins.Add(1)
		return fmt.Errorf("era %d was begun twice, by node %v and by node %v: recover once more, on the node whose state is to stay", h.version().Era, now.origin, h.origin)
	}
	if now.version().Before(h.version()) {
		c.stats.learned.Add(1)
		c.keeper.offer(h)
	}
	return nil
}

// An encoding keeps the envelope of the last document that was encoded: after a
// change all others ask for the same one at once.
type encoding struct {
	mu sync.Mutex
	of held
	b  []byte
}

// envelope returns the envelope of a document. It is shared, and not to be modified.
func (e *encoding) envelope(h held) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == h {
		return e.b, nil
	}
	b, err := appendEnvelope(nil, h)
	if err == nil {
		e.of, e.b = h, b
	}
	return b, err
}

// sum returns the checksum of a document, 0 if it cannot be encoded.
func (e *encoding) sum(h held) uint64 {
	b, err := e.envelope(h)
	if err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[len(b)-12:]) // then comes the envelope's CRC
}
