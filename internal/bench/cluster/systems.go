package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/bench/raw3"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// The names of the systems.
const (
	Mayfly = "mayfly"
	Raw3   = "raw3"
)

// numNodes is how many processes each system has.
const numNodes = 3

// incarnation is that of the benchmark as a writer.
const incarnation = 0x6d61_7966_6c79_0001

// A system is one of those that are compared. open comes after its nodes have
// been started and before worker; close after the workers are closed.
type system interface {
	name() string
	// args returns the command line of the n-th node, apart from the program's
	// name. addrs are those of all nodes.
	args(n int, addrs []string, dir string) []string
	open(addrs []string) error
	worker(n int) worker
	retries() uint64 // made by the client in all
	close()
}

// A worker puts and gets, one blob at a time. What get returns is valid until
// the worker's next call.
type worker interface {
	put(ctx context.Context, key string, value []byte) error
	get(ctx context.Context, key string) ([]byte, error)
	close()
}

// mayfly is the system under test: "mayfly serve", whose nodes found a cluster,
// and the client, one for all workers.
type mayfly struct {
	o      *Options
	client *client.Client
}

func (*mayfly) name() string { return Mayfly }

func nodeName(n int) string { return fmt.Sprint("n", n+1) }

func (m *mayfly) args(n int, addrs []string, dir string) []string {
	return append(append([]string{"serve"}, m.o.Serve...),
		"--name", nodeName(n), "--cluster", "bench", "--join", strings.Join(addrs, ","), "--expect", fmt.Sprint(len(addrs)), "--listen", addrs[n],
		"--data", filepath.Join(dir, nodeName(n)), "--metrics", "127.0.0.1:0", "--log-format", "json", "--log-level", "info")
}

// requestTimeout bounds one put or get, the client's repetitions included.
const requestTimeout = 10 * time.Second

func (m *mayfly) open(addrs []string) (err error) {
	m.client, err = client.New(client.Config{Addrs: addrs, User: "bench", Timeout: requestTimeout})
	return err
}

func (m *mayfly) worker(int) worker { return &mayflyWorker{client: m.client} }

func (m *mayfly) retries() uint64 { return m.client.Stats().Retries }

func (m *mayfly) close() {
	if m.client != nil {
		m.client.Close() //nolint:errcheck // it always succeeds
	}
}

type mayflyWorker struct {
	client *client.Client
	last   object.Record // of the last get
}

func (w *mayflyWorker) put(ctx context.Context, key string, value []byte) error {
	return w.client.Put(ctx, client.Object{
		Bucket: bucket.Events, Key: key, Value: value, EventCount: 1, Writer: "bench", Incarnation: incarnation,
	})
}

func (w *mayflyWorker) get(ctx context.Context, key string) ([]byte, error) {
	w.close()
	rec, err := w.client.Get(ctx, bucket.DefaultType, bucket.Events, key)
	if err != nil {
		return nil, err
	}
	w.last = rec
	return rec.Value(), nil
}

func (w *mayflyWorker) close() {
	w.last.Release()
	w.last = object.Record{}
}

// floor is raw3: its nodes, and a connection for each worker.
type floor struct {
	o     *Options
	addrs []string
}

func (*floor) name() string { return Raw3 }

func (*floor) args(n int, addrs []string, dir string) []string {
	return []string{
		"bench", "raw3-node", "--listen", addrs[n], "--peers", addrs[(n+1)%numNodes] + "," + addrs[(n+2)%numNodes],
		"--data", filepath.Join(dir, nodeName(n)), "--metrics", "127.0.0.1:0",
	}
}

func (f *floor) open(addrs []string) error {
	f.addrs = addrs
	return nil
}

func (f *floor) worker(n int) worker { return floorWorker{raw3.NewClient(f.addrs, n)} }

func (*floor) retries() uint64 { return 0 }

func (*floor) close() {}

type floorWorker struct{ c *raw3.Client }

func (w floorWorker) put(ctx context.Context, key string, value []byte) error {
	return w.c.Put(ctx, key, value)
}
func (w floorWorker) get(ctx context.Context, key string) ([]byte, error) { return w.c.Get(ctx, key) }
func (w floorWorker) close()                                              { w.c.Close() }
