package cluster

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Connections that are handed on are bounded: who has said nothing for longest makes
// room, and whoever has it sees the end of it.
func TestConnsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var crowded atomic.Uint64
		set := newConns(3, 0, &crowded)
		var owned, there []net.Conn
		add := func() error {
			a, b := net.Pipe()
			there = append(there, b)
			o, err := set.add(a)
			if err == nil {
				owned = append(owned, o)
			}
			time.Sleep(time.Second)
			return err
		}
		ended := func(i int) bool {
			_ = owned[i].SetReadDeadline(time.Now())
			_, err := owned[i].Read(make([]byte, 1))
			_ = owned[i].SetReadDeadline(time.Time{})
			return !isTimeout(err)
		}
		for range 3 {
			if err := add(); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = there[0].Write([]byte("x")) }() // the first is not idle
		if _, err := io.ReadFull(owned[0], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := add(); err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{false, true, false, false} {
			if ended(i) != want {
				t.Errorf("connection %d has ended: %v", i, !want)
			}
		}
		if err := errors.Join(add(), add()); err != nil { // nobody closes those that had to go
			t.Fatal(err)
		}
		if err := add(); !errors.Is(err, errCrowded) {
			t.Errorf("the seventh: %v", err)
		}
		if n := crowded.Load(); n != 4 {
			t.Errorf("%d were counted, want 4", n)
		}
		for _, o := range owned {
			_ = o.Close()
		}
		if err := add(); err != nil || set.count() != 1 {
			t.Errorf("after all were closed: %v, %d are open", err, set.count())
		}
		_ = owned[len(owned)-1].Close()
		for _, nc := range there {
			_ = nc.Close()
		}
	})
}

// What is read and not answered is bounded, over all connections; a little of each is
// always read.
func TestConnsHearSoMuch(t *testing.T) {
	var crowded atomic.Uint64
	set := newConns(9, 3*littleHeard, &crowded)
	open := func() (*ownedConn, net.Conn) {
		a, b := net.Pipe()
		o, err := set.add(a)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(o.Close(), b.Close()) })
		return o, b
	}
	hear := func(o *ownedConn, from net.Conn, bytes int) error {
		go func() { _, _ = from.Write(make([]byte, bytes)) }()
		_, err := io.ReadFull(o, make([]byte, bytes))
		return err
	}
	long, longFrom := open()
	if err := hear(long, longFrom, 3*littleHeard); err != nil {
		t.Fatal(err)
	}
	short, shortFrom := open()
	if err := hear(short, shortFrom, littleHeard); err != nil {
		t.Errorf("a little: %v", err)
	}
	if err := hear(short, shortFrom, 1); !errors.Is(err, errCrowded) {
		t.Errorf("more than a little: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, longFrom) }()
	if _, err := long.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	again, againFrom := open()
	if err := hear(again, againFrom, 2*littleHeard-1); err != nil {
		t.Errorf("after an answer: %v", err)
	}
	if err := errors.Join(long.Close(), short.Close(), again.Close()); err != nil {
		t.Fatal(err)
	}
	if n := set.unanswered.Load(); n != 0 || crowded.Load() != 1 {
		t.Errorf("%d bytes are left, %d were counted", n, crowded.Load())
	}
}
