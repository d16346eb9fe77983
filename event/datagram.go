package event

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrEnvelope is what an envelope is that is well-formed but says nothing a blob
// could be made of. It was not delivered; sending it again will not help.
var ErrEnvelope = errors.New("envelope refused")

// An Envelope is one event as a producer sends it, with the names of its blob.
// Its slices alias the datagram or the Scratch: they are valid until yield
// returns.
type Envelope struct {
	Epoch   int64  // seconds since the Unix epoch; 0 if the producer left it to the receiver
	DC      []byte // as ValidName has it; empty if the producer left it to the receiver
	Type    []byte // as ValidName has it
	Subtype []byte // as ValidName has it
	Event   []byte // a msgpack map that ValidateMap accepts
	Unknown int    // members that were ignored because this version does not know them
}

// A Scratch holds the buffer ParseDatagram transcodes into. The zero value is
// ready for use; it belongs to one goroutine at a time.
type Scratch struct{ buf []byte }

// A DatagramError says what part of a datagram was refused.
type DatagramError struct {
	Delivered int   // envelopes that were yielded
	Refused   int   // envelopes that were not; what cannot be told apart counts as one
	First     error // why the first was refused: an ErrMsgpack, ErrJSON or ErrEnvelope
}

// Error gives the counts and the first reason.
func (e *DatagramError) Error() string {
	return fmt.Sprintf("datagram: %d envelopes taken, %d refused, the first because: %v", e.Delivered, e.Refused, e.First)
}

// Unwrap returns First.
func (e *DatagramError) Unwrap() error { return e.First }

// ParseDatagram yields the envelopes of one datagram, which is either msgpack
// maps one after another, or JSON objects one after another with white space
// between (NDJSON, for one); the first byte decides. An envelope has the members
//
//	type     required: a string, see ValidName
//	subtype  required: a string, see ValidName
//	event    required: a map or object, at most MaxDepth-1 deep
//	epoch    an integer, 1..MaxEpoch; may be left out, or null
//	dc       a string, see ValidName; may be left out, or null
//
// each once. Others are ignored and counted.
//
// A refused envelope does not cost the others: after malformed JSON the next line
// that begins with "{" is tried, until 16 have been malformed; malformed msgpack,
// or a value that is no map, ends the datagram. The error is a *DatagramError if any were refused, or what yield
// returned, which ends the walk. A msgpack datagram is parsed where it stands,
// and nothing is allocated unless something is refused; a JSON one is transcoded
// into scratch, which holds three times the datagram at most.
func ParseDatagram(b []byte, scratch *Scratch, yield func(Envelope) error) error {
	if len(b) == 0 {
		return nil
	}
	if b[0] == '{' || isSpace(b[0]) {
		return parseJSONDatagram(b, scratch, yield)
	}
	var result DatagramError
	for at := 0; at < len(b); {
		if !isMap(b[at]) {
			result.refuse(errNoMap)
			break
		}
		n, reason, err := result.deliver(b[at:], yield)
		if err != nil {
			return err
		}
		if reason != "" {
			result.refuse(&MsgpackError{at + n, reason})
			break
		}
		at += n
	}
	return result.orNil()
}

// maxMalformed bounds how often a JSON datagram is tried from another line on,
// and so how often a byte of it is read.
const maxMalformed = 16

func parseJSONDatagram(b []byte, scratch *Scratch, yield func(Envelope) error) error {
	var result DatagramError
	malformed := 0
	p := transcoder{text: b, dst: scratch.buf[:0]}
	for p.space(); p.at < len(b); p.space() {
		start := p.at
		p.dst = p.dst[:0]
		p.value(0)
		if p.reason != "" {
			result.refuse(&JSONError{p.at, p.reason})
			if malformed++; malformed == maxMalformed {
				break
			}
			p.reason, p.at = "", start
			p.nextLine()
			continue
		}
		if !isMap(p.dst[0]) {
			result.refuse(errNoMap)
			continue
		}
		if _, _, err := result.deliver(p.dst, yield); err != nil {
			scratch.buf = p.dst
			return err
		}
	}
	scratch.buf = p.dst
	return result.orNil()
}

// nextLine skips to the next line that begins with an object, or to the end.
func (p *transcoder) nextLine() {
	if n := bytes.Index(p.text[p.at:], []byte("\n{")); n >= 0 {
		p.at += n + 1
	} else {
		p.at = len(p.text)
	}
}

// deliver yields the envelope b begins with, or counts it as refused, and returns
// its length. A reason says that it is malformed at n; that is not counted yet.
func (e *DatagramError) deliver(b []byte, yield func(Envelope) error) (n int, reason string, err error) {
	env, n, reason, refusal := parseEnvelope(b)
	switch {
	case reason != "":
	case refusal != nil:
		e.refuse(refusal)
	default:
		if err = yield(env); err == nil {
			e.Delivered++
		}
	}
	return n, reason, err
}

func (e *DatagramError) refuse(err error) {
	if e.Refused++; e.First == nil {
		e.First = err
	}
}

func (e *DatagramError) orNil() error {
	if e.Refused == 0 {
		return nil
	}
	return &DatagramError{e.Delivered, e.Refused, e.First} // a copy, so that e need not be on the heap
}
