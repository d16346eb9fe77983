package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// seq returns 16 bytes that begin with b and count up.
func seq(b byte) (id [16]byte) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

var (
	goldenIdentity = identity{Cluster: seq(0x10), Era: 7, Origin: seq(0x20), Node: seq(0x30), Log: logID(seq(0x40))}
	goldenPreface  = preface{Kind: kindRaft, From: goldenIdentity, WantNode: seq(0x50), WantLog: logID(seq(0x60))}
	goldenAnswer   = answer{Verdict: OtherLog, From: goldenIdentity, Sentence: "it was lost"}
	goldenMember   = candidate{Member: agreed.Member{ID: seq(0x30), Name: "n1", Zone: "z", Weight: 2, Disks: []agreed.DiskID{seq(0x70)}, Address: "h:1"}, Expect: 3}
	goldenGreeting = greeting{
		Cluster: seq(0x10), Version: ring.Version{Era: 1, Index: 2}, Vow: vow{Founder: seq(0x20), Cluster: seq(0x10)}, Name: "prod",
		Self: goldenMember, Others: []candidate{{Member: agreed.Member{ID: seq(0x80)}}},
	}
	goldenFounding = founding{Vow: vow{Founder: seq(0x20), Cluster: seq(0x10)}, Set: []candidate{goldenMember}}
	goldenFile     = foundingFile{Node: seq(0x30), Disk: seq(0x70), Vow: vow{Founder: seq(0x20), Cluster: seq(0x10)}, At: "h:2"}
	goldenNews     = news{Version: ring.Version{Era: 1, Index: 2}, History: ring.Version{Era: 1, Index: 1}, Origin: seq(0x20), Log: logID(seq(0x40)), Sum: 0x0102030405060708}
	goldenEntry    = raft.Log{Index: 9, Term: 3, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("x"), AppendedAt: time.Unix(1, 2).UTC()}
)

func goldenDocument(t testing.TB) held {
	doc, err := agreed.Found(agreed.Founding{
		Cluster: seq(0x10), Name: "prod", Settings: agreed.DefaultSettings(), Bits: 1,
		Members: []agreed.Member{goldenMember.Member},
	})
	if err != nil {
		t.Fatal(err)
	}
	return held{doc, seq(0x20)}
}

