package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/event"
)

func TestWrongSends(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.ndjson")
	if err := os.WriteFile(bad, []byte("{\"type\":\"A\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	refuse(t, []badInput{
		{"send --rate fast", 2, `--rate: "fast" is not a number; "mayfly send --help" explains`},
		{"send --rate -1", 2, `a rate of -1 events/s: give 0, for as fast as possible, up to 1,000,000,000`},
		{"send --count some", 2, `--count: "some" is not a whole number; "mayfly send --help" explains`},
		{"send --count -1", 2, `--count -1 is negative; 0 is no bound`},
		{"send --for -1s", 2, `--for: "-1s" is negative; "mayfly send --help" explains`},
		{"send --for long", 2, `--for: "long" is not a duration; write one like "500ms", "1h30m" or "10d"; "mayfly send --help" explains`},
		{"send --encoding xml", 2, `--encoding: encoding "xml" is not known: write msgpack or json`},
		{"send --dc a/b", 2, `dc "a/b": give 1 to 64 of the characters A-Z a-z 0-9 _ . -`},
		{"send --datagram 70000", 2, `datagrams of 70000 bytes: give 1 to 65507, or 0 for 1400`},
		{"send --loop", 2, `--loop replays files again, and none is given; made-up events have no end anyway`},
		{"send --to nowhere", 2, `--to: "nowhere" is not an address; write host:port, as in 127.0.0.1:7071`},
		{"send --to 127.0.0.1:0", 1, `cannot send to "127.0.0.1:0": write host:port, such as 127.0.0.1:7071: there is no port 0`},
		{"send nowhere.ndjson", 1, `no events to replay at "nowhere.ndjson": it does not exist: stat nowhere.ndjson: no such file or directory`},
		{"send " + empty, 1, fmt.Sprintf("no events to replay in %q: it has no file *.ndjson", empty)},
	})
	conn := udpListener(t)
	r := mayfly(t, "send", "--to", conn.LocalAddr().String(), bad)
	if r.status != 1 || !strings.Contains(r.stderr, bad+":1: ") || !strings.Contains(r.stderr, "mend or remove the line") {
		t.Errorf("a bad line: status %d, %s", r.status, r.stderr)
	}
}

func udpListener(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What send says it sent must arrive, in both encodings, made up or replayed.
func TestSend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "e.ndjson")
	if err := os.WriteFile(file, []byte(`{"type":"WEB","subtype":"a","event":{"n":1}}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		events int
	}{
		{[]string{"--count", "7", "--rate", "0"}, 7},
		{[]string{"--count", "7", "--rate", "0", "--encoding", "json", "--dc", "ams"}, 7},
		{[]string{"--rate", "0", file}, 1},
		{[]string{"--rate", "0", "--loop", "--count", "5", file}, 5},
	} {
		conn := udpListener(t)
		args := append([]string{"send", "--json", "--to", conn.LocalAddr().String()}, c.args...)
		r := mayfly(t, args...)
		if want := fmt.Sprintf(`{"events":%d,`, c.events); r.status != 0 || !strings.HasPrefix(r.stdout, want) {
			t.Errorf("%q: status %d, %s%s", c.args, r.status, r.stdout, r.stderr)
		}
		if got := receive(t, conn, c.events); got != c.events {
			t.Errorf("%q: %d events arrive, want %d", c.args, got, c.events)
		}
	}
}

// receive counts events until there are as many as wanted.
func receive(t *testing.T, conn *net.UDPConn, want int) (got int) {
	t.Helper()
	var scratch event.Scratch
	buf := make([]byte, 65536)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for got < want {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := event.ParseDatagram(buf[:n], &scratch, func(event.Envelope) error { got++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestSendToNobody(t *testing.T) {
	conn := udpListener(t)
	to := conn.LocalAddr().String()
	conn.Close() //nolint:errcheck // nobody listens there any more
	r := mayfly(t, "send", "--to", to, "--rate", "0", "--count", "1000")
	if want := "not sent: nobody listens at " + to + "; start \"mayfly aggregate\", or give its address with --to\n"; r.status != 1 || !strings.HasSuffix(r.stderr, want) {
		t.Errorf("status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	if !strings.HasPrefix(r.stdout, "sent ") {
		t.Errorf("no summary: %q", r.stdout)
	}
}
