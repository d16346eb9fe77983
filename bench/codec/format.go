package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/Sereal/Sereal/Go/sereal"
	"github.com/mayflydb/mayfly/event"
	"github.com/vmihailenco/msgpack/v5"
)

// A format makes one document of the events of a blob, which have arrived as
// documents of that format, and takes it apart again.
type format struct {
	name   string
	events func(blob) [][]byte
	pack   func(dst []byte, events [][]byte) ([]byte, error) // appends the document
	// split finds the single events, as a node would for a filter or a
	// projection, without decoding them. nil if the format cannot.
	split  func(doc []byte) (events int, err error)
	decode func(doc []byte) (events int, err error) // to Go values
}

var (
	msgpackFormat = format{"msgpack", func(b blob) [][]byte { return b.msgpack }, packMsgpack, splitMsgpack, decodeMsgpack}
	jsonFormat    = format{"json", func(b blob) [][]byte { return b.json }, packJSON, splitJSON, decodeJSON}
	serealFormat  = format{"sereal", func(b blob) [][]byte { return b.sereal }, packSereal, nil, decodeSereal}
)

func packMsgpack(dst []byte, events [][]byte) ([]byte, error) {
	if len(events) < 16 {
		dst = append(dst, 0x90|byte(len(events)))
	} else {
		dst = append(dst, 0xdd, byte(len(events)>>24), byte(len(events)>>16), byte(len(events)>>8), byte(len(events)))
	}
	for _, e := range events {
		if err := event.ValidateMap(e); err != nil {
			return nil, err
		}
		dst = append(dst, e...)
	}
	return dst, nil
}

func splitMsgpack(doc []byte) (n int, err error) {
	err = event.SplitArray(doc, func([]byte) error { n++; return nil })
	return n, err
}

func decodeMsgpack(doc []byte) (int, error) {
	if err := event.Validate(doc); err != nil {
		return 0, err
	}
	var v []map[string]any
	err := msgpack.Unmarshal(doc, &v)
	return len(v), err
}

// packJSON does not check that the events are JSON, as a node would have to.
func packJSON(dst []byte, events [][]byte) ([]byte, error) {
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e...)
	}
	return append(dst, ']'), nil
}

// splitJSON finds the ends of objects by their braces and quotes alone, which
// again is less than a node would have to check: JSON as fast as it can be.
func splitJSON(doc []byte) (n int, err error) {
	depth, quoted := 0, false
	for i := 0; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++ // only in strings
		case '"':
			quoted = !quoted
		case '{':
			if !quoted {
				depth++
			}
		case '}':
			if !quoted {
				if depth--; depth == 0 {
					n++
				}
			}
		}
	}
	if quoted || depth != 0 {
		return 0, errors.New("json: it ends inside an event")
	}
	return n, nil
}

func decodeJSON(doc []byte) (int, error) {
	var v []map[string]any
	err := json.Unmarshal(doc, &v)
	return len(v), err
}

// packSereal merges documents without decoding them, strings said once.
func packSereal(dst []byte, events [][]byte) ([]byte, error) {
	m := sereal.NewMergerV3()
	m.DedupeStrings = true
	for _, e := range events {
		if _, err := m.Append(e); err != nil {
			return nil, err
		}
	}
	doc, err := m.Finish()
	return append(dst, doc...), err
}

func decodeSereal(doc []byte) (int, error) {
	var v any
	if err := sereal.NewDecoder().Unmarshal(doc, &v); err != nil {
		return 0, err
	}
	switch v := v.(type) {
	case []any:
		return len(v), nil
	case *[]any:
		return len(*v), nil
	}
	return 0, fmt.Errorf("sereal: a %T where an array should be", v)
}
