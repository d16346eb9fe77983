package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A preface begins each connection of the cluster's own: Raft, gossip, and
// requests. Integers are little-endian.
//
//	offset  size  field
//	0       8     magic "MAYFLYC", 1
//	8       1     kind: 1 Raft, 2 gossip, 3 request
//	9       3     zero
//	12      4     the caller's era; 0 from a node that has none yet
//	16      16    the caller's cluster id; zero from a node that has none yet
//	32      16    the caller's node id
//	48      16    the caller's log id; zero if it has no log
//	64      16    origin of the caller's era: the node that founded or recovered the cluster
//	80      16    id of the node that is called; zero: whoever is there
//	96      16    of Raft: id of the log that is called
//	112     4     CRC-32C of every byte before it
//
// The side that is called answers before anything else is said:
//
//	offset  size  field
//	0       8     magic "MAYFLYC", 1
//	8       1     verdict: 0 welcome, otherwise why not, see Refusal
//	9       1     zero
//	10      2     length of the sentence, bytes, 0..512
//	12      4     its era; 0 if it has none yet
//	16      16    its cluster id; zero if it has none yet
//	32      16    its node id
//	48      16    its log id
//	64      16    origin of its era
//	80      n     the sentence: why it will not talk, printable UTF-8
//	80+n    4     CRC-32C of every byte before it
const (
	streamMagic      = "MAYFLYC\x01"
	prefaceSize      = 116
	answerFixedSize  = 80
	maxSentenceBytes = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrPreface says that the other side did not begin as a node of mayfly does.
var ErrPreface = errors.New("not a node of mayfly")

// A Kind says what a connection is for.
type Kind uint8

// The kinds.
const (
	kindRaft Kind = iota + 1
	kindGossip
	kindRequest
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case kindRaft:
		return "raft"
	case kindGossip:
		return "gossip"
	case kindRequest:
		return "request"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// A logID names one log of Raft. It is made with the log and kept in it: a log
// that is lost is gone with its id, and what is made in its place is another
// server, which has never voted.
type logID [16]byte

func (id logID) String() string { return hex.EncodeToString(id[:]) }

// An identity is who one side of a connection is.
type identity struct {
	Cluster [16]byte // zero: none yet
	Era     uint32   // 0: none yet
	Origin  ring.NodeID
	Node    ring.NodeID
	Log     logID
}

// A preface introduces the calling side.
type preface struct {
	Kind     Kind
	From     identity
	WantNode ring.NodeID // zero: whoever is there
	WantLog  logID
}

func appendPreface(dst []byte, p preface) []byte {
	start := len(dst)
	dst = append(dst, streamMagic...)
	dst = append(dst, byte(p.Kind), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, p.From.Era)
	dst = append(dst, p.From.Cluster[:]...)
	dst = append(dst, p.From.Node[:]...)
	dst = append(dst, p.From.Log[:]...)
	dst = append(dst, p.From.Origin[:]...)
	dst = append(dst, p.WantNode[:]...)
	dst = append(dst, p.WantLog[:]...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parsePreface decodes one whole preface. Every error is an [ErrPreface].
func parsePreface(b []byte) (preface, error) {
	switch {
	case len(b) != prefaceSize:
		return preface{}, fmt.Errorf("%w: a preface of %d bytes, want %d", ErrPreface, len(b), prefaceSize)
	case string(b[:8]) != streamMagic:
		return preface{}, fmt.Errorf("%w: it began with %q", ErrPreface, b[:8])
	case !sumMatches(b):
		return preface{}, fmt.Errorf("%w: its preface's CRC does not match", ErrPreface)
	case [3]byte(b[9:12]) != [3]byte{}:
		return preface{}, fmt.Errorf("%w: its preface's reserved bytes are not zero", ErrPreface)
	}
	p := preface{
		Kind: Kind(b[8]),
		From: identity{
			Era: binary.LittleEndian.Uint32(b[12:]), Cluster: [16]byte(b[16:32]), Node: ring.NodeID(b[32:48]),
			Log: logID(b[48:64]), Origin: ring.NodeID(b[64:80]),
		},
		WantNode: ring.NodeID(b[80:96]), WantLog: logID(b[96:112]),
	}
	if p.From.Node.IsZero() {
		return preface{}, fmt.Errorf("%w: its preface names no node", ErrPreface)
	}
	return p, nil
}

// sumMatches checks the CRC-32C in the last four bytes.
func sumMatches(b []byte) bool {
	n := len(b) - 4
	return n >= 0 && crc32.Checksum(b[:n], castagnoli) == binary.LittleEndian.Uint32(b[n:])
}

// A Verdict is what the side that is called makes of a preface. It travels: a
// number keeps its meaning for ever.
type Verdict uint8

// The verdicts.
const (
	Welcome      Verdict = 0
	OtherCluster Verdict = 1 // the caller belongs to another cluster, or one of both to none yet
	OtherEra     Verdict = 2 // Raft: the caller's agreement is an older or a newer one
	OtherOrigin  Verdict = 3 // Raft: the cluster was recovered twice, and the two must not mix
	Stranger     Verdict = 4 // Raft: the caller is no member, or not any more
	OtherNode    Verdict = 5 // the node that is called is not here
	OtherLog     Verdict = 6 // Raft: the log that is called is not here: it was lost, or is of another era
	Itself       Verdict = 7 // the caller has called itself, or a copy of itself
	UnknownKind  Verdict = 8 // another version of mayfly
	Busy         Verdict = 9 // starting, stopping, or too many connections of this kind
	verdicts             = 10
)

var verdictNames = [verdicts]string{
	"welcome", "other cluster", "other era", "other origin", "stranger", "other node", "other log", "itself", "unknown kind", "busy",
}

// String returns the verdict in words.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// A Refusal says that another node will not talk. Nothing was done.
type Refusal struct {
	Verdict  Verdict
	Address  string // of the other node
	Sentence string // its reason

	by identity
}

func (r *Refusal) Error() string { return r.Address + " refused: " + r.Sentence }

// An answer is what the side that is called says to a preface.
type answer struct {
	Verdict  Verdict
	From     identity
	Sentence string
}

func appendAnswer(dst []byte, a answer) []byte {
	start := len(dst)
	text := object.Printable(a.Sentence, maxSentenceBytes)
	dst = append(dst, streamMagic...)
	dst = append(dst, byte(a.Verdict), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(text)))
	dst = binary.LittleEndian.AppendUint32(dst, a.From.Era)
	dst = append(dst, a.From.Cluster[:]...)
	dst = append(dst, a.From.Node[:]...)
	dst = append(dst, a.From.Log[:]...)
	dst = append(dst, a.From.Origin[:]...)
	dst = append(dst, text...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// answerSize returns the length of the answer that b begins with; b holds its
// fixed part.
func answerSize(b []byte) (int, error) {
	if string(b[:8]) != streamMagic {
		return 0, fmt.Errorf("%w: it answered with %q", ErrPreface, b[:8])
	}
	text := int(binary.LittleEndian.Uint16(b[10:]))
	if text > maxSentenceBytes {
		return 0, fmt.Errorf("%w: its answer has a sentence of %d bytes", ErrPreface, text)
	}
	return answerFixedSize + text + 4, nil
}

// parseAnswer decodes one whole answer. Every error is an [ErrPreface].
func parseAnswer(b []byte) (answer, error) {
	if len(b) < answerFixedSize {
		return answer{}, fmt.Errorf("%w: an answer of %d bytes", ErrPreface, len(b))
	}
	size, err := answerSize(b)
	switch {
	case err != nil:
		return answer{}, err
	case size != len(b):
		return answer{}, fmt.Errorf("%w: an answer of %d bytes that should have %d", ErrPreface, len(b), size)
	case !sumMatches(b):
		return answer{}, fmt.Errorf("%w: its answer's CRC does not match", ErrPreface)
	case b[9] != 0:
		return answer{}, fmt.Errorf("%w: its answer's reserved bytes are not zero", ErrPreface)
	}
	a := answer{
		Verdict: Verdict(b[8]),
		From: identity{
			Era: binary.LittleEndian.Uint32(b[12:]), Cluster: [16]byte(b[16:32]), Node: ring.NodeID(b[32:48]),
			Log: logID(b[48:64]), Origin: ring.NodeID(b[64:80]),
		},
		Sentence: string(b[answerFixedSize : size-4]),
	}
	if !object.IsPrintable(a.Sentence) {
		return answer{}, fmt.Errorf("%w: its answer holds unprintable text", ErrPreface)
	}
	return a, nil
}

func readPreface(r io.Reader) (preface, error) {
	var b [prefaceSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return preface{}, err
	}
	return parsePreface(b[:])
}

func readAnswer(r io.Reader) (answer, error) {
	b := make([]byte, answerFixedSize, answerFixedSize+maxSentenceBytes+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return answer{}, err
	}
	size, err := answerSize(b)
	if err != nil {
		return answer{}, err
	}
	b = b[:size]
	if _, err := io.ReadFull(r, b[answerFixedSize:]); err != nil {
		return answer{}, err
	}
	return parseAnswer(b)
}
