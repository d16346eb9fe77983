package proto

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
)

// Info is what a node says of itself. It is an admin document: msgpack, with
// fields that a reader does not know left out.
type Info struct {
	Node            string              `msgpack:"node" json:"node"`       // its id
	Name            string              `msgpack:"name" json:"name"`       // of the node
	Cluster         string              `msgpack:"cluster" json:"cluster"` // the cluster's name
	Version         string              `msgpack:"version" json:"version"` // of the program
	Era             uint32              `msgpack:"era" json:"era"`         // of the ring's history
	HistoryIndex    uint64              `msgpack:"history_index" json:"history_index"`
	Partitions      int                 `msgpack:"partitions" json:"partitions"`
	SlotSeconds     int64               `msgpack:"slot_seconds" json:"slot_seconds"`
	LatenessSeconds int64               `msgpack:"lateness_seconds" json:"lateness_seconds"`
	AheadSeconds    int64               `msgpack:"ahead_seconds" json:"ahead_seconds"`
	NowMicros       int64               `msgpack:"now_micros" json:"now_micros"` // the node's clock
	Ready           bool                `msgpack:"ready" json:"ready"`
	DCs             []string            `msgpack:"dcs" json:"dcs"`
	Buckets         []bucket.Properties `msgpack:"buckets" json:"buckets"`
}

// AppendInfo encodes i.
func AppendInfo(dst []byte, i Info) ([]byte, error) {
	b, err := msgpack.Marshal(&i)
	if err != nil {
		return dst, fmt.Errorf("encode a node's information: %w", err)
	}
	return append(dst, b...), nil
}

// ParseInfo decodes an Info. Nothing of it aliases b.
func ParseInfo(b []byte) (i Info, err error) {
	// The library trusts length fields: see that they are true first.
	if err := event.Validate(b); err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	if err := msgpack.NewDecoder(bytes.NewReader(b)).Decode(&i); err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	return i, nil
}
