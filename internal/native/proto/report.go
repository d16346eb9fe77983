package proto

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

// Bounds of a report.
const (
	MaxReportDisks  = 256     // data directories
	MaxReportGaps   = 1 << 14 // more of them are told more coarsely
	MaxReportStored = 1 << 18 // stretches of slots of all partitions; the same
)

// A Report is what a node says of its state: what operators look at, and what
// plans are made of. It is an admin document, as Info is.
type Report struct {
	Node      ring.NodeID  `msgpack:"node" json:"node"`
	Name      string       `msgpack:"name" json:"name"`
	Program   string       `msgpack:"program" json:"program"`       // its version
	NowMicros int64        `msgpack:"now_micros" json:"now_micros"` // the node's clock
	Ready     bool         `msgpack:"ready" json:"ready"`
	Version   ring.Version `msgpack:"version" json:"version"` // of the newest agreed document it has
	// HighestEpoch is the highest epoch it has admitted, ring.NoEpoch if none.
	HighestEpoch int64 `msgpack:"highest_epoch" json:"highest_epoch"`

	Agreement Agreement `msgpack:"agreement" json:"agreement"`
	Members   []Sight   `msgpack:"members" json:"members"` // this one and the others, ascending by node
	Merging   Merging   `msgpack:"merging" json:"merging"`
	Gaps      []Gap     `msgpack:"gaps" json:"gaps"`
	Disks     []Disk    `msgpack:"disks" json:"disks"`
	Stored    []Stored  `msgpack:"stored" json:"stored"` // ascending by partition
}

// Agreement is a node's part in it.
type Agreement struct {
	Role   string        `msgpack:"role" json:"role"`     // "leader", "voter", "follower", "waiting"; "" if it takes no part
	Leader ring.NodeID   `msgpack:"leader" json:"leader"` // zero if none is known
	Voters []ring.NodeID `msgpack:"voters" json:"voters"` // ascending; as far as this node knows
}

// A Sight is a member as another one sees it.
type Sight struct {
	Node    ring.NodeID `msgpack:"node" json:"node"`
	Address string      `msgpack:"address" json:"address"` // host:port; "" if it is not known
	Alive   bool        `msgpack:"alive" json:"alive"`
}

// Merging is how far a node's replicas are from being complete.
type Merging struct {
	Partitions     int    `msgpack:"partitions" json:"partitions"`             // those that may lack something
	Unattainable   int    `msgpack:"unattainable" json:"unattainable"`         // of these, those for which too few others can be reached
	Slots          int    `msgpack:"slots" json:"slots"`                       // of partitions, to be merged
	BytesToGet     uint64 `msgpack:"bytes_to_get" json:"bytes_to_get"`         // in them, as far as known
	BytesMoved     uint64 `msgpack:"bytes_moved" json:"bytes_moved"`           // since the process began
	BytesPerSecond uint64 `msgpack:"bytes_per_second" json:"bytes_per_second"` // lately
}

// A Gap is slots of timed data, or the plain data, that the node may lack some of.
type Gap struct {
	Partition ring.Partition `msgpack:"partition" json:"partition"`
	Plain     bool           `msgpack:"plain" json:"plain"`
	From      int64          `msgpack:"from" json:"from"`   // of timed data: the first slot
	Until     int64          `msgpack:"until" json:"until"` // the same: the first that is not meant
}

// A Disk is one data directory.
type Disk struct {
	ID          string `msgpack:"id" json:"id"`     // 32 hexadecimal digits
	Path        string `msgpack:"path" json:"path"` // on the node
	FreeBytes   uint64 `msgpack:"free_bytes" json:"free_bytes"`
	StoredBytes uint64 `msgpack:"stored_bytes" json:"stored_bytes"` // by this node
	Doubts      int    `msgpack:"doubts" json:"doubts"`             // slots that may have lost records
	LowSpace    bool   `msgpack:"low_space" json:"low_space"`       // it takes no puts
	Failed      string `msgpack:"failed" json:"failed"`             // why it is not in use; "" if it is
}

// Stored is how much the node holds of a partition, bytes on disk.
type Stored struct {
	Partition ring.Partition `msgpack:"partition" json:"partition"`
	Plain     uint64         `msgpack:"plain" json:"plain"`
	Timed     []SlotBytes    `msgpack:"timed" json:"timed"` // ascending
}

