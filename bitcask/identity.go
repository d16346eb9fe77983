package bitcask

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// The identity file, mayfly-disk. Integers are little-endian; this is format 1.
//
//	offset  size  field
//	0       8     magic "MAYFLYDK"
//	8       4     format, 1: of this file and of all others on the disk
//	12      4     zero
//	16      16    cluster id
//	32      16    node id
//	48      16    disk id
//	64      8     slot length, seconds
//	72      8     created, microseconds since the Unix epoch, UTC
//	80      4     CRC-32C of every byte before it
const (
	identityMagic = "MAYFLYDK"
	diskFormat    = 1
	identitySize  = 84 // bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An Identity says whose a data directory is.
type Identity struct {
	Cluster, Node, Disk ID
	SlotSeconds         int64
	CreatedMicros       int64 // microseconds since the Unix epoch, UTC
}

func appendIdentity(dst []byte, id Identity) []byte {
	start := len(dst)
	dst = append(dst, identityMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, diskFormat)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = append(dst, id.Cluster[:]...)
	dst = append(dst, id.Node[:]...)
	dst = append(dst, id.Disk[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(id.SlotSeconds))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(id.CreatedMicros))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// errFormat marks bytes of a format this program does not read.
var errFormat = errors.New("another format")

func parseIdentity(b []byte) (Identity, error) {
	switch {
	case len(b) < 12 || string(b[:8]) != identityMagic:
		return Identity{}, badFormat(0, "not the identity file of a mayfly disk")
	case binary.LittleEndian.Uint32(b[8:]) != diskFormat:
		return Identity{}, errFormat
	case len(b) != identitySize:
		return Identity{}, badFormat(int64(min(len(b), identitySize)), "%d bytes; %d are right", len(b), identitySize)
	case crc32.Checksum(b[:80], castagnoli) != binary.LittleEndian.Uint32(b[80:]):
		return Identity{}, badFormat(0, "the CRC does not match")
	case binary.LittleEndian.Uint32(b[12:]) != 0:
		return Identity{}, badFormat(12, "reserved bytes are not zero")
	}
	id := Identity{
		Cluster: ID(b[16:32]), Node: ID(b[32:48]), Disk: ID(b[48:64]),
		SlotSeconds:   int64(binary.LittleEndian.Uint64(b[64:])),
		CreatedMicros: int64(binary.LittleEndian.Uint64(b[72:])),
	}
	if id.SlotSeconds <= 0 {
		return Identity{}, badFormat(64, "a slot of %d seconds", id.SlotSeconds)
	}
	return id, nil
}

// ReadIdentity tells whose the directory is, without using it. An error is an
// *IdentityError; its cause satisfies vfs.IsNotExist if the directory is
// nobody's yet.
func ReadIdentity(fsys vfs.FS) (Identity, error) {
	refuse := func(cause error, reason string) (Identity, error) {
		return Identity{}, &IdentityError{Path: fsys.Path(identityName), Reason: reason, Cause: cause}
	}
	b, err := vfs.ReadFile(fsys, identityName, 1<<10)
	if vfs.IsNotExist(err) {
		return refuse(err, "the file is missing: this is not a data directory of mayfly")
	}
	if err != nil {
		return refuse(err, "the file cannot be read: "+err.Error())
	}
	id, err := parseIdentity(b)
	switch {
	case errors.Is(err, errFormat):
		return refuse(err, "the directory was written in another format: use the version of mayfly that wrote it, or an empty directory")
	case err != nil:
		return refuse(err, "the file is damaged ("+err.Error()+"): restore it from a copy, or use an empty directory and let the replicas fill it")
	}
	return id, nil
}

// checkOwner refuses an identity that is not the configuration's.
func checkOwner(fsys vfs.FS, id Identity, cfg Config) error {
	refuse := func(reason string) error {
		return &IdentityError{Path: fsys.Path("."), Reason: reason}
	}
	switch {
	case id.Cluster != cfg.Cluster:
		return refuse("the directory belongs to cluster " + id.Cluster.String() + ", this node to " + cfg.Cluster.String() + ": name this node's own data directory")
	case id.Node != cfg.Node:
		return refuse("the directory belongs to node " + id.Node.String() + ", this is node " + cfg.Node.String() + ": name this node's own data directory")
	case id.SlotSeconds != cfg.SlotSeconds:
		return refuse(slotLengthReason(id.SlotSeconds, cfg.SlotSeconds))
	}
	return nil
}

func slotLengthReason(have, want int64) string {
	return fmt.Sprintf("the directory holds slots of %d seconds, the configuration says %d: the slot length is fixed when a cluster is created, set it back", have, want)
}
