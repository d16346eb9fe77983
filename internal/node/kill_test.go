package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

// serveForTest runs a node in a process of its own: it prints its address and
// serves until its standard input ends, or it is killed.
func serveForTest(dir string) {
	n, err := Start(context.Background(), Config{
		Name: "victim", Cluster: "test", Listen: "127.0.0.1:0", Data: []string{dir}, SlotSeconds: 2, SealAfterSeconds: 1, UpkeepInterval: 20 * time.Millisecond, Partitions: 8,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(n.Addr())
	io.Copy(io.Discard, os.Stdin)
	if err := n.Close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A victim is a node in a process that can be killed.
type victim struct {
	cmd   *exec.Cmd
	stdin io.Closer
	conn  *wire.Conn
}

func startVictim(t testing.TB, dir string) *victim {
	t.Helper()
	v := &victim{cmd: exec.Command(os.Args[0])}
	v.cmd.Env = append(os.Environ(), "MAYFLY_TEST_SERVE="+dir)
	var said strings.Builder
	v.cmd.Stderr = &said
	stdin, err := v.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.stdin = stdin
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		v.cmd.Wait()
		t.Fatalf("the node did not start: %s", said.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if v.conn, err = wire.Dial(ctx, strings.TrimSpace(addr), wire.Config{}); err != nil {
		t.Fatal(err)
	}
	return v
}

// kill ends the process with SIGKILL.
func (v *victim) kill() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
	v.conn.Close()
}

// leave ends the process in order.
func (v *victim) leave(t testing.TB) {
	v.conn.Close()
	v.stdin.Close()
	if err := v.cmd.Wait(); err != nil {
		t.Errorf("the node did not end in order: %v", err)
	}
}

func (v *victim) put(ctx context.Context, rec *object.Record) error {
	reply, err := v.conn.Call(ctx, &wire.Call{Op: proto.OpPut, Class: wire.Ingest, Body: []wire.Piece{{Bytes: rec.Raw(), Buf: rec.Buf}}})
	reply.Release()
	return err
}

// value returns what is stored under a blob's key.
func (v *victim) value(ctx context.Context, key string) (string, error) {
	name := proto.Name{Type: []byte("default"), Bucket: []byte("events"), Key: []byte(key)}
	reply, err := v.conn.Call(ctx, &wire.Call{Op: proto.OpGet, Class: wire.Get, Meta: proto.AppendName(nil, name)})
	if err != nil {
		return "", err
	}
	defer reply.Release()
	rec, err := object.ParseRecord(reply.Body)
	if err != nil {
		return "", err
	}
	return string(rec.Value()), rec.Verify()
}

func (v *victim) row(ctx context.Context, key event.IndexKey) (index.Row, error) {
	reply, err := v.conn.Call(ctx, &wire.Call{Op: proto.OpRow, Class: wire.Get, Meta: key.AppendTo(nil)})
	if err != nil {
		return index.Row{}, err
	}
	defer reply.Release()
	return index.ParseRow(reply.Body)
}

// TestKilledInMidStream kills the node again and again while four writers put
// and its slots are sealed. Whatever was acknowledged must be there, with its
// bytes, and in the index. MAYFLY_TEST_KILLS sets how often.
func TestKilledInMidStream(t *testing.T) {
	kills := 10
	if s := os.Getenv("MAYFLY_TEST_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	acked := map[string]string{}
	var mu sync.Mutex
	next := uint64(0)
	for range kills {
		v := startVictim(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		target, enough := 1+rand.IntN(300), make(chan struct{}) // the moment of the kill is what varies
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					mu.Lock()
					next++
					chunk := next
					mu.Unlock()
					value := strings.Repeat(fmt.Sprint("value ", chunk, " "), 1+rand.IntN(2000))
					rec := blob(t, time.Now().Unix(), chunk, value)
					if err := v.put(ctx, &rec); err != nil {
						return
					}
					mu.Lock()
					acked[string(rec.Key)] = value
					if target--; target == 0 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		v.kill()
		cancel()
		wg.Wait()
	}
	v := startVictim(t, dir)
	checkAcked(t, v, acked)
	v.leave(t)
	checkClean(t, dir)
	t.Logf("%d kills, %d acknowledged puts of %d", kills, len(acked), next)
	if len(acked) < 10*kills {
		t.Errorf("only %d acknowledged puts: the test does not try it", len(acked))
	}
}

func checkAcked(t *testing.T, v *victim, acked map[string]string) {
	t.Helper()
	rows := map[event.IndexKey]map[string]bool{}
	missing := 0
	for text, want := range acked {
		got, err := v.value(t.Context(), text)
		if err != nil || got != want {
			if missing++; missing < 10 {
				t.Errorf("%s was acknowledged: %d bytes, %v", text, len(got), err)
			}
		}
		key, err := event.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if rows[key.Index()] == nil {
			row, err := v.row(t.Context(), key.Index())
			if err != nil {
				t.Fatal(err)
			}
			rows[key.Index()] = map[string]bool{}
			for _, e := range row.Blobs() {
				rows[key.Index()][e.Suffix] = true
			}
		}
		if !rows[key.Index()][key.Suffix()] {
			if missing++; missing < 10 {
				t.Errorf("%s was acknowledged and is not in the index", text)
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d faults in %d acknowledged puts", missing, len(acked))
	}
}

// checkClean verifies every promise of the format in a stopped node's directory.
func checkClean(t *testing.T, dir string) {
	t.Helper()
	d, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	totals, err := bitcask.Check(d, bitcask.CheckOptions{Hash: ring.Hash[[]byte, []byte], BootID: vfs.BootID()}, func(f bitcask.Finding) bool {
		t.Errorf("check: %+v", f)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("checked: %+v", totals)
}

// TestVictimEndsInOrder: the process the tests kill can also end by itself, and
// its directory is then clean.
func TestVictimEndsInOrder(t *testing.T) {
	dir := t.TempDir()
	v := startVictim(t, dir)
	rec := blob(t, time.Now().Unix(), 1, "x")
	if err := v.put(t.Context(), &rec); err != nil {
		t.Fatal(err)
	}
	if _, err := v.value(t.Context(), strings.Replace(string(rec.Key), "-1", "-2", 1)); !errors.Is(err, object.CodeAbsent) {
		t.Errorf("a blob that was never put: %v", err)
	}
	v.leave(t)
	checkClean(t, dir)
}
