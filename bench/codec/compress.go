package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A compressor appends the compressed form of src to dst, or takes it back. Its
// encoder and decoder are made once, as a long-running process would.
type compressor struct {
	name   string
	encode func(dst, src []byte) ([]byte, error)
	decode func(dst, src []byte) ([]byte, error)
}

func zstdCompressor(name string, level zstd.EncoderLevel, window, encoders int) (compressor, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(encoders),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return compressor{}, err
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return compressor{}, err
	}
	return compressor{
		name:   name,
		encode: func(dst, src []byte) ([]byte, error) { return e.EncodeAll(src, dst), nil },
		decode: func(dst, src []byte) ([]byte, error) { return d.DecodeAll(src, dst) },
	}, nil
}

func s2Compressor(name string, encode func(dst, src []byte) []byte) compressor {
	return compressor{
		name: name,
		encode: func(dst, src []byte) ([]byte, error) {
			return encode(dst[:cap(dst)], src), nil // reuses dst, which is empty here
		},
		decode: func(dst, src []byte) ([]byte, error) { return s2.Decode(dst[:cap(dst)], src) },
	}
}

// gzipCompressor is the standard library's, as zlibCompressor is.
func gzipCompressor(name string, level int) (compressor, error) {
	w, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		return compressor{}, err
	}
	var r gzip.Reader
	return compressor{
		name: name,
		encode: func(dst, src []byte) ([]byte, error) {
			out := bytes.NewBuffer(dst)
			w.Reset(out)
			if _, err := w.Write(src); err != nil {
				return nil, err
			}
			err := w.Close()
			return out.Bytes(), err
		},
		decode: func(dst, src []byte) ([]byte, error) {
			if err := r.Reset(bytes.NewReader(src)); err != nil {
				return nil, err
			}
			out := bytes.NewBuffer(dst)
			_, err := out.ReadFrom(&r)
			return out.Bytes(), err
		},
	}, nil
}

func zlibCompressor(name string, level int) (compressor, error) {
	w, err := zlib.NewWriterLevel(nil, level)
	if err != nil {
		return compressor{}, err
	}
	var r io.ReadCloser
	return compressor{
		name: name,
		encode: func(dst, src []byte) ([]byte, error) {
			out := bytes.NewBuffer(dst)
			w.Reset(out)
			if _, err := w.Write(src); err != nil {
				return nil, err
			}
			err := w.Close()
			return out.Bytes(), err
		},
		decode: func(dst, src []byte) ([]byte, error) {
			var err error
			if r == nil {
				r, err = zlib.NewReader(bytes.NewReader(src))
			} else {
				err = r.(zlib.Resetter).Reset(bytes.NewReader(src), nil)
			}
			if err != nil {
				return nil, err
			}
			out := bytes.NewBuffer(dst)
			_, err = out.ReadFrom(r)
			return out.Bytes(), err
		},
	}, nil
}
