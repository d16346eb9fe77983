package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// After its preface a connection of kind request carries one question and one
// answer, each a message. Integers are little-endian.
//
//	offset  size  field
//	0       1     operation
//	1       1     of an answer: 0, or the code of an error, see object.Code
//	2       1     of an error: its outcome, see object.Outcome
//	3       1     zero
//	4       4     length of the body, bytes
//	8       4     CRC-32C of the body
//	12      n     body; of an error its sentence
//
//	op  name      question                          answer
//	1   hello     a greeting                        a greeting
//	2   document  the version at hand: era (4),     nothing if there is no newer one, else
//	              index (8)                         an envelope, see below
//	3   propose   1 if the other node is taken      a result, see format-agreed
//	              for the leader, else 0 (1);
//	              a command
//	4   vow       a vow                             nothing: it is sworn
const (
	opHello    = 1
	opDocument = 2
	opPropose  = 3
	opVow      = 4

	messageHeaderSize  = 12
	maxErrorBytes      = 4096
	maxGreetingBytes   = 256 << 10
	maxEnvelopeBytes   = agreed.MaxDocumentBytes + envelopeOverhead
	documentAskBytes   = 12
	maxProposalBytes   = agreed.MaxCommandBytes + 1
	maxVowMessageBytes = maxGreetingBytes
)

// ErrMessage says that bytes are no message, or not one that belongs here.
var ErrMessage = errors.New("not a message of a cluster")

// bodyLimit returns how long the body of an operation may be.
func bodyLimit(op byte, question bool) int {
	switch {
	case op == opHello:
		return maxGreetingBytes
	case op == opDocument && question:
		return documentAskBytes
	case op == opDocument:
		return maxEnvelopeBytes
	case op == opPropose && question:
		return maxProposalBytes
	case op == opPropose:
		return agreed.MaxResultBytes
	case op == opVow && question:
		return maxVowMessageBytes
	}
	return 0
}

// A message is a question or an answer.
type message struct {
	Op   byte
	Err  *object.Error // of an answer
	Body []byte
}

func appendMessage(dst []byte, m message) []byte {
	dst, body := appendHead(dst, m)
	return append(dst, body...)
}

// appendHead appends a message but for its body, which it returns.
func appendHead(dst []byte, m message) (out, body []byte) {
	var code, outcome byte
	if body = m.Body; m.Err != nil {
		code, outcome, body = byte(m.Err.Code), byte(m.Err.Outcome), []byte(object.Printable(m.Err.Message, maxErrorBytes))
	}
	dst = append(dst, m.Op, code, outcome, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli)), body
}

// writeMessage writes a message, without a copy of its body.
func writeMessage(w io.Writer, m message) error {
	h, body := appendHead(nil, m)
	_, err := (&net.Buffers{h, body}).WriteTo(w)
	return err
}

// A head is the beginning of a message.
type head struct {
	op            byte
	failed        bool
	code, outcome byte
	size          int64 // of the body, bytes
	sum           uint32
}

// readHead reads the beginning of a message. An error is an [ErrMessage] unless the
// connection's.
func readHead(r io.Reader, question bool) (head, error) {
	var b [messageHeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return head{}, err
	}
	h := head{op: b[0], failed: b[1] != 0, code: b[1], outcome: b[2], size: int64(binary.LittleEndian.Uint32(b[4:])), sum: binary.LittleEndian.Uint32(b[8:])}
	limit := int64(bodyLimit(h.op, question))
	if h.failed {
		limit = maxErrorBytes
	}
	switch {
	case h.op == 0 || h.op > opVow:
		return head{}, fmt.Errorf("%w: operation %d is not known; run releases that have it", ErrMessage, h.op)
	case question && h.failed:
		return head{}, fmt.Errorf("%w: a question that is an error", ErrMessage)
	case b[3] != 0 || !h.failed && h.outcome != 0:
		return head{}, fmt.Errorf("%w: reserved bytes are not zero", ErrMessage)
	case h.size > limit:
		return head{}, fmt.Errorf("%w: a body of %d bytes, at most %d", ErrMessage, h.size, limit)
	}
	return h, nil
}

// readBody reads the rest of a message. It allocates no more than comes.
func (h head) readBody(r io.Reader) (message, error) {
	var body bytes.Buffer
	if n, err := body.ReadFrom(io.LimitReader(r, h.size)); err != nil {
		return message{}, err
	} else if n < h.size {
		return message{}, io.ErrUnexpectedEOF
	}
	if crc32.Checksum(body.Bytes(), castagnoli) != h.sum {
		return message{}, fmt.Errorf("%w: the CRC does not match", ErrMessage)
	}
	m := message{Op: h.op, Body: body.Bytes()}
	if !h.failed {
		return m, nil
	}
	outcome := object.Outcome(h.outcome)
	if outcome < object.NotDone || outcome > object.Done || !object.IsPrintable(string(m.Body)) {
		return message{}, fmt.Errorf("%w: an error without an outcome or a sentence", ErrMessage)
	}
	m.Err, m.Body = &object.Error{Code: object.Code(h.code), Outcome: outcome, Message: string(m.Body)}, nil
	return m, nil
}

// readMessage reads one message. An error is an [ErrMessage] unless the connection's.
func readMessage(r io.Reader, question bool) (message, error) {
	h, err := readHead(r, question)
	if err != nil {
		return message{}, err
	}
	return h.readBody(r)
}

