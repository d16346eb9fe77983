package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mayflydb/mayfly/internal/object"
)

// The hello is frozen: it is what programs of all versions must understand.
func TestHelloGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		h    Hello
		want string
	}{
		{"a node", Hello{ProtocolMin: 1, ProtocolMax: 2, MaxBodyBytes: 64 << 20, MaxRequests: 256, Features: 5, Cluster: clusterA, Node: nodeOne, Name: "one"}, `
			4d4159464c590001 0100 0200 00000004 00010000 00000000 0500000000000000
			aa010000000000000000000000000000 01000000000000000000000000000000 0300 0000 6f6e65 2a97c30f`},
		{"an unnamed user", Hello{ProtocolMin: 1, ProtocolMax: 1}, `
			4d4159464c590001 0100 0100 00000000 00000000 00000000 0000000000000000
			00000000000000000000000000000000 00000000000000000000000000000000 0000 0000 c83095ee`},
		{"a refusal", Hello{ProtocolMin: 1, ProtocolMax: 1, Node: nodeOne, Refusal: "no."}, `
			4d4159464c590001 0100 0100 00000000 00000000 00000000 0000000000000000
			00000000000000000000000000000000 01000000000000000000000000000000 0000 0300 6e6f2e 927d61ea`},
	} {
		got := AppendHello(nil, &c.h)
		if want := unhex(t, c.want); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
		if back, err := ParseHello(got); err != nil || back != c.h {
			t.Errorf("%s: parsed back as %+v, %v", c.name, back, err)
		}
	}
}

func TestHelloTextIsCutAndMadePrintable(t *testing.T) {
	h := Hello{ProtocolMin: 1, ProtocolMax: 1, Name: strings.Repeat("é", 200), Refusal: "two\nlines \xff"}
	back, err := ParseHello(AppendHello(nil, &h))
	if err != nil {
		t.Fatal(err)
	}
	if back.Name != strings.Repeat("é", 127) {
		t.Errorf("the name became %q", back.Name)
	}
	if back.Refusal != "two lines ?" {
		t.Errorf("the refusal became %q", back.Refusal)
	}
}

func TestHelloFaults(t *testing.T) {
	good := AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, Name: "n", Refusal: "r"})
	with := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		return b
	}
	crc := bytes.Clone(good)
	crc[len(crc)-1]++
	for name, b := range map[string][]byte{
		"it is empty":                 nil,
		"it is cut short":             good[:len(good)-1],
		"something follows":           append(bytes.Clone(good), 0),
		"the CRC differs":             crc,
		"the magic is another":        with(0, 'm'),
		"the hello format is another": with(7, 2),
		"a reserved byte is set":      with(20, 1),
		"the name is unprintable":     with(68, '\n'),
		"the name is not UTF-8":       with(68, 0xff),
		"the name claims 64 KiB":      with(65, 0xff),
		"the refusal claims 64 KiB":   with(67, 0xff),
	} {
		if h, err := ParseHello(b); !errors.Is(err, ErrHello) {
			t.Errorf("%s: got %+v, %v; want ErrHello", name, h, err)
		}
	}
}

// TestReadHelloTakesNothingElse reads a hello in pieces of every kind: what
// follows it must stay where it is.
func TestReadHelloTakesNothingElse(t *testing.T) {
	want := Hello{ProtocolMin: 1, ProtocolMax: 1, Cluster: clusterA, Name: strings.Repeat("n", 255), Refusal: strings.Repeat("r", 1024)}
	b := append(AppendHello(nil, &want), "next"...)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "halves": iotest.HalfReader,
	} {
		r := bytes.NewReader(b)
		if got, err := readHello(wrap(r)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "next" {
			t.Errorf("%s: %q is left, want %q", name, rest, "next")
		}
	}
}

func TestReadHelloStopsAtTheFirstStrangeByte(t *testing.T) {
	for _, stranger := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01", "MAYFLX", "x"} {
		_, err := readHello(io.MultiReader(strings.NewReader(stranger), iotest.ErrReader(errors.New("read too far"))))
		if !errors.Is(err, ErrHello) {
			t.Errorf("%q: %v", stranger, err)
		}
	}
}

func TestAgree(t *testing.T) {
	server := Hello{ProtocolMin: 2, ProtocolMax: 4, Cluster: clusterA, Node: nodeOne, Name: "one"}
	for _, c := range []struct {
		name   string
		caller Hello
		words  []string // empty: they agree
	}{
		{"a user of any cluster", Hello{ProtocolMin: 1, ProtocolMax: 2}, nil},
		{"a user of this cluster", Hello{ProtocolMin: 4, ProtocolMax: 9, Cluster: clusterA}, nil},
		{"a node of this cluster", Hello{ProtocolMin: 3, ProtocolMax: 3, Cluster: clusterA, Node: ID{2}}, nil},
		{"a user of another cluster", Hello{ProtocolMin: 2, ProtocolMax: 2, Cluster: clusterB, Name: "ann"}, []string{`user "ann"`, clusterB.String(), `node "one"`, clusterA.String()}},
		{"a node of another cluster", Hello{ProtocolMin: 2, ProtocolMax: 2, Cluster: clusterB, Node: ID{2}}, []string{"node " + ID{2}.String(), clusterA.String()}},
		{"a node of no cluster", Hello{ProtocolMin: 2, ProtocolMax: 2, Node: ID{2}}, []string{clusterA.String()}},
		{"an older program", Hello{ProtocolMin: 1, ProtocolMax: 1, Name: "ann"}, []string{"protocol 1 ", "2 to 4"}},
		{"a newer program", Hello{ProtocolMin: 5, ProtocolMax: 6}, []string{"5 to 6", "2 to 4"}},
	} {
		err := agree(&c.caller, &server)
		if (err != nil) != (c.words != nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			wantError(t, err, object.CodeRefused, object.NotDone)
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not name %q", c.name, err, w)
			}
		}
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(AppendHello(nil, &Hello{ProtocolMin: 1, ProtocolMax: 1, Name: "ann", Refusal: "no", Cluster: clusterA}))
	f.Add([]byte(helloMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b); n > helloFixedSize+4 {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[n-4:], crc32.Checksum(b[:n-4], castagnoli))
		}
		h, err := ParseHello(b)
		if err != nil {
			if !errors.Is(err, ErrHello) {
				t.Fatalf("an error that is no ErrHello: %v", err)
			}
			return
		}
		if back := AppendHello(nil, &h); !bytes.Equal(back, b) {
			t.Fatalf("encodes back as\n%x, was\n%x", back, b)
		}
		if again, err := readHello(bytes.NewReader(b)); err != nil || again != h {
			t.Fatalf("read as %+v, %v", again, err)
		}
	})
}
