package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// An envelope holds a document, with what tells its era from another of the same
// number. It is the file node/agreed on each data directory, a snapshot of Raft,
// and what a node gives to one that asks for its document. Integers are
// little-endian; this is format 1.
//
//	offset  size  field
//	0       8     magic "MAYFLYAD"
//	8       4     format, 1
//	12      4     zero
//	16      16    origin of the era: id of the node that founded or recovered the cluster
//	32      n     the document, see format-agreed
//	32+n    4     CRC-32C of every byte before it
const (
	envelopeMagic    = "MAYFLYAD"
	envelopeFormat   = 1
	envelopeHeader   = 32
	envelopeOverhead = envelopeHeader + 4

	nodeDir    = "node"
	agreedName = nodeDir + "/agreed"
)

// ErrEnvelope says that bytes hold no document that can be used.
var ErrEnvelope = errors.New("no agreed document")

// errAnotherFormat says that another version wrote it: it is not damaged.
var errAnotherFormat = errors.New("it is of another format: use the version of mayfly that wrote it")

// A held document is one with the origin of its era. It is immutable.
type held struct {
	doc    *agreed.Document
	origin ring.NodeID
}

// version returns the document's, zero if there is none.
func (h held) version() ring.Version {
	if h.doc == nil {
		return ring.Version{}
	}
	return h.doc.Version
}

func appendEnvelope(dst []byte, h held) ([]byte, error) {
	doc, err := h.doc.MarshalBinary()
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, envelopeMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, envelopeFormat)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = append(dst, h.origin[:]...)
	dst = append(dst, doc...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

// parseEnvelope keeps nothing of b. Errors wrap ErrEnvelope.
func parseEnvelope(b []byte) (held, error) {
	switch {
	case len(b) < envelopeOverhead || string(b[:8]) != envelopeMagic:
		return held{}, fmt.Errorf("%w: it does not begin as one", ErrEnvelope)
	case binary.LittleEndian.Uint32(b[8:]) != envelopeFormat || binary.LittleEndian.Uint32(b[12:]) != 0:
		return held{}, fmt.Errorf("%w: %w", ErrEnvelope, errAnotherFormat)
	case !sumMatches(b):
		return held{}, fmt.Errorf("%w: the CRC does not match", ErrEnvelope)
	}
	doc, err := agreed.UnmarshalDocument(b[envelopeHeader : len(b)-4])
	if err != nil {
		return held{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	h := held{doc, ring.NodeID(b[16:32])}
	if h.origin.IsZero() || doc.Version.Era == 0 {
		return held{}, fmt.Errorf("%w: it is of no era", ErrEnvelope)
	}
	return h, nil
}

// openDirs opens the data directories. One that cannot be opened is left out, and
// told: the disks that are returned are those of the directories.
func openDirs(cfg Config) (dirs []*vfs.Dir, disks []Disk, err error) {
	var faults []error
	for _, d := range cfg.Disks {
		dir, err := vfs.MakeDir(d.Path)
		if err == nil {
			if err = dir.MkdirAll(nodeDir); err == nil {
				dirs, disks = append(dirs, dir), append(disks, d)
				continue
			}
			err = errors.Join(err, dir.Close())
		}
		faults = append(faults, fmt.Errorf("data directory %s: %w", d.Path, err))
	}
	if len(dirs) == 0 {
		return nil, nil, errors.Join(faults...)
	}
	for _, err := range faults {
		cfg.Log.Error("a disk cannot be used for what the cluster has agreed on; others are", "error", err)
	}
	return dirs, disks, nil
}

// lockName is held by whoever works with the files of the cluster.
const lockName = nodeDir + "/lock"

// lockDirs makes sure that no other process works with the directories, until the
// function it returns is called.
func lockDirs(dirs []*vfs.Dir) (release func(), err error) {
	var locks []io.Closer
	release = func() {
		for _, l := range locks {
			_ = l.Close()
		}
	}
	for _, d := range dirs {
		l, err := d.Lock(lockName)
		if err != nil {
			release()
			return nil, fmt.Errorf("the data directory %s is in use: stop the node first, or name another directory: %w", d.Path("."), err)
		}
		locks = append(locks, l)
	}
	return release, nil
}

func closeDirs(dirs []*vfs.Dir) error {
	var faults []error
	for _, d := range dirs {
		faults = append(faults, d.Close())
	}
	return errors.Join(faults...)
}

// readDocument returns the newest document of the directories; none is no error.
// Damaged copies are told in faults: the others, and the cluster, have it.
func readDocument(dirs []*vfs.Dir) (newest held, faults []error) {
	for _, d := range dirs {
		b, err := vfs.ReadFile(d, agreedName, maxEnvelopeBytes)
		if vfs.IsNotExist(err) {
			continue
		}
		var h held
		if err == nil {
			h, err = parseEnvelope(b)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("the agreed document %s cannot be used: %w", d.Path(agreedName), err))
			continue
		}
		if newest.doc == nil || newest.version().Before(h.version()) {
			newest = h
		}
	}
	return newest, faults
}

// publish writes a file to all directories. It succeeds if it is on one; what
// failed is told.
func publish(dirs []*vfs.Dir, name string, data []byte) (written int, failed error) {
	var faults []error
	for _, d := range dirs {
		if err := vfs.PublishBytes(d, name, data); err != nil {
			faults = append(faults, fmt.Errorf("%s cannot be written: free space, or mend the disk: %w", d.Path(name), err))
			continue
		}
		written++
	}
	return written, errors.Join(faults...)
}