// The bytes that travel, and that lie on disk, stay as they are.
func TestGolden(t *testing.T) {
	envelope, err := appendEnvelope(nil, goldenDocument(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		got  []byte
		want string // hexadecimal
	}{
		{"preface", appendPreface(nil, goldenPreface), "4d4159464c59430101000000" + "07000000" +
			"101112131415161718191a1b1c1d1e1f" + "303132333435363738393a3b3c3d3e3f" + "404142434445464748494a4b4c4d4e4f" +
			"202122232425262728292a2b2c2d2e2f" + "505152535455565758595a5b5c5d5e5f" + "606162636465666768696a6b6c6d6e6f" + "fb093863"},
		{"answer", appendAnswer(nil, goldenAnswer), "4d4159464c594301" + "06" + "00" + "0b00" + "07000000" +
			"101112131415161718191a1b1c1d1e1f" + "303132333435363738393a3b3c3d3e3f" + "404142434445464748494a4b4c4d4e4f" +
			"202122232425262728292a2b2c2d2e2f" + hex.EncodeToString([]byte("it was lost")) + "8acee3f3"},
		{"message", appendMessage(nil, message{Op: opVow, Body: []byte("abc")}), "04000000" + "03000000" + "b73f4b36" + "616263"},
		{"error", appendMessage(nil, message{Op: opPropose, Err: object.Errorf(object.CodeUnavailable, object.MaybeDone, "no")}), "03110200" + "02000000" + "186ff3ba" + "6e6f"},
		{"greeting", appendGreeting(nil, goldenGreeting), "01" + "101112131415161718191a1b1c1d1e1f" + "01000000" + "0200000000000000" +
			"202122232425262728292a2b2c2d2e2f" + "101112131415161718191a1b1c1d1e1f" + "040070726f64" +
			"303132333435363738393a3b3c3d3e3f" + "02000000" + "0300" + "01" + "707172737475767778797a7b7c7d7e7f" + "02006e31" + "01007a" + "0300683a31" +
			"0100" + "808182838485868788898a8b8c8d8e8f" + "00000000" + "0000" + "00" + "0000" + "0000" + "0000"},
		{"vow", appendFounding(nil, goldenFounding), "202122232425262728292a2b2c2d2e2f" + "101112131415161718191a1b1c1d1e1f" + "0100" +
			"303132333435363738393a3b3c3d3e3f" + "02000000" + "0300" + "01" + "707172737475767778797a7b7c7d7e7f" + "02006e31" + "01007a" + "0300683a31"},
		{"founding file", appendFoundingFile(nil, goldenFile), hex.EncodeToString([]byte("MAYFLYFO")) + "01000000" + "00000000" +
			"303132333435363738393a3b3c3d3e3f" + "707172737475767778797a7b7c7d7e7f" + "202122232425262728292a2b2c2d2e2f" + "101112131415161718191a1b1c1d1e1f" + "0300683a32" + "0b881c3e"},
		{"envelope", envelope[:envelopeHeader], hex.EncodeToString([]byte("MAYFLYAD")) + "01000000" + "00000000" + "202122232425262728292a2b2c2d2e2f"},
		{"news", appendNews(nil, goldenNews), "02" + "01000000" + "0200000000000000" + "01000000" + "0100000000000000" +
			"202122232425262728292a2b2c2d2e2f" + "404142434445464748494a4b4c4d4e4f" + "0807060504030201"},
		{"entry", appendEntry(nil, &goldenEntry), "0100000000000000" + "0300000000000000" + "02ca9a3b00000000" + "04000000" + "64617461" + "78" + "e7a270ae"},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// decoders are all of the package's: each returns what it decoded, encoded again.
var decoders = []struct {
	name   string
	valid  func(testing.TB) []byte
	decode func([]byte) ([]byte, error)
	isErr  error // every error is one; nil: any
}{
	{"preface", func(testing.TB) []byte { return appendPreface(nil, goldenPreface) }, func(b []byte) ([]byte, error) {
		p, err := parsePreface(b)
		return appendPreface(nil, p), err
	}, ErrPreface},
	{"answer", func(testing.TB) []byte { return appendAnswer(nil, goldenAnswer) }, func(b []byte) ([]byte, error) {
		a, err := parseAnswer(b)
		return appendAnswer(nil, a), err
	}, ErrPreface},
	{"greeting", func(testing.TB) []byte { return appendGreeting(nil, goldenGreeting) }, func(b []byte) ([]byte, error) {
		g, err := parseGreeting(b)
		return appendGreeting(nil, g), err
	}, ErrMessage},
	{"vow", func(testing.TB) []byte { return appendFounding(nil, goldenFounding) }, func(b []byte) ([]byte, error) {
		f, err := parseFounding(b)
		return appendFounding(nil, f), err
	}, ErrMessage},
	{"founding file", func(testing.TB) []byte { return appendFoundingFile(nil, goldenFile) }, func(b []byte) ([]byte, error) {
		f, err := parseFoundingFile(b)
		return appendFoundingFile(nil, f), err
	}, nil},
	{"news", func(testing.TB) []byte { return appendNews(nil, goldenNews) }, func(b []byte) ([]byte, error) {
		n, err := parseNews(b)
		return appendNews(nil, n), err
	}, ErrMessage},
	{"entry", func(testing.TB) []byte { return appendEntry(nil, &goldenEntry) }, func(b []byte) ([]byte, error) {
		var l raft.Log
		err := parseEntry(9, b, &l)
		return appendEntry(nil, &l), err
	}, nil},
	{"envelope", func(t testing.TB) []byte {
		b, err := appendEnvelope(nil, goldenDocument(t))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, func(b []byte) ([]byte, error) {
		h, err := parseEnvelope(b)
		if err != nil {
			return nil, err
		}
		return appendEnvelope(nil, h)
	}, ErrEnvelope},
	{"message", func(testing.TB) []byte { return appendMessage(nil, message{Op: opHello, Body: []byte("body")}) }, func(b []byte) ([]byte, error) {
		r := bytes.NewReader(b)
		m, err := readMessage(r, false)
		if err == nil && r.Len() > 0 {
			err = ErrMessage // more than one
		}
		return appendMessage(nil, m), err
	}, nil},
	{"packet", func(testing.TB) []byte {
		id := seq(0x10)
		return append(append([]byte(packetMagic), id[:]...), "ping"...)
	}, func(b []byte) ([]byte, error) {
		payload, mine, ok := parsePacket(b, seq(0x10))
		if !ok || !mine {
			return nil, errors.New("not taken")
		}
		id := seq(0x10)
		return append(append([]byte(packetMagic), id[:]...), payload...), nil
	}, nil},
}

// Whatever is cut short or changed in one byte is refused, or decodes to what
// encodes to the same.
func TestDamage(t *testing.T) {
	for _, d := range decoders {
		whole := d.valid(t)
		again, err := d.decode(whole)
		if err != nil || !bytes.Equal(again, whole) {
			t.Errorf("%s: %v\n %x\n %x", d.name, err, whole, again)
			continue
		}
		for i := range whole {
			cut := whole[:i]
			if again, err := d.decode(cut); err == nil && !bytes.Equal(again, cut) {
				t.Errorf("%s: cut at %d was taken", d.name, i)
			} else if err != nil && d.isErr != nil && !errors.Is(err, d.isErr) {
				t.Errorf("%s: cut at %d: %v", d.name, i, err)
			}
			changed := bytes.Clone(whole)
			changed[i] ^= 0x41
			if again, err := d.decode(changed); err == nil && !bytes.Equal(again, changed) {
				t.Errorf("%s: a change at %d was taken for something else", d.name, i)
			}
		}
	}
}

// What is longer than an operation may be is refused before it is read.
func TestMessageBounds(t *testing.T) {
	for _, tc := range []struct {
		name     string
		header   string
		question bool
		words    string
	}{
		{"a body of 4 GiB", "\x01\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00", true, "at most"},
		{"a question for a document with a body", "\x02\x00\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00", true, "at most 12"},
		{"an unknown operation", "\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", true, "not known"},
		{"an error that asks", "\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", true, "an error"},
		{"an error without an outcome", "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false, "without an outcome"},
		{"an answer to a vow with a body", "\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", false, "at most 0"},
	} {
		_, err := readMessage(strings.NewReader(tc.header+strings.Repeat("x", 20)), tc.question)
		if err == nil || !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func FuzzDecoders(f *testing.F) {
	for i, d := range decoders {
		f.Add(byte(i), d.valid(f))
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		d := decoders[int(which)%len(decoders)]
		again, err := d.decode(b)
		switch {
		case err != nil && d.isErr != nil && !errors.Is(err, d.isErr):
			t.Errorf("%s: %v", d.name, err)
		case err == nil && !bytes.Equal(again, b):
			t.Errorf("%s: %x decodes to what encodes as %x", d.name, b, again)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add(appendMessage(nil, message{Op: opHello, Body: []byte("body")}), true)
	f.Add(appendMessage(nil, message{Op: opPropose, Err: object.Errorf(object.CodeOverload, object.NotDone, "later")}), false)
	f.Fuzz(func(t *testing.T, b []byte, question bool) {
		m, err := readMessage(bytes.NewReader(b), question)
		if err != nil {
			return
		}
		again, err := readMessage(bytes.NewReader(appendMessage(nil, m)), question)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v, then %+v, %v", m, again, err)
		}
	})
}

// Entries of the log that anybody could have written never panic, and what is not
// understood stops the machine rather than being passed over.
func FuzzEntry(f *testing.F) {
	h := goldenDocument(f)
	join, err := commandEntry(agreed.Command{Kind: agreed.Join, Now: 1, Member: agreed.Member{ID: seq(0x90), Name: "n2", Weight: 1, Disks: []agreed.DiskID{seq(0xa0)}, Address: "h:2"}})
	if err != nil {
		f.Fatal(err)
	}
	first, err := documentEntry(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(join)
	f.Add(first)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, at := range []held{{}, h} {
			next, result, err := applyEntry(at, data)
			if err == nil && result.Changed != (next.doc != at.doc) {
				t.Errorf("changed %v, and the document is another one: %v", result.Changed, next.doc != at.doc)
			}
		}
	})
}

func FuzzSplitLine(f *testing.F) {
	f.Add("2026-11-29T01:02:03.004Z [WARN]  raft: text: key=value\n")
	f.Fuzz(func(t *testing.T, line string) { splitLine(line) })
}

func TestSplitLine(t *testing.T) {
	for _, c := range []struct {
		line, text string
		level      slog.Level
	}{
		{"2026-11-29T01:02:03.004Z [WARN]  raft: heartbeat timeout reached: last-leader-id=1\n", "heartbeat timeout reached: last-leader-id=1", slog.LevelInfo},
		{"2026-11-29T01:02:03.004Z [ERROR] raft: failed to take snapshot: error=full\n", "failed to take snapshot: error=full", slog.LevelWarn},
		{"2026-11-29T01:02:03.004Z [ERROR] raft: failed to make requestVote RPC: target=a\n", "failed to make requestVote RPC: target=a", slog.LevelDebug},
		{"2026/11/29 01:02:03 [ERR] memberlist: no room\n", "no room", slog.LevelWarn},
		{"something else", "something else", slog.LevelDebug},
	} {
		if level, text := splitLine(c.line); level != c.level || text != c.text {
			t.Errorf("%q: %v, %q", c.line, level, text)
		}
	}
}
