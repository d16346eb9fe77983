package main

import (
	"fmt"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/mayflydb/mayfly/event"
)

// A candidate is one way to encode a blob. Each function reuses the buffers it
// is given.
type candidate struct {
	name   string
	encode func(doc, dst []byte, b blob) (packed, stored []byte, err error)
	// split decompresses and finds the single events; decode makes Go values of
	// them. split is nil if the format needs decode for that.
	split  func(buf, stored []byte) (out []byte, events int, err error)
	decode func(buf, stored []byte) (out []byte, events int, err error)
}

// candidates are all of them, or those with cfg.only in their name.
func candidates(cfg config) ([]candidate, error) {
	levels := map[string]zstd.EncoderLevel{
		"zstd fastest": zstd.SpeedFastest, "zstd default": zstd.SpeedDefault,
		"zstd better": zstd.SpeedBetterCompression, "zstd best": zstd.SpeedBestCompression,
	}
	pairs := []struct {
		format     format
		compressor string
	}{
		{msgpackFormat, "zstd fastest"}, {msgpackFormat, "zstd default"}, {msgpackFormat, "zstd better"}, {msgpackFormat, "zstd best"},
		{jsonFormat, "zstd fastest"}, {jsonFormat, "zstd default"}, {jsonFormat, "zstd better"}, {jsonFormat, "zstd best"},
		{msgpackFormat, "s2"}, {msgpackFormat, "s2 better"}, {jsonFormat, "s2"}, {jsonFormat, "s2 better"},
		{msgpackFormat, "gzip 6"}, {jsonFormat, "gzip 6"},
		{serealFormat, "zlib 6"}, {serealFormat, "zstd default"},
	}
	all := []candidate{builderCandidate()}
	for _, p := range pairs {
		c, err := newCompressor(p.compressor, levels, cfg)
		if err != nil {
			return nil, err
		}
		all = append(all, newCandidate(p.format, c))
	}
	var chosen []candidate
	for _, c := range all {
		if strings.Contains(c.name, cfg.only) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("--only %q: no candidate has that in its name", cfg.only)
	}
	return chosen, nil
}

func newCompressor(name string, levels map[string]zstd.EncoderLevel, cfg config) (compressor, error) {
	switch name {
	case "s2":
		return s2Compressor(name, s2.Encode), nil
	case "s2 better":
		return s2Compressor(name, s2.EncodeBetter), nil
	case "gzip 6":
		return gzipCompressor(name, 6)
	case "zlib 6":
		return zlibCompressor(name, 6)
	}
	return zstdCompressor(name, levels[name], cfg.window, cfg.encoders)
}

func newCandidate(f format, c compressor) candidate {
	read := func(take func([]byte) (int, error)) func(buf, stored []byte) ([]byte, int, error) {
		return func(buf, stored []byte) ([]byte, int, error) {
			out, err := c.decode(buf[:0], stored)
			if err != nil {
				return out, 0, err
			}
			n, err := take(out)
			return out, n, err
		}
	}
	all := candidate{
		name: f.name + ", " + c.name,
		encode: func(doc, dst []byte, b blob) ([]byte, []byte, error) {
			doc, err := f.pack(doc[:0], f.events(b))
			if err != nil {
				return doc, dst, err
			}
			dst, err = c.encode(dst[:0], doc)
			return doc, dst, err
		},
		decode: read(f.decode),
	}
	if f.split != nil {
		all.split = read(f.split)
	}
	return all
}

// builderCandidate is what mayfly does: header, checks and checksum included.
func builderCandidate() candidate {
	var b event.Builder
	open := func(buf, stored []byte) (event.Events, error) {
		blob, err := event.ParseBlob(stored)
		if err != nil {
			return event.Events{}, err
		}
		return blob.Events(buf)
	}
	return candidate{
		name: "mayfly blob",
		encode: func(doc, dst []byte, from blob) ([]byte, []byte, error) {
			b.Reset()
			for _, e := range from.msgpack {
				if err := b.Append(e); err != nil {
					return doc, dst, err
				}
			}
			dst, info := b.Seal(dst[:0])
			if cap(doc) < info.RawBytes {
				doc = make([]byte, info.RawBytes)
			}
			return doc[:info.RawBytes], dst, nil
		},
		split: func(buf, stored []byte) ([]byte, int, error) {
			events, err := open(buf, stored)
			n := 0
			for range events.All() {
				n++
			}
			return events.Document(), n, err
		},
		decode: func(buf, stored []byte) ([]byte, int, error) {
			events, err := open(buf, stored)
			if err != nil {
				return buf, 0, err
			}
			n, err := decodeMsgpack(events.Document())
			return events.Document(), n, err
		},
	}
}
