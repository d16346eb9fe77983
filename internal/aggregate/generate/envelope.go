package generate

import (
	"fmt"
	"strconv"

	"github.com/mayflydb/mayfly/event"
)

// Tags are what a producer may say of an event beside its type and subtype.
type Tags struct {
	Epoch int64  // seconds since the Unix epoch; 0 leaves it to the receiver
	DC    string // as event.ValidName has it; empty leaves it to the receiver
}

// An Encoding is how envelopes are written.
type Encoding uint8

const (
	Msgpack Encoding = iota // maps, one after another
	JSON                    // objects, a line each
)

// String is "msgpack" or "json".
func (e Encoding) String() string {
	if e == JSON {
		return "json"
	}
	return "msgpack"
}

// ParseEncoding is the Encoding of that name.
func ParseEncoding(name string) (Encoding, error) {
	switch name {
	case "msgpack":
		return Msgpack, nil
	case "json":
		return JSON, nil
	}
	return 0, fmt.Errorf("encoding %q is not known: write msgpack or json", name)
}

// AppendEnvelope appends the envelope of ev to dst, in the form that
// event.ParseDatagram reads; any number of them, of one encoding, make a
// datagram. It trusts the names and panics if Body is not one well-formed
// msgpack value.
func (e Encoding) AppendEnvelope(dst []byte, ev Event, tags Tags) []byte {
	if e == JSON {
		return appendJSON(dst, ev, tags)
	}
	members := 3
	if tags.Epoch != 0 {
		members++
	}
	if tags.DC != "" {
		members++
	}
	p := packer{dst}
	p.mapOf(members)
	p.member("type", ev.Type)
	p.member("subtype", ev.Subtype)
	if tags.Epoch != 0 {
		p.intMember("epoch", tags.Epoch)
	}
	if tags.DC != "" {
		p.member("dc", tags.DC)
	}
	p.string("event")
	return append(p.b, ev.Body...)
}

func appendJSON(dst []byte, ev Event, tags Tags) []byte {
	dst = strconv.AppendQuote(append(dst, `{"type":`...), ev.Type)
	dst = strconv.AppendQuote(append(dst, `,"subtype":`...), ev.Subtype)
	if tags.Epoch != 0 {
		dst = strconv.AppendInt(append(dst, `,"epoch":`...), tags.Epoch, 10)
	}
	if tags.DC != "" {
		dst = strconv.AppendQuote(append(dst, `,"dc":`...), tags.DC)
	}
	dst = append(dst, `,"event":`...)
	dst, err := event.AppendJSON(dst, ev.Body)
	if err != nil {
		panic("generate: BUG: the body of an event is not msgpack: " + err.Error())
	}
	return append(dst, '}', '\n')
}