// SlotBytes is what a slot holds, and those before it that are not named, as
// far back as the one named before: a node that has too many slots to name them
// all tells of several at once.
type SlotBytes struct {
	//lint:ignore U1000 the encoder looks for it
	_msgpack struct{} `msgpack:",as_array"`

	Slot  int64  `json:"slot"`
	Bytes uint64 `json:"bytes"`
}

// MayPropose tells whether a command is an operator's. The others are what nodes
// say of themselves and of each other: from anybody else they would be untrue.
func MayPropose(k agreed.Kind) bool {
	switch k {
	case agreed.Stage, agreed.Clear, agreed.CommitStaged, agreed.Cancel, agreed.SetBucket, agreed.SetTTL, agreed.SetSettings:
		return true
	}
	return false
}

// AppendReport encodes r. What is beyond the bounds is told more coarsely.
func AppendReport(dst []byte, r Report) ([]byte, error) {
	r.Gaps, r.Stored = coarseGaps(r.Gaps), coarseStored(r.Stored)
	r.Disks = r.Disks[:min(len(r.Disks), MaxReportDisks)]
	b, err := msgpack.Marshal(&r)
	if err != nil {
		return dst, fmt.Errorf("encode a node's report: %w", err)
	}
	return append(dst, b...), nil
}

// ParseReport decodes a Report. Nothing of it aliases b.
func ParseReport(b []byte) (r Report, err error) {
	// The library trusts length fields: see that they are true first.
	if err := event.Validate(b); err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	if err := msgpack.NewDecoder(bytes.NewReader(b)).Decode(&r); err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	if err := r.check(); err != nil {
		return Report{}, err
	}
	return r, nil
}

// check tells what of a report no node would say.
func (r *Report) check() error {
	stretches := 0
	for i, s := range r.Stored {
		if i > 0 && r.Stored[i-1].Partition.Compare(s.Partition) >= 0 {
			return malformed("a report whose partitions are out of order")
		}
		stretches += len(s.Timed)
	}
	switch {
	case stretches > MaxReportStored || len(r.Gaps) > MaxReportGaps || len(r.Disks) > MaxReportDisks:
		return malformed("a report of more than a node tells")
	case len(r.Members) > ring.MaxNodes || len(r.Agreement.Voters) > ring.MaxNodes:
		return malformed("a report of more members than there may be")
	}
	return nil
}

// coarseGaps returns gaps that hold all that these hold, at most MaxReportGaps:
// one of a partition, or if these are too many, one of everything.
func coarseGaps(gaps []Gap) []Gap {
	if len(gaps) <= MaxReportGaps {
		return gaps
	}
	type place struct {
		p     ring.Partition
		plain bool
	}
	at := map[place]int{}
	var coarse []Gap
	join := func(k place, g Gap) {
		if i, found := at[k]; found {
			coarse[i].From, coarse[i].Until = min(coarse[i].From, g.From), max(coarse[i].Until, g.Until)
			return
		}
		at[k] = len(coarse)
		coarse = append(coarse, Gap{k.p, k.plain, g.From, g.Until})
	}
	for _, g := range gaps {
		join(place{g.Partition, g.Plain}, g)
	}
	if len(coarse) > MaxReportGaps {
		clear(at)
		coarse = nil
		for _, g := range gaps {
			join(place{ring.Partition{}, g.Plain}, g)
		}
	}
	return coarse
}

// coarseStored returns what holds the same bytes in at most MaxReportStored
// stretches of slots.
func coarseStored(all []Stored) []Stored {
	total := func() (n int) {
		for _, s := range all {
			n += len(s.Timed)
		}
		return n
	}
	if total() <= MaxReportStored {
		return all
	}
	all = slices.Clone(all)
	for total() > MaxReportStored && total() > len(all) {
		for i := range all {
			all[i].Timed = pairs(all[i].Timed)
		}
	}
	return all
}

// pairs joins slots two by two, from the newest on.
func pairs(slots []SlotBytes) []SlotBytes {
	joined := make([]SlotBytes, 0, len(slots)/2+1)
	for i, s := range slots {
		if (len(slots)-i)%2 == 1 && i > 0 {
			joined[len(joined)-1].Slot = s.Slot
			joined[len(joined)-1].Bytes += s.Bytes
			continue
		}
		joined = append(joined, s)
	}
	return joined
}
