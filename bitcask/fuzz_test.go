package bitcask

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// reseal sets the CRC that ends b right, so that a fuzzer gets past it.
func reseal(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	b = slices.Clone(b)
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}

func FuzzIdentity(f *testing.F) {
	f.Add(appendIdentity(nil, Identity{SlotSeconds: 10}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			if id, err := parseIdentity(b); err == nil && !bytes.Equal(appendIdentity(nil, id), b) {
				t.Fatalf("%x decodes to %+v, which encodes to something else", b, id)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(encodeFrame())
	f.Add(appendGap(nil, 1<<20, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameSize {
			return
		}
		b = slices.Clone(b[:frameSize])
		for range 2 {
			if fr, ok := parseFrame(b); ok {
				var again [frameSize]byte
				if putFrame(&again, fr.recordBytes, fr.generation, fr.headerCRC); fr.gap {
					copy(again[:], appendGap(nil, int64(fr.recordBytes)+frameSize, fr.generation))
				}
				if !bytes.Equal(again[:], b) {
					t.Fatalf("%x decodes to %+v, which encodes to %x", b, fr, again)
				}
			}
			b = reseal(b)
		}
	})
}

func FuzzSegHeader(f *testing.F) {
	f.Add(appendSegHeader(nil, goldenSegHeader()))
	f.Add(appendSegHeader(nil, &segHeader{bucket: Bucket{Type: "t", Name: "n", KeepAll: true}, slot: plainSlot, generation: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			if h, err := parseSegHeader(b); err == nil && !bytes.HasPrefix(b, appendSegHeader(nil, &h)) {
				t.Fatalf("%x decodes to %+v, which encodes to something else", b, h)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(appendManifest(nil, goldenManifest()))
	f.Add(appendManifest(nil, newManifest(ID{}, Partition{})))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			if m, err := parseManifest(b); err == nil && !bytes.Equal(appendManifest(nil, m), b) {
				t.Fatalf("%x decodes to %+v, which encodes to something else", b, m)
			}
		}
	})
}

// memFile returns an open file with those bytes.
func memFile(t testing.TB, b []byte) vfs.File {
	t.Helper()
	fsys := vfs.NewMem()
	if err := vfs.PublishBytes(fsys, "f", b); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzHint looks hashes up in whatever a hint may have become.
func FuzzHint(f *testing.F) {
	f.Add(encodeHint(goldenHint()), uint32(1))
	f.Add(encodeHint(goldenPlainHint()), uint32(1))
	var many []location
	for i := range uint32(700) {
		many = append(many, location{i / 3 << 24, i + 16, 1, i})
	}
	f.Add(encodeHint(&hintHeader{records: len(many), sealedLength: 1 << 20}, many, nil), uint32(5<<24))
	f.Fuzz(func(t *testing.T, b []byte, hash uint32) {
		fixed := slices.Clone(b)
		if len(fixed) >= hintHeaderSize {
			copy(fixed, reseal(fixed[:hintHeaderSize]))
			if n := len(fixed); n < 1<<16 && n > hintHeaderSize+hintPageHead { // and one page
				end := min(n, hintPageSize)
				binary.LittleEndian.PutUint32(fixed[hintHeaderSize:], crc32.Checksum(fixed[hintHeaderSize+4:end], castagnoli))
			}
		}
		for _, b := range [][]byte{b, fixed} {
			file := memFile(t, b)
			h, err := readHintHeader(file)
			if err != nil {
				continue
			}
			found, err := lookupHint(t, file, &h, hash)
			for _, l := range found {
				if l.hash != hash {
					t.Fatalf("looked up %x, found %+v", hash, l)
				}
			}
			all, allErr := loadHint(file, &h)
			sorted := slices.IsSortedFunc(all, func(a, b location) int { return int(int64(a.hash) - int64(b.hash)) })
			if err == nil && allErr == nil && sorted {
				n := 0
				for _, l := range all {
					if l.hash == hash {
						n++
					}
				}
				if n != len(found) {
					t.Fatalf("%d entries of hash %x, found %d", n, hash, len(found))
				}
			}
			sums, err := readHintMinutes(file, &h)
			if err == nil && !bytes.Equal(appendHintFooter(nil, &h, sums), b[h.minutesOffset():]) {
				t.Fatalf("the footer decodes to %+v, %+v, which encode to something else", sums, h.plain)
			}
		}
	})
}

// FuzzScan walks whatever a segment may have become: every byte belongs to
// exactly one stretch, and what is called a record is one.
func FuzzScan(f *testing.F) {
	rec, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: 1, Type: []byte("t"), Bucket: []byte("b"), Key: []byte("k")}, []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	var fr [frameSize]byte
	putFrame(&fr, len(rec.Raw()), 5, rec.CRC)
	one := slices.Concat(fr[:], rec.Raw(), zeros[:framedSize(len(rec.Raw()))-frameSize-int64(len(rec.Raw()))])
	f.Add(slices.Concat(one, one), uint8(0))
	f.Add(slices.Concat(one, bytes.Repeat([]byte{7}, 40), one, one[:30]), uint8(3))
	f.Add(slices.Concat(one, make([]byte, 64), one, appendGap(nil, 64, 5), make([]byte, 48), one), uint8(12))
	f.Fuzz(func(t *testing.T, b []byte, mode uint8) {
		sc := &scanner{f: memFile(t, b), end: int64(len(b)), values: mode&1 != 0, padding: mode&2 != 0}
		if mode&4 != 0 {
			sc.generation, sc.typ, sc.name = 5, "t", "b"
		}
		if mode&8 != 0 {
			sc.loose = 1 + int64(mode>>4)
		}
		at := int64(0)
		for {
			st, ok := sc.next()
			if !ok {
				break
			}
			if st.offset != at || st.size <= 0 {
				t.Fatalf("a stretch of %d bytes at %d, want one at %d", st.size, st.offset, at)
			}
			at += st.size
			if st.kind == wholeRecord {
				if _, err := object.ParseRecord(b[st.offset+frameSize:][:st.header.RecordSize()]); err != nil {
					t.Fatalf("no record at %d: %v", st.offset, err)
				}
			}
		}
		if at != int64(len(b)) {
			t.Fatalf("the stretches end at %d of %d", at, len(b))
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"plain-0", "489920-3", "6-0a", "00000000000000e1", "-1", "0-0", "01-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if slot, seq, ok := parseStem(s); ok {
			name := segName(segID{laneID{1, slot}, seq}, Partition{})
			if want := laneDir(1, Partition{}) + "/" + s + segSuffix; name != want {
				t.Fatalf("%q names slot %d, segment %d, which is %q", s, slot, seq, name)
			}
		}
		if p, ok := parsePartition(s); ok && p.String() != s {
			t.Fatalf("%q parses to %v", s, p)
		}
		if id, ok := parseBucketDir(s); ok && bucketDir(id) != s {
			t.Fatalf("%q parses to %x", s, id)
		}
		_, _ = epochOf(s)
	})
}