// A greeting is what a node tells of itself to one that looks for a cluster:
//
//	offset  size  field
//	0       1     format, 1
//	1       16    cluster id; zero: none yet
//	17      12    version of its document: era (4), index (8)
//	29      16    whom it has vowed to let found the cluster; zero: nobody
//	45      16    the id of the cluster that one makes
//	61      …     text: name of its cluster
//	…       …     itself, a candidate
//	…       2     number of other candidates it knows, 0..64
//	…       …     these
//
// A text is its length, 2 bytes, and its bytes. A candidate:
//
//	offset  size  field
//	0       16    node id
//	16      4     weight
//	20      2     how many nodes it expects to found the cluster
//	22      1     number of its disks, 0..64
//	23      16·d  their ids
//	…       …     texts: name, zone, address
type greeting struct {
	Cluster [16]byte
	Version ring.Version
	Vow     vow
	Name    string // of the cluster
	Self    candidate
	Others  []candidate
}

const (
	greetingFormat = 1
	maxCandidates  = 64
	maxTextBytes   = 512
)

// A candidate is a node that has no cluster yet, or tells of itself in the same
// way.
type candidate struct {
	Member agreed.Member // id, name, zone, weight, disks, address
	Expect int
}

func appendText(dst []byte, s string) []byte {
	s = object.Printable(s, maxTextBytes)
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendCandidate(dst []byte, c candidate) []byte {
	m := c.Member
	dst = append(dst, m.ID[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, m.Weight)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(c.Expect))
	dst = append(dst, byte(len(m.Disks)))
	for _, d := range m.Disks {
		dst = append(dst, d[:]...)
	}
	return appendText(appendText(appendText(dst, m.Name), m.Zone), m.Address)
}

func appendCandidates(dst []byte, all []candidate) []byte {
	all = all[:min(len(all), maxCandidates)]
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(all)))
	for _, c := range all {
		dst = appendCandidate(dst, c)
	}
	return dst
}

func appendVersion(dst []byte, v ring.Version) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(dst, v.Era), v.Index)
}

func appendGreeting(dst []byte, g greeting) []byte {
	dst = append(dst, greetingFormat)
	dst = append(dst, g.Cluster[:]...)
	dst = appendVersion(dst, g.Version)
	dst = append(dst, g.Vow.Founder[:]...)
	dst = append(dst, g.Vow.Cluster[:]...)
	dst = appendText(dst, g.Name)
	dst = appendCandidate(dst, g.Self)
	return appendCandidates(dst, g.Others)
}

// A cutter takes fields off bytes. Once it has run out it gives zeroes, and bad
// is set.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) take(n int) []byte {
	if n > len(c.b) {
		c.bad, c.b = true, nil
		return make([]byte, n) // n is a constant, or at most maxTextBytes
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cutter) id() [16]byte          { return [16]byte(c.take(16)) }
func (c *cutter) u64() uint64           { return binary.LittleEndian.Uint64(c.take(8)) }
func (c *cutter) u32() uint32           { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cutter) u16() int              { return int(binary.LittleEndian.Uint16(c.take(2))) }
func (c *cutter) byte() byte            { return c.take(1)[0] }
func (c *cutter) version() ring.Version { return ring.Version{Era: c.u32(), Index: c.u64()} }

func (c *cutter) text() string {
	n := c.u16()
	if n > maxTextBytes {
		c.bad = true
		return ""
	}
	s := string(c.take(n))
	c.bad = c.bad || !object.IsPrintable(s)
	return s
}

func (c *cutter) candidate() candidate {
	var out candidate
	out.Member.ID = c.id()
	out.Member.Weight = c.u32()
	out.Expect = c.u16()
	n := int(c.byte())
	if n > agreed.MaxDisks {
		c.bad = true
		return candidate{}
	}
	for range n {
		out.Member.Disks = append(out.Member.Disks, c.id())
	}
	out.Member.Name, out.Member.Zone, out.Member.Address = c.text(), c.text(), c.text()
	c.bad = c.bad || out.Member.ID.IsZero()
	return out
}

func (c *cutter) candidates() (all []candidate) {
	n := c.u16()
	if n > maxCandidates {
		c.bad = true
		return nil
	}
	for range n {
		if all = append(all, c.candidate()); c.bad {
			return nil
		}
	}
	return all
}

// done reports what is wrong, if anything: nothing may be left.
func (c *cutter) done(what string) error {
	if c.bad || len(c.b) > 0 {
		return fmt.Errorf("%w: %s is cut short, too long, or damaged", ErrMessage, what)
	}
	return nil
}

func parseGreeting(b []byte) (greeting, error) {
	c := &cutter{b: b}
	if f := c.byte(); f != greetingFormat {
		return greeting{}, fmt.Errorf("%w: a greeting of format %d, this version knows %d: run releases that have one in common", ErrMessage, f, greetingFormat)
	}
	var g greeting
	g.Cluster, g.Version = c.id(), c.version()
	g.Vow = vow{Founder: c.id(), Cluster: c.id()}
	g.Name, g.Self, g.Others = c.text(), c.candidate(), c.candidates()
	if err := c.done("a greeting"); err != nil {
		return greeting{}, err
	}
	return g, nil
}
