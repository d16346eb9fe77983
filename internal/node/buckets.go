package node

import (
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// The file of the buckets' properties holds what they were at the last start,
// as a msgpack array of bucket.Properties: what a bucket once promised decides
// what may be said of it now.
const (
	bucketsName     = nodeDir + "/buckets"
	maxBucketsBytes = 4 << 20
)

// openBuckets joins what the directory remembers with what is configured, and
// keeps the result. What is fixed by the first put cannot change; the smallest
// write quorum a bucket ever had is remembered; a bucket that is not configured
// any more keeps what it had.
func openBuckets(dir vfs.FS, configured *bucket.Set) (*bucket.Set, error) {
	remembered, err := readBuckets(dir)
	if err != nil {
		return nil, err
	}
	byID := make(map[bucket.ID]bucket.Properties)
	for _, p := range remembered {
		byID[p.ID()] = p
	}
	var faults []error
	for p := range configured.All() {
		if old, known := byID[p.ID()]; known {
			faults = append(faults, old.CheckChange(p))
			p.SmallestW = min(p.SmallestW, old.SmallestW)
		}
		byID[p.ID()] = p
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Path(bucketsName), err)
	}
	all := make([]bucket.Properties, 0, len(byID))
	for _, p := range byID {
		all = append(all, p)
	}
	set, err := bucket.NewSet(all...)
	if err != nil {
		return nil, fmt.Errorf("%s and the configuration do not go together: %w", dir.Path(bucketsName), err)
	}
	return set, writeBuckets(dir, set)
}

func readBuckets(dir vfs.FS) (all []bucket.Properties, err error) {
	b, err := vfs.ReadFile(dir, bucketsName, maxBucketsBytes)
	if vfs.IsNotExist(err) {
		return nil, nil
	}
	if err == nil {
		err = event.Validate(b) // the library trusts length fields
	}
	if err == nil {
		err = msgpack.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it from a copy, or remove it if the buckets' n and w were always as configured", dir.Path(bucketsName), err)
	}
	return all, nil
}

func writeBuckets(dir vfs.FS, set *bucket.Set) error {
	all := make([]bucket.Properties, 0, set.Len())
	for p := range set.All() {
		all = append(all, p)
	}
	b, err := msgpack.Marshal(all)
	if err == nil {
		err = vfs.PublishBytes(dir, bucketsName, b)
	}
	if err != nil {
		return fmt.Errorf("keep the buckets' properties: %w", err)
	}
	return nil
}
