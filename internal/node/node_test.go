package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MAYFLY_TEST_SERVE"); dir != "" {
		serveForTest(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// testConfig is a small node on a directory of its own.
func testConfig(t testing.TB, dir string) Config {
	t.Helper()
	return Config{
		Name: "n1", Cluster: "test", Listen: "127.0.0.1:0", Data: []string{dir}, SlotSeconds: 10, Partitions: 8,
		Log: slog.New(slog.DiscardHandler), Join: Join{tune: lively},
	}
}

func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t testing.TB, n *Node) {
	t.Helper()
	if n.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	n.server = nil
}

// blob makes the record of a blob.
func blob(t testing.TB, epoch int64, chunk uint64, value string) object.Record {
	t.Helper()
	return record(t, bucket.Events, blobKey(epoch, chunk), value)
}

func blobKey(epoch int64, chunk uint64) string {
	return event.Key{Epoch: epoch, DC: "ams", Type: "WEB", Subtype: "app", Chunk: event.Chunk(7, chunk)}.String()
}

func record(t testing.TB, name, key, value string) object.Record {
	t.Helper()
	return stamped(t, time.Now(), name, key, value)
}

// stamped is record for a clock that stands still.
func stamped(t testing.TB, at time.Time, name, key, value string) object.Record {
	t.Helper()
	rec, err := object.Encode(object.Header{
		Kind: object.Value, EventCount: 1, TimestampMicros: at.UnixMicro(), Incarnation: 7,
		Type: []byte(bucket.DefaultType), Bucket: []byte(name), Key: []byte(key), Writer: []byte("agg"),
	}, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Release)
	return rec
}

func get(n *Node, rec object.Record) (string, error) {
	got, err := n.Store().Get(context.Background(), rec.Type, rec.Bucket, rec.Key)
	if err != nil {
		return "", err
	}
	defer got.Release()
	return string(got.Value()), got.Verify()
}

func rowSuffixes(t testing.TB, n *Node, key event.IndexKey) string {
	t.Helper()
	row, certain, err := n.Store().Row(t.Context(), key)
	if err != nil || !certain {
		t.Fatalf("row %v: certain %v, %v", key, certain, err)
	}
	var all []string
	for _, e := range row.Blobs() {
		all = append(all, e.Suffix)
	}
	return strings.Join(all, " ")
}

// TestPutGetRestart: what was acknowledged is there, and in the index, at once
// and after a restart.
func TestPutGetRestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, testConfig(t, dir))
	now := time.Now().Unix()
	one, two := blob(t, now, 0, "one"), blob(t, now, 1, "two")
	plain := record(t, "notes", "any key at all", "three")
	if err := n.Store().Put(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	for i, err := range n.Store().PutBatch(t.Context(), []object.Record{two, plain, one}) {
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			rec  object.Record
			want string
		}{{one, "one"}, {two, "two"}, {plain, "three"}} {
			if got, err := get(n, c.rec); err != nil || got != c.want {
				t.Errorf("get %s: %q, %v", c.rec.Key, got, err)
			}
		}
		if got, want := rowSuffixes(t, n, event.IndexKey{Epoch: now, DC: "ams"}), "WEB:app:0000000000000007-0 WEB:app:0000000000000007-1"; got != want {
			t.Errorf("the row has %q, want %q", got, want)
		}
	}
	check()
	id := n.ID()
	stop(t, n)
	n = start(t, testConfig(t, dir))
	check()
	if n.ID() != id {
		t.Error("the node came back as another one")
	}
	if got := n.Store().dcs.names(); len(got) != 1 || got[0] != "ams" {
		t.Errorf("data centres after the restart: %q", got)
	}
}

