package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// maxFailed is after how many blobs in a row that cannot be read a node is left
// alone.
const maxFailed = 3

// readBack gets a sample of the blobs by their keys, and looks for all of them in
// the index: through each node.
func (d *Demo) readBack(ctx context.Context, s *Summary) {
	keys, seconds := d.ledger.sample(readBacks), d.ledger.seconds()
	for _, p := range d.places {
		c, err := client.New(client.Config{Addrs: []string{p.addr}, Pinned: true, User: "demo"})
		if err != nil {
			panic("demo: BUG: " + err.Error())
		}
		d.readBackFrom(ctx, c, p, keys, seconds, s)
		c.Close() //nolint:errcheck // nothing is under way
	}
}

func (d *Demo) readBackFrom(ctx context.Context, c *client.Client, p place, keys []event.Key, seconds []event.IndexKey, s *Summary) {
	failed := 0 // in a row
	for _, key := range keys {
		rec, err := c.Get(ctx, bucket.DefaultType, bucket.Events, key.String())
		if err != nil {
			d.ledger.noteReadBack(p.name, key, 0, err)
			if failed++; failed == maxFailed {
				return // each takes its time, and all is said
			}
			continue
		}
		failed = 0
		d.ledger.noteReadBack(p.name, key, object.Checksum(rec.Value()), nil)
		rec.Release()
		s.ReadBack++
	}
	for _, second := range seconds {
		keys, certain, err := certainKeys(ctx, c, second)
		if err != nil {
			d.ledger.noteFault(0, "the index of %v cannot be read through %s: %v", second, p.name, err)
		} else if !certain {
			d.ledger.noteFault(0, "the index of %v, read through %s, is not certain", second, p.name)
		}
		d.ledger.noteListed(p.name, second, keys)
	}
}

// certainFor is how long a node may take until it is certain of a second: right
// after a cluster's start its replicas have yet to find out that nothing was there
// before.
const (
	certainFor   = 20 * time.Second
	certainPause = 100 * time.Millisecond
)

// certainKeys lists a second until that is certain, or for certainFor.
func certainKeys(ctx context.Context, c *client.Client, second event.IndexKey) (keys []event.Key, certain bool, err error) {
	for range certainFor / certainPause {
		if keys, certain, err = c.Keys(ctx, second.Epoch, second.DC); err != nil || certain || !pause(ctx, certainPause) {
			break
		}
	}
	return keys, certain, err
}

// noteListed compares the keys that a node says the index has of a second with
// the blobs of that second that were acknowledged.
func (l *ledger) noteListed(node string, second event.IndexKey, keys []event.Key) {
	listed := make(map[event.Key]bool, len(keys))
	for _, k := range keys {
		listed[k] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, b := range l.blobs {
		if b.acknowledged && key.Index() == second && !listed[key] {
			l.total.lost += int64(b.events)
			l.faultLocked("%v was acknowledged and is not in the index of its second, as %s has it", key, node)
		}
	}
}

// seconds returns the seconds that have acknowledged blobs.
func (l *ledger) seconds() (all []event.IndexKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[event.IndexKey]bool)
	for key, b := range l.blobs {
		if at := key.Index(); b.acknowledged && !seen[at] {
			seen[at] = true
			all = append(all, at)
		}
	}
	return all
}

// checkData holds the data directory, which is not in use any more, against its
// format.
func (d *Demo) checkData(s *Summary) error {
	var faults []error
	copies := make(map[event.Key]int)
	for _, p := range d.places {
		faults = append(faults, checkDir(p.dir, s))
		if len(d.places) > 1 {
			faults = append(faults, countCopies(p.dir, copies))
		}
	}
	if len(d.places) > 1 {
		d.judgeCopies(copies, s)
	}
	if s.Growth != nil && s.Growth.Joined > 0 {
		faults = append(faults, s.Growth.count(d))
	}
	return errors.Join(faults...)
}

// judgeCopies compares the copies there are of each acknowledged blob with what
// its bucket promises.
func (d *Demo) judgeCopies(copies map[event.Key]int, s *Summary) {
	n, _, w := bucket.DefaultSet().Lookup(bucket.DefaultType, bucket.Events).For(len(d.places))
	for _, key := range d.ledger.acknowledgedFrom(0) {
		s.CopiesLacking += int64(max(0, n-copies[key]))
		if copies[key] < w && len(s.Faults) < 3*maxFaults {
			s.Faults = append(s.Faults, fmt.Sprintf("%v was acknowledged and is on %d nodes, not %d", key, copies[key], w))
		}
	}
}

// countCopies adds the blobs that a data directory holds, each once.
func countCopies(dir string, copies map[event.Key]int) error {
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	defer fsys.Close() //nolint:errcheck // it was only read
	seen := make(map[event.Key]bool)
	for r, err := range bitcask.Dump(fsys, "") {
		if err != nil || string(r.Record.Bucket) != bucket.Events || string(r.Record.Type) != bucket.DefaultType {
			continue // damage is checkDir's
		}
		key, err := event.ParseKey(string(r.Record.Key))
		if err == nil && !seen[key] {
			seen[key] = true
			copies[key]++
		}
	}
	return nil
}

func checkDir(dir string, s *Summary) error {
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	defer fsys.Close() //nolint:errcheck // it was only read
	totals, err := bitcask.Check(fsys, bitcask.CheckOptions{Hash: ring.Hash[[]byte, []byte], BootID: vfs.BootID()}, func(f bitcask.Finding) bool {
		if f.Severity == bitcask.SeverityDamage && len(s.Faults) < 3*maxFaults {
			s.Faults = append(s.Faults, fmt.Sprintf("%s: offset %d: %s", filepath.Join(dir, f.File), f.Offset, f.What))
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	s.CheckRecords += totals.Records
	s.CheckDamage += totals.Damage
	return nil
}
