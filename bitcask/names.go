package bitcask

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mayflydb/mayfly/expiry"
)

const (
	identityName = "mayfly-disk"
	lockName     = "mayfly-lock"
	reserveName  = "mayfly-reserve"
	vnodeDir     = "vnode"
	nodeDir      = "node" // small files of the node itself: the engine leaves them alone

	segSuffix  = ".seg"
	hintSuffix = ".hint"
	plainStem  = "plain"
)

// plainSlot stands for the slot of a plain bucket, which has none.
const plainSlot expiry.Slot = -1

// A laneID names one bucket's slot within a partition: the files of one lifetime.
type laneID struct {
	bucket uint64
	slot   expiry.Slot // plainSlot in a plain bucket
}

// A segID names one segment within a partition.
type segID struct {
	laneID
	seq uint32
}

func bucketDir(bucket uint64) string { return fmt.Sprintf("%016x", bucket) }

func laneDir(bucket uint64, p Partition) string {
	return bucketDir(bucket) + "/" + p.String()
}

func manifestName(p Partition) string { return vnodeDir + "/" + p.String() }

// segName returns a segment's path; its hint has another suffix.
func segName(id segID, p Partition) string {
	stem := plainStem
	if id.slot != plainSlot {
		stem = strconv.FormatInt(int64(id.slot), 10)
	}
	return path.Join(laneDir(id.bucket, p), stem+"-"+strconv.FormatUint(uint64(id.seq), 10)+segSuffix)
}

func hintName(seg string) string { return strings.TrimSuffix(seg, segSuffix) + hintSuffix }

// parseStem reads "<slot>-<seq>" or "plain-<seq>", in the one way they are written.
func parseStem(stem string) (slot expiry.Slot, seq uint32, ok bool) {
	head, tail, found := strings.Cut(stem, "-")
	if !found {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(tail, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != tail {
		return 0, 0, false
	}
	if head == plainStem {
		return plainSlot, uint32(n), true
	}
	s, err := strconv.ParseInt(head, 10, 64)
	if err != nil || s < 0 || strconv.FormatInt(s, 10) != head {
		return 0, 0, false
	}
	return expiry.Slot(s), uint32(n), true
}

// parseBucketDir reads a bucket directory's name.
func parseBucketDir(name string) (uint64, bool) {
	id, err := strconv.ParseUint(name, 16, 64)
	return id, err == nil && bucketDir(id) == name
}

// parsePartition reads a partition's directory or manifest name.
func parsePartition(name string) (Partition, bool) {
	bits, prefix, found := strings.Cut(name, "-")
	if !found {
		return Partition{}, false
	}
	b, err1 := strconv.ParseUint(bits, 10, 8)
	x, err2 := strconv.ParseUint(prefix, 16, 32)
	p := Partition{Bits: uint8(b), Prefix: uint32(x)}
	return p, err1 == nil && err2 == nil && p.valid() && p.String() == name
}
