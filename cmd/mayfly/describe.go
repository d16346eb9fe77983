package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
)

// A recordJSON is an object's header as get, tail and dump show it. Checksums and
// incarnations are hexadecimal: JSON's numbers do not hold 64 bits.
type recordJSON struct {
	File        string            `json:"file,omitempty"`
	Offset      *int64            `json:"offset,omitempty"` // bytes, of the record's frame in File
	Kind        string            `json:"kind"`             // "value", "tombstone", "delta"
	Type        string            `json:"type"`
	Bucket      string            `json:"bucket"`
	Key         string            `json:"key,omitempty"`
	KeyBase64   []byte            `json:"key_base64,omitempty"` // instead of Key if that is no text
	Time        string            `json:"time"`                 // RFC 3339, microseconds, UTC
	Writer      string            `json:"writer,omitempty"`
	Incarnation string            `json:"incarnation,omitempty"`
	Erased      bool              `json:"erased,omitempty"`
	Events      uint32            `json:"events"`
	Bytes       uint32            `json:"bytes"` // of the value
	Checksum    string            `json:"checksum"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Value       *valueJSON        `json:"value,omitempty"`
}

// A valueJSON is a value in the form that suits it: exactly one member.
type valueJSON struct {
	Events json.RawMessage `json:"events,omitempty"` // of a blob: an array of maps
	Row    *rowJSON        `json:"row,omitempty"`    // of the index
	Text   *string         `json:"text,omitempty"`   // what is UTF-8
	Base64 []byte          `json:"base64,omitempty"` // what is not
}

var kindNames = map[object.Kind]string{object.Value: "value", object.Tombstone: "tombstone", object.Delta: "delta"}

func describeHeader(h *object.Header) recordJSON {
	r := recordJSON{
		Kind: kindNames[h.Kind], Type: string(h.Type), Bucket: string(h.Bucket),
		Time:   microsText(h.TimestampMicros),
		Writer: string(h.Writer), Erased: h.Flags&object.FlagErased != 0,
		Events: h.EventCount, Bytes: h.ValueBytes, Checksum: hex64(h.Checksum),
	}
	if len(h.Writer) > 0 {
		r.Incarnation = hex64(h.Incarnation)
	}
	if utf8.Valid(h.Key) {
		r.Key = string(h.Key)
	} else {
		r.KeyBase64 = h.Key
	}
	for name, value := range object.Fields(h.Metadata) {
		if r.Metadata == nil {
			r.Metadata = make(map[string]string)
		}
		r.Metadata[string(name)] = textOrBase64(value)
	}
	return r
}

func textOrBase64(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return "base64:" + base64.StdEncoding.EncodeToString(b)
}

func hex64(n uint64) string { return fmt.Sprintf("%016x", n) }

func microsText(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
}

// describeValue decodes a record's value as far as it is known what it is; a
// blob or row that is damaged is an error.
func describeValue(r *object.Record) (*valueJSON, error) {
	isDefault := string(r.Type) == bucket.DefaultType
	switch {
	case r.Kind == object.Tombstone:
		return nil, nil
	case isDefault && string(r.Bucket) == bucket.Epochs:
		row, err := index.ParseRow(r.Value())
		if err != nil {
			return nil, err
		}
		key, err := event.ParseIndexKey(string(r.Key))
		if err != nil {
			return nil, err
		}
		described := describeRow(key, row)
		return &valueJSON{Row: &described}, nil
	case isDefault && string(r.Bucket) == bucket.Events && isBlob(r.Value()):
		events, err := eventsJSON(r.Value())
		if err != nil {
			return nil, err
		}
		return &valueJSON{Events: events}, nil
	case utf8.Valid(r.Value()):
		return &valueJSON{Text: new(string(r.Value()))}, nil
	}
	return &valueJSON{Base64: r.Value()}, nil
}

// isBlob tells whether a value begins like a blob. Other pushers may put other
// forms into events.
func isBlob(value []byte) bool { return len(value) >= 4 && string(value[:4]) == blobMagic }

const blobMagic = "MFEB"

// eventsJSON returns a blob's events as a JSON array.
func eventsJSON(value []byte) ([]byte, error) {
	events, err := openBlob(value)
	if err != nil {
		return nil, err
	}
	text := []byte{'['}
	for i, e := range events.All() {
		if i > 0 {
			text = append(text, ',')
		}
		if text, err = event.AppendJSON(text, e); err != nil {
			return nil, err
		}
	}
	return append(text, ']'), nil
}

// openBlob decodes a blob.
func openBlob(value []byte) (event.Events, error) {
	blob, err := event.ParseBlob(value)
	if err != nil {
		return event.Events{}, err
	}
	return blob.Events(nil)
}

// A rowJSON is an index row.
type rowJSON struct {
	Key     string        `json:"key"`
	Certain *bool         `json:"certain,omitempty"`
	Writers []sectionJSON `json:"writers"`
}

type sectionJSON struct {
	Writer      string      `json:"writer"` // "" is anonymous
	Incarnation string      `json:"incarnation,omitempty"`
	Hello       bool        `json:"hello,omitempty"`
	Goodbye     bool        `json:"goodbye,omitempty"`
	Final       *finalJSON  `json:"final,omitempty"`
	Succeeds    []string    `json:"succeeds,omitempty"`
	Entries     []entryJSON `json:"entries"`
}

type finalJSON struct {
	Count  uint32 `json:"count"`
	Digest string `json:"digest"`
}

type entryJSON struct {
	Key      string   `json:"key"`
	Time     string   `json:"time"`
	Events   uint32   `json:"events"`
	Bytes    uint32   `json:"bytes"`
	Checksum string   `json:"checksum"`
	Flags    []string `json:"flags,omitempty"`
}

func describeRow(key event.IndexKey, row index.Row) rowJSON {
	r := rowJSON{Key: key.String(), Writers: []sectionJSON{}}
	for _, s := range row.Sections {
		j := sectionJSON{Writer: s.Writer.Name, Hello: s.Hello, Goodbye: s.Goodbye, Entries: []entryJSON{}}
		if !s.Writer.Anonymous() {
			j.Incarnation = hex64(s.Writer.Incarnation)
		}
		if s.Final != nil {
			j.Final = &finalJSON{s.Final.Count, fmt.Sprintf("%016x%016x", s.Final.Digest.Hi, s.Final.Digest.Lo)}
		}
		for _, w := range s.Succeeds {
			j.Succeeds = append(j.Succeeds, w.String())
		}
		for i := range s.Entries {
			j.Entries = append(j.Entries, describeEntry(key, &s.Entries[i]))
		}
		r.Writers = append(r.Writers, j)
	}
	return r
}

func describeEntry(row event.IndexKey, e *index.Entry) entryJSON {
	j := entryJSON{
		Key: e.Suffix, Time: microsText(e.Version.TimestampMicros),
		Events: e.Events, Bytes: e.Bytes, Checksum: hex64(e.Checksum),
	}
	if key, err := e.Key(row); err == nil {
		j.Key = key.String()
	}
	if e.Flags != 0 {
		j.Flags = strings.Split(e.Flags.String(), ",")
	}
	return j
}