func TestRefusals(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	now := time.Now().Unix()
	stored := blob(t, now, 0, "one")
	if err := n.Store().Put(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	badMeta, err := object.Encode(object.Header{Kind: object.Value, TimestampMicros: 1, Type: []byte("default"), Bucket: []byte("notes"), Key: []byte("k"), Metadata: []byte("x")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer badMeta.Release()
	damaged := blob(t, now, 9, "nine")
	damaged.Value()[0] ^= 1
	for _, c := range []struct {
		claim string
		rec   object.Record
		want  object.Code
	}{
		{"other bytes under a write-once key", blob(t, now, 0, "uno"), object.CodeConflict},
		{"an epoch far ahead", blob(t, now+100, 0, "x"), object.CodeTooFarAhead},
		{"an epoch of last month", blob(t, now-30*86400, 0, "x"), object.CodeExpired},
		{"a key that is no blob's", record(t, bucket.Events, "hello", "x"), object.CodeBadRequest},
		{"an object in the index", record(t, bucket.Epochs, fmt.Sprintf("%d:ams", now), "x"), object.CodeBadRequest},
		{"metadata that is not", badMeta, object.CodeBadRequest},
		{"a value damaged on its way", damaged, object.CodeCorrupt},
	} {
		err := n.Store().Put(t.Context(), c.rec)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.claim, err, c.want)
			continue
		}
		if e := object.AsError(err); e.Outcome != object.NotDone {
			t.Errorf("%s: %v, want not done", c.claim, e.Outcome)
		}
	}
	if got, err := get(n, stored); err != nil || got != "one" {
		t.Errorf("what was there is %q, %v", got, err)
	}
	if _, err := get(n, blob(t, now, 77, "")); !errors.Is(err, object.CodeAbsent) {
		t.Errorf("an absent blob: %v", err)
	}
	if _, err := get(n, blob(t, now-30*86400, 0, "")); !errors.Is(err, object.CodeExpired) {
		t.Errorf("an expired blob: %v", err)
	}
	delta, err := object.Encode(object.Header{Kind: object.Delta, TimestampMicros: 1, Type: []byte("default"), Bucket: []byte("epochs"), Key: []byte("1:ams")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer delta.Release()
	if err := n.Store().Put(t.Context(), delta); !errors.Is(err, object.CodeBadRequest) {
		t.Errorf("a delta put as an object: %v", err)
	}
}

// TestErase: an erased blob is gone, stays in the index, marked, and its key
// takes nothing again.
func TestErase(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	now := time.Now().Unix()
	rec := blob(t, now, 0, "one")
	if err := n.Store().Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	stone, err := object.Encode(object.Header{Kind: object.Tombstone, Flags: object.FlagErased, TimestampMicros: time.Now().UnixMicro() + 1, Type: rec.Type, Bucket: rec.Bucket, Key: rec.Key, Writer: rec.Writer, Incarnation: rec.Incarnation}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stone.Release()
	if err := n.Store().Put(t.Context(), stone); err != nil {
		t.Fatal(err)
	}
	if _, err := get(n, rec); !errors.Is(err, object.CodeAbsent) {
		t.Errorf("an erased blob: %v", err)
	}
	if err := n.Store().Put(t.Context(), rec); !errors.Is(err, object.CodeConflict) {
		t.Errorf("putting it again: %v", err)
	}
	row, _, err := n.Store().Row(t.Context(), event.IndexKey{Epoch: now, DC: "ams"})
	if err != nil {
		t.Fatal(err)
	}
	if blobs := row.Blobs(); len(blobs) != 1 || blobs[0].Flags&index.Erased == 0 {
		t.Errorf("the index says %+v", blobs)
	}
}

// TestIndexWords: hello, final and goodbye go into an open row, and nowhere else.
func TestIndexWords(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	now := time.Now().Unix()
	writer := index.Writer{Name: "agg", Incarnation: 7}
	hello := index.Row{Sections: []index.Section{{Writer: writer, Hello: true}}}
	key := event.IndexKey{Epoch: now, DC: "ams"}
	if err := n.Store().AppendIndex(t.Context(), key, hello); err != nil {
		t.Fatal(err)
	}
	row, _, err := n.Store().Row(t.Context(), key)
	if s := row.Section(writer); err != nil || s == nil || !s.Hello {
		t.Errorf("the row has %+v, %v", row, err)
	}
	for _, c := range []struct {
		claim string
		key   event.IndexKey
		row   index.Row
		want  object.Code
	}{
		{"a closed second", event.IndexKey{Epoch: now - 60, DC: "ams"}, hello, object.CodeExpired},
		{"a late list", event.IndexKey{Epoch: now, DC: "ams", Late: true}, hello, object.CodeBadRequest},
		{"nothing to say", key, index.Row{}, object.CodeBadRequest},
		{"entries without blobs", key, entryRow(1), object.CodeBadRequest},
		{"a bad data centre", event.IndexKey{Epoch: now, DC: "a:b"}, hello, object.CodeBadRequest},
	} {
		if err := n.Store().AppendIndex(t.Context(), c.key, c.row); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.claim, err, c.want)
		}
	}
}

// TestLateBlobIsListed: a blob of a second that is closed is taken, stands in
// the late list of the second it came in, marked in its own row, and reaches
// who tails now.
func TestLateBlobIsListed(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	sub, err := n.Store().Subscribe(tail.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	old := time.Now().Unix() - 100
	rec := blob(t, old, 0, "late")
	if err := n.Store().Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	row, _, err := n.Store().Row(t.Context(), event.IndexKey{Epoch: old, DC: "ams"})
	if err != nil || row.Len() != 1 || row.Blobs()[0].Flags != index.Late|index.Listed {
		t.Errorf("its own row has %+v, %v", row.Blobs(), err)
	}
	item := nextBlob(t, sub)
	defer item.Release()
	if string(item.Blob.Record.Value()) != "late" || !item.Blob.Late {
		t.Errorf("the tail got %+v", item.Blob.Key)
	}
}

func nextBlob(t testing.TB, sub *tail.Subscription) tail.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		item, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if item.Kind == tail.KindBlob {
			return item
		}
	}
}

// TestTailGetsWhatIsPut: a live tail gets every blob once, with its bytes.
func TestTailGetsWhatIsPut(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	sub, err := n.Store().Subscribe(tail.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	now := time.Now().Unix()
	const blobs = 200
	var wg sync.WaitGroup
	for i := range blobs {
		rec := blob(t, now, uint64(i), fmt.Sprintf("value %d", i))
		wg.Go(func() {
			if err := n.Store().Put(t.Context(), rec); err != nil {
				t.Error(err)
			}
		})
	}
	got := map[string]bool{}
	for range blobs {
		item := nextBlob(t, sub)
		if err := item.Blob.Record.Verify(); err != nil {
			t.Error(err)
		}
		key := item.Blob.Key.String()
		if got[key] {
			t.Errorf("%s came twice", key)
		}
		got[key] = true
		item.Release()
	}
	wg.Wait()
	if buffers, _ := object.Live(); buffers < 0 {
		t.Error("buffers were released twice")
	}
}

// TestStartRefusals: each mistake gets a sentence, and the node's directory stays
// as it was.
func TestStartRefusals(t *testing.T) {
	dir := t.TempDir()
	n := start(t, testConfig(t, dir))
	used := n.Addr().String()
	fail := func(claim string, want string, change func(*Config)) {
		t.Helper()
		cfg := testConfig(t, dir)
		change(&cfg)
		other, err := Start(t.Context(), cfg)
		if err == nil {
			stop(t, other)
			t.Errorf("%s: it started", claim)
			return
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q does not say %q", claim, err, want)
		}
	}
	fail("a port in use", "another program uses the port", func(c *Config) { c.Data, c.Listen = []string{t.TempDir()}, used })
	fail("a directory in use", "another", func(c *Config) {})
	stop(t, n)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.doc"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := t.TempDir()
	stop(t, start(t, testConfig(t, second)))
	fail("another cluster", "cluster", func(c *Config) { c.Cluster = "other" })
	fail("two nodes' directories", "belongs to node", func(c *Config) { c.Data = []string{dir, second} })
	fail("a directory that is not ours", "", func(c *Config) { c.Data = []string{foreign} })
	fail("a file for a directory", "", func(c *Config) { c.Data = []string{filepath.Join(foreign, "thesis.doc")} })
	fail("an address that is none", "choose an address", func(c *Config) { c.Listen = "nowhere:port" })
	fail("seven partitions", "power of two", func(c *Config) { c.Partitions = 7 })
	fail("no directory", "data directory", func(c *Config) { c.Data = nil })
	fail("no cluster", "name", func(c *Config) { c.Cluster = "" })
	start(t, testConfig(t, dir))
}

// TestMetricsAreWhole: every metric is described, collected and named once.
func TestMetricsAreWhole(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	until(t, "the node has recovered", n.Ready) // or it lists the blob, too
	if err := n.Store().Put(t.Context(), blob(t, time.Now().Unix(), 0, "x")); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(n.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]float64{}
	for _, f := range families {
		if m := f.GetMetric()[0]; m.GetCounter() != nil {
			byName[f.GetName()] = m.GetCounter().GetValue()
		} else if m.GetHistogram() != nil {
			byName[f.GetName()] = float64(m.GetHistogram().GetSampleCount())
		}
	}
	for _, name := range []string{"mayfly_puts_stored_total", "mayfly_index_deltas_total", "mayfly_node_put_seconds", "mayfly_node_delta_seconds"} {
		if byName[name] != 1 {
			t.Errorf("%s is %v, want 1", name, byName[name])
		}
	}
}

// TestClosedDoor: a node that is closed answers nobody.
func TestClosedDoor(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir()))
	addr := n.Addr().String()
	stop(t, n)
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	if err := n.Store().Put(t.Context(), blob(t, time.Now().Unix(), 0, "x")); !errors.Is(err, object.CodeStopping) {
		t.Errorf("a put after the end: %v", err)
	}
}
