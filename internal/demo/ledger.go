package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/mayflydb/mayfly/event"
)

// A ledger compares what came out with what went in. Events are known by a hash
// of their type, subtype and bytes, blobs by key and checksum.
//
//	sent          every event handed to the network: those that may come out
//	acknowledged  every blob the node said it keeps: those that must come out
//	tailed        every blob the tailer got, with its events
//
// Its methods may be called by several goroutines.
type ledger struct {
	mu     sync.Mutex
	sent   map[uint64]int // by hash: how often it was sent and has not come out
	blobs  map[event.Key]*blobEntry
	acked  []event.Key // the acknowledged blobs, in the order of it
	total  totals
	faults []string // the first few differences, in words

	waiting sync.Cond // of mu: blobs may be missing no more
	closed  bool
}

// A blobEntry is what is known of one blob.
type blobEntry struct {
	acknowledged bool
	tailed       bool
	events       int
	checksum     uint64
}

// totals count events, unless they say otherwise.
type totals struct {
	sent, acknowledged, tailed int64
	lost                       int64 // acknowledged, and not tailed (yet)
	corrupt                    int64 // tailed, and never sent, or in a blob that differs
	acknowledgedBlobs          int64
	missingBlobs               int64 // acknowledged, and not tailed (yet)
	tailedBlobs                int64
	duplicates                 int64 // blobs tailed twice
}

// maxFaults bounds the differences that are told in words.
const maxFaults = 10

func newLedger() *ledger {
	l := &ledger{sent: make(map[uint64]int), blobs: make(map[event.Key]*blobEntry)}
	l.waiting.L = &l.mu
	return l
}

// eventHash tells events apart.
func eventHash(d *xxhash.Digest, typ, subtype string, body []byte) uint64 {
	d.Reset()
	d.WriteString(typ)     //nolint:errcheck // never fails
	d.WriteString("\x00")  //nolint:errcheck // never fails
	d.WriteString(subtype) //nolint:errcheck // never fails
	d.WriteString("\x00")  //nolint:errcheck // never fails
	d.Write(body)          //nolint:errcheck // never fails
	return d.Sum64()
}

// noteSent notes an event that is about to be sent.
func (l *ledger) noteSent(hash uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[hash]++
	l.total.sent++
}

// noteAcknowledged notes a blob the node said it keeps.
func (l *ledger) noteAcknowledged(key event.Key, events int, checksum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.blob(key)
	if b.acknowledged {
		l.faultLocked("%v was acknowledged twice", key)
		return
	}
	if b.tailed && (b.checksum != checksum || b.events != events) {
		l.differsLocked(key, b, events, checksum)
	}
	if !b.tailed {
		l.total.missingBlobs++
		l.total.lost += int64(events)
		b.events, b.checksum = events, checksum
	}
	b.acknowledged = true
	l.acked = append(l.acked, key)
	l.total.acknowledged += int64(events)
	l.total.acknowledgedBlobs++
	l.waiting.Broadcast()
}

// noteTailed notes a blob that the tailer got: the hashes of its events and the
// checksum of its value as they arrived.
func (l *ledger) noteTailed(key event.Key, hashes []uint64, checksum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.blob(key)
	if b.tailed {
		l.total.duplicates++
		l.faultLocked("%v was tailed twice", key)
		return
	}
	b.tailed = true
	l.total.tailedBlobs++
	l.total.tailed += int64(len(hashes))
	if b.acknowledged {
		l.total.missingBlobs--
		l.total.lost -= int64(b.events)
		if b.checksum != checksum || b.events != len(hashes) {
			l.differsLocked(key, b, len(hashes), checksum)
		}
	}
	b.events, b.checksum = len(hashes), checksum
	for _, h := range hashes {
		l.takeLocked(key, h)
	}
	l.waiting.Broadcast()
}

// takeLocked takes one event that came out from those that were sent.
func (l *ledger) takeLocked(key event.Key, hash uint64) {
	switch n := l.sent[hash]; n {
	case 0:
		l.total.corrupt++
		l.faultLocked("%v holds an event that was not sent", key)
	case 1:
		delete(l.sent, hash)
	default:
		l.sent[hash] = n - 1
	}
}

func (l *ledger) differsLocked(key event.Key, b *blobEntry, events int, checksum uint64) {
	l.total.corrupt += int64(max(b.events, events, 1))
	l.faultLocked("%v is known with %d events and checksum %016x, and came otherwise, with %d and %016x", key, b.events, b.checksum, events, checksum)
}

// noteFault notes a difference that concerns so many events of what was tailed.
func (l *ledger) noteFault(corrupt int64, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total.corrupt += corrupt
	l.faultLocked(format, args...)
}

// acknowledgedFrom returns the blobs that were acknowledged so far, without the
// first n. The caller does not change them.
func (l *ledger) acknowledgedFrom(n int) []event.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked[n:len(l.acked):len(l.acked)]
}

// noteReadBack compares a blob that was read by its key through a node.
func (l *ledger) noteReadBack(node string, key event.Key, checksum uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.blob(key)
	switch {
	case err != nil:
		l.total.lost += int64(b.events)
		l.faultLocked("%v cannot be read back through %s: %v", key, node, err)
	case checksum != b.checksum:
		l.total.corrupt += int64(b.events)
		l.faultLocked("%v is known with checksum %016x and reads back through %s with %016x", key, b.checksum, node, checksum)
	}
}

func (l *ledger) blob(key event.Key) *blobEntry {
	b := l.blobs[key]
	if b == nil {
		b = &blobEntry{}
		l.blobs[key] = b
	}
	return b
}

func (l *ledger) faultLocked(format string, args ...any) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// totalsNow returns the counts as they are.
func (l *ledger) totalsNow() totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// wait returns when every acknowledged blob was tailed, or when giveUp was called.
func (l *ledger) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.total.missingBlobs > 0 && !l.closed {
		l.waiting.Wait()
	}
}

// giveUp ends wait.
func (l *ledger) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.waiting.Broadcast()
}

// verdict returns the differences found, in words, the acknowledged blobs that
// were never tailed among them.
func (l *ledger) verdict() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []string
	for key, b := range l.blobs {
		if b.acknowledged && !b.tailed {
			missing = append(missing, fmt.Sprintf("%v, with %d events, was acknowledged and never tailed", key, b.events))
		}
	}
	slices.Sort(missing)
	return append(slices.Clone(l.faults), missing[:min(len(missing), maxFaults)]...)
}

// sample returns about n keys of blobs that were tailed, evenly over all of them
// in order of key.
func (l *ledger) sample(n int) []event.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []event.Key
	for key, b := range l.blobs {
		if b.tailed {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b event.Key) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), strings.Compare(a.Suffix(), b.Suffix()))
	})
	step := max(1, len(keys)/max(n, 1))
	var picked []event.Key
	for i := 0; i < len(keys); i += step {
		picked = append(picked, keys[i])
	}
	return picked
}
