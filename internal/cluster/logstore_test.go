package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func openTestLog(t *testing.T, path string) *logStore {
	t.Helper()
	s, err := openLogStore(path, logID(id("log")), id("disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func entry(index uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: index / 2, Type: raft.LogCommand, Data: []byte(data), AppendedAt: time.Unix(int64(index), 0).UTC()}
}

func TestLogStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openTestLog(t, path)
	edges := func(first, last uint64) {
		t.Helper()
		f, err1 := s.FirstIndex()
		l, err2 := s.LastIndex()
		if err := errors.Join(err1, err2); err != nil || f != first || l != last {
			t.Errorf("from %d to %d, %v; want %d to %d", f, l, err, first, last)
		}
	}
	edges(0, 0)
	if err := s.GetLog(1, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Errorf("a term that is not there: %v; Raft wants to hear \"not found\"", err)
	}
	all := []*raft.Log{entry(1, "one"), entry(2, ""), entry(300, "three"), entry(301, strings.Repeat("x", 100_000))}
	if err := errors.Join(s.StoreLogs(all), s.StoreLog(entry(302, "last")), s.SetUint64([]byte("CurrentTerm"), 9), s.Set([]byte("LastVoteCand"), []byte("a/b"))); err != nil {
		t.Fatal(err)
	}
	edges(1, 302)
	if err := s.DeleteRange(2, 300); err != nil {
		t.Fatal(err)
	}
	first := s.id
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := openLogStore(path, logID(id("another")), id("another disk")); err != nil || s.id != first || s.disk != id("disk") {
		t.Fatalf("opened again it is log %v on disk %x, %v; want %v", s.id, s.disk, err, first)
	} else if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTestLog(t, path)
	edges(1, 302)
	for _, want := range []*raft.Log{all[0], all[3], entry(302, "last")} {
		var got raft.Log
		if err := s.GetLog(want.Index, &got); err != nil || !reflect.DeepEqual(&got, want) {
			t.Errorf("entry %d: %+v, %v", want.Index, got, err)
		}
	}
	if err := s.GetLog(2, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Errorf("a deleted entry: %v", err)
	}
	term, err1 := s.GetUint64([]byte("CurrentTerm"))
	vote, err2 := s.Get([]byte("LastVoteCand"))
	if err := errors.Join(err1, err2); err != nil || term != 9 || string(vote) != "a/b" {
		t.Errorf("term %d, vote %q, %v", term, vote, err)
	}
}

// A log in use, a damaged one, and one that is closed are told in sentences.
func TestLogStoreRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openTestLog(t, path)
	_, err := openLogStore(path, logID{}, id("disk"))
	says(t, err, path, "in use by another process", "stop")
	if !errors.Is(err, errInUse) {
		t.Errorf("%v is no errInUse", err)
	}
	if err := s.Set([]byte("vote"), []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetUint64([]byte("vote"))
	says(t, err, path, "3 bytes")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	says(t, s.StoreLog(entry(1, "x")), path, "not open")
	_, err = s.LastIndex()
	says(t, err, path, "not open")
}

// A term is never refused, for Raft would end the process: a closed store forgets
// it, and can store no vote in it.
func TestTermAfterClose(t *testing.T) {
	s := openTestLog(t, filepath.Join(t.TempDir(), "log.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte(currentTerm), 5); err != nil {
		t.Errorf("a term: %v", err)
	}
	if err := s.SetUint64([]byte("LastVoteTerm"), 5); err == nil {
		t.Error("a vote was stored in a closed log")
	}
	if raftKey := "CurrentTerm"; raftKey != currentTerm {
		t.Errorf("Raft keeps its term as %q", raftKey)
	}
}

// A process that is killed loses nothing that was stored: the file as it is after
// each store is opened as another process would. Damage anywhere is an error or
// seen by the CRC, and never a panic.
func TestLogStoreCrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log.db")
	s := openTestLog(t, path)
	var stored []*raft.Log
	for i := uint64(1); i <= 10; i++ {
		e := entry(i, strings.Repeat("payload", int(i)))
		if err := s.StoreLog(e); err != nil {
			t.Fatal(err)
		}
		stored = append(stored, e)
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, filepath.Join(dir, "copy.db"), image, stored)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(image); at += 499 {
		damaged := append([]byte(nil), image...)
		damaged[at] ^= 0xff
		readDamaged(t, filepath.Join(dir, "damaged.db"), damaged, stored)
	}
	for size := 0; size < len(image); size += 4093 {
		readDamaged(t, filepath.Join(dir, "damaged.db"), image[:size], stored)
	}
}

func checkImage(t *testing.T, path string, image []byte, want []*raft.Log) {
	t.Helper()
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openLogStore(path, logID{}, id("disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, w := range want {
		var got raft.Log
		if err := s.GetLog(w.Index, &got); err != nil || !reflect.DeepEqual(&got, w) {
			t.Fatalf("after %d stores entry %d is %+v, %v", len(want), w.Index, got, err)
		}
	}
}

func readDamaged(t *testing.T, path string, image []byte, want []*raft.Log) {
	t.Helper()
	_ = os.Remove(path) // a file whose opening failed half way stays locked by this process
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openLogStore(path, logID{}, id("disk"))
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name the file", err)
		}
		return
	}
	defer s.Close()
	for _, w := range want {
		var got raft.Log
		if err := s.GetLog(w.Index, &got); err == nil && !reflect.DeepEqual(&got, w) {
			t.Fatalf("damage went unseen: entry %d is %+v", w.Index, got)
		}
	}
	_, _ = s.FirstIndex()
	_, _ = s.LastIndex()
	_ = s.DeleteRange(1, 5)
}
