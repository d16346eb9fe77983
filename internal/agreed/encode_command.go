package agreed

import (
	"fmt"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A command as bytes: in the log, and on its way to it. Texts, lists and parts
// are as in a document. Fields that do not belong to the kind are not written.
//
//	size  field
//	4     magic "MFAC"
//	1     format, 1
//	1     kind
//	8     now, seconds of Unix time
//	…     join, introduce: a member as in a document
//	      stage: something staged as in a document
//	      clear, up: node (16)
//	      commit: hash of what is staged (8), from slot (8), oldest slot (8),
//	        accept loss (1), number of gaps (4), each 38: node (16), partition
//	        (bits 1, prefix 4), plain (1), from (8), until (8)
//	      promised: node (16), round (8), highest epoch (8)
//	      down: node (16), list of silent nodes
//	      completed: version of the history (12), number (4), each 38: as a gap
//	      trim: oldest slot (8)
//	      set bucket: a bucket as in a document, empty (1)
//	      set ttl: a bucket as in a document, but for sync: 3, none
//	      set settings: settings as in a document
//	      cancel, tick: nothing
//	8     xxhash64 of all before
//
// Nothing may follow. A decoder accepts exactly what an encoder can write.
const commandMagic = "MFAC"

// MarshalBinary returns the command's bytes. It fails only if they are more than
// MaxCommandBytes, or the kind is unknown.
func (c Command) MarshalBinary() ([]byte, error) {
	e := newEncoder(commandMagic)
	e.u8(uint8(c.Kind))
	e.i64(c.Now)
	switch c.Kind {
	case Join, Introduce:
		e.member(c.Member)
	case Stage:
		e.stage(c.Stage)
	case Clear, Up:
		e.id(c.Node)
	case CommitStaged:
		e.commit(c.Commit)
	case Cancel, Tick:
	case Promised:
		e.id(c.Node)
		e.u64(c.Round)
		e.i64(c.Highest)
	case Down:
		e.id(c.Node)
		e.ids(c.Silent)
	case Completed:
		e.version(c.History)
		e.u32(uint32(len(c.Completions)))
		for _, x := range c.Completions {
			e.id(x.Node)
			e.partition(x.Partition)
			e.bool(x.Plain)
			e.i64(x.From)
			e.i64(x.Until)
		}
	case Trim:
		e.i64(c.Oldest)
	case SetBucket:
		e.bucket(c.Bucket)
		e.bool(c.Empty)
	case SetTTL:
		e.bucket(c.Bucket)
	case SetSettings:
		e.settings(c.Settings)
	default:
		return nil, fmt.Errorf("agreed: %v cannot be encoded", c.Kind)
	}
	return e.done(MaxCommandBytes)
}

// UnmarshalCommand returns the command whose bytes b is, whole. It keeps
// nothing of b. Errors wrap ErrCorrupt or ErrFormat; a kind that is not known
// is of another format.
func UnmarshalCommand(b []byte) (Command, error) {
	d, err := newDecoder(b, commandMagic, MaxCommandBytes)
	if err != nil {
		return Command{}, fmt.Errorf("command: %w", err)
	}
	c := Command{Kind: Kind(d.u8()), Now: d.i64()}
	switch c.Kind {
	case Join, Introduce:
		c.Member = d.member()
	case Stage:
		c.Stage = d.stage()
	case Clear, Up:
		c.Node = d.id()
	case CommitStaged:
		c.Commit = d.commit()
	case Cancel, Tick:
	case Promised:
		c.Node, c.Round, c.Highest = d.id(), d.u64(), d.i64()
	case Down:
		c.Node, c.Silent = d.id(), d.ids()
	case Completed:
		c.History = d.version()
		for range d.count(int(d.u32()), 38) {
			c.Completions = append(c.Completions, ring.Completion{Node: d.id(), Partition: d.partition(), Plain: d.bool(), From: d.i64(), Until: d.i64()})
		}
	case Trim:
		c.Oldest = d.i64()
	case SetBucket:
		c.Bucket, c.Empty = d.bucket(), d.bool()
	case SetTTL:
		c.Bucket = d.bucket()
	case SetSettings:
		c.Settings = d.settings()
	default:
		return Command{}, fmt.Errorf("command: %v is not known; run the same version on all nodes: %w", c.Kind, ErrFormat)
	}
	if err := d.done(); err != nil {
		return Command{}, fmt.Errorf("command: %w", err)
	}
	return c, nil
}

// A result as bytes: the answer to who proposed a command. Texts and lists are
// as in a document.
//
//	size  field
//	4     magic "MFAR"
//	1     format, 1
//	12    version of the document after it
//	1     bits: changed, refused, the last copy of something would go
//	…     refused: code (1), outcome (1), text: the sentence
//	…     last copy: list of texts: names of nodes; 8 each: slots, first, last,
//	      partitions, bytes of timed data, partitions, bytes of plain data
//	…     list of texts: notes
//	8     xxhash64 of all before
//
// Nothing may follow. A decoder accepts exactly what an encoder can write.
const resultMagic = "MFAR"

const (
	resultChanged = 1 << iota
	resultRefused
	resultLoss
)

// MarshalBinary returns the result's bytes. It fails only if they are more than
// MaxResultBytes.
func (r Result) MarshalBinary() ([]byte, error) {
	e := newEncoder(resultMagic)
	e.version(r.Version)
	loss := r.loss()
	var flags uint8
	if r.Changed {
		flags |= resultChanged
	}
	if r.Err != nil {
		flags |= resultRefused
	}
	if loss != nil {
		flags |= resultLoss
	}
	e.u8(flags)
	if r.Err != nil {
		e.u8(uint8(r.Err.Code))
		e.u8(uint8(r.Err.Outcome))
		e.text(cut(r.Err.Message))
	}
	if loss != nil {
		e.u16(len(loss.Nodes))
		for _, name := range loss.Nodes {
			e.text(name)
		}
		for _, v := range []int64{loss.Slots, loss.FirstSlot, loss.LastSlot, int64(loss.TimedPartitions), int64(loss.TimedBytes), int64(loss.PlainPartitions), int64(loss.PlainBytes)} {
			e.i64(v)
		}
	}
	e.u16(len(r.Notes))
	for _, note := range r.Notes {
		e.text(note)
	}
	return e.done(MaxResultBytes)
}

// UnmarshalResult returns the result whose bytes b is, whole. It keeps nothing
// of b. Errors wrap ErrCorrupt or ErrFormat.
func UnmarshalResult(b []byte) (Result, error) {
	d, err := newDecoder(b, resultMagic, MaxResultBytes)
	if err != nil {
		return Result{}, fmt.Errorf("result: %w", err)
	}
	r := Result{Version: d.version()}
	flags := d.u8()
	r.Changed = flags&resultChanged != 0
	if flags > 7 || flags&(resultRefused|resultLoss) == resultLoss {
		d.fail()
	}
	if flags&resultRefused != 0 {
		r.Err = &object.Error{Code: object.Code(d.u8()), Outcome: object.Outcome(d.u8()), Message: d.text()}
		if len(r.Err.Message) > maxNoteBytes || r.Err.Message != cut(r.Err.Message) {
			d.fail()
		}
	}
	if flags&resultLoss != 0 && r.Err != nil {
		loss := &ring.LastCopyError{}
		for range d.count(d.u16(), 2) {
			loss.Nodes = append(loss.Nodes, d.text())
		}
		loss.Slots, loss.FirstSlot, loss.LastSlot = d.i64(), d.i64(), d.i64()
		loss.TimedPartitions, loss.TimedBytes = int(d.i64()), d.u64()
		loss.PlainPartitions, loss.PlainBytes = int(d.i64()), d.u64()
		r.Err.Cause = loss
	}
	for range d.count(d.u16(), 2) {
		r.Notes = append(r.Notes, d.text())
	}
	if err := d.done(); err != nil {
		return Result{}, fmt.Errorf("result: %w", err)
	}
	return r, nil
}
