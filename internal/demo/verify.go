package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// readBack gets a sample of the blobs by their keys, and looks for all of them in
// the index.
func (d *Demo) readBack(ctx context.Context, s *Summary) {
	for _, key := range d.ledger.sample(readBacks) {
		rec, err := d.client.Get(ctx, bucket.DefaultType, bucket.Events, key.String())
		if err != nil {
			d.ledger.noteReadBack(key, 0, err)
			continue
		}
		d.ledger.noteReadBack(key, object.Checksum(rec.Value()), nil)
		rec.Release()
		s.ReadBack++
	}
	for _, second := range d.ledger.seconds() {
		keys, _, err := d.client.Keys(ctx, second.Epoch, second.DC)
		if err != nil {
			d.ledger.noteFault(0, "the index of %v cannot be read: %v", second, err)
		}
		d.ledger.noteListed(second, keys)
	}
}

// noteListed compares the keys that the index has of a second with the blobs of
// that second that were acknowledged.
func (l *ledger) noteListed(second event.IndexKey, keys []event.Key) {
	listed := make(map[event.Key]bool, len(keys))
	for _, k := range keys {
		listed[k] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, b := range l.blobs {
		if b.acknowledged && key.Index() == second && !listed[key] {
			l.total.lost += int64(b.events)
			l.faultLocked("%v was acknowledged and is not in the index of its second", key)
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
	for _, dir := range d.nodeDirs() {
		faults = append(faults, checkDir(dir, s))
	}
	return errors.Join(faults...)
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
