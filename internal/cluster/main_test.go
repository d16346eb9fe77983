package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come: a busy machine takes its
// time.
const patience = 60 * time.Second

// eventually waits until ok returns nil.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// quick is a Timing for tests.
func quick() Timing {
	return Timing{
		Election: 400 * time.Millisecond, Commit: 25 * time.Millisecond, Probe: 200 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond,
		SuspicionMult: 2, Gossip: 30 * time.Millisecond, PushPull: time.Second, Upkeep: 30 * time.Millisecond,
		Rejoin: 200 * time.Millisecond, Ask: 5 * time.Second, Trim: time.Hour,
	}
}

// A testNode is a node whose process can be started and stopped.
type testNode struct {
	t       *testing.T
	cfg     Config
	address string // kept over restarts; empty: any
	mux     *Mux
	*Cluster
}

func newTestNode(t *testing.T, name string) *testNode {
	t.Helper()
	n := &testNode{t: t, cfg: Config{
		Name: name, Cluster: "test", Zone: "", Disks: []Disk{{Path: t.TempDir()}}, Timing: quick(), Log: testLog(t, name),
		Settings: agreed.Settings{SlotSeconds: 10, AheadSeconds: 1, SkewSeconds: 1, LeadSeconds: 1, LatenessSeconds: 1}, Bits: 2,
		DownAfter: time.Hour, ReplaceVoterAfter: time.Hour,
	}}
	t.Cleanup(n.stop)
	return n
}

func testLog(t *testing.T, name string) *slog.Logger {
	if os.Getenv("MAYFLY_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// listen opens the node's port, so that others can be told of it.
func (n *testNode) listen() *testNode {
	n.t.Helper()
	if n.mux != nil {
		return n
	}
	address := n.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	var ln net.Listener
	var packets net.PacketConn
	eventually(n.t, "listen", func() (err error) {
		ln, packets, err = Listen(context.Background(), address)
		return err
	})
	n.mux = NewMux(ln, packets, MuxConfig{})
	n.address, n.cfg.Mux = ln.Addr().String(), n.mux
	return n
}

// start introduces and starts the node.
func (n *testNode) start() error {
	n.listen()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n.startIn(ctx)
}

func (n *testNode) startIn(ctx context.Context) error {
	g, err := Introduce(ctx, n.cfg)
	if err != nil {
		return err
	}
	n.cfg.Node, n.cfg.Bound = g.Node, g.Cluster
	for i, id := range g.Disks {
		n.cfg.Disks[i].ID = id
	}
	n.Cluster, err = Start(ctx, n.cfg)
	return err
}

func (n *testNode) mustStart() *testNode {
	n.t.Helper()
	if err := n.start(); err != nil {
		n.t.Fatalf("%s: %v", n.cfg.Name, err)
	}
	return n
}

// stop ends the node as a clean stop does.
func (n *testNode) stop() {
	if n.Cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			n.t.Errorf("%s: close: %v", n.cfg.Name, err)
		}
		n.Cluster = nil
	}
	if n.mux != nil {
		if err := n.mux.Close(); err != nil {
			n.t.Errorf("%s: close the port: %v", n.cfg.Name, err)
		}
		n.mux, n.cfg.Mux = nil, nil
	}
}

// propose brings a command to agreement; it must succeed.
func (n *testNode) propose(cmd agreed.Command) {
	n.t.Helper()
	cmd.Now = time.Now().Unix()
	eventually(n.t, fmt.Sprintf("%s proposes %v", n.cfg.Name, cmd.Kind), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		result, err := n.Propose(ctx, cmd)
		return errors.Join(err, result.Failure())
	})
}

// touch changes the document in a way that can be seen: the lateness of the
// settings.
func (n *testNode) touch(lateness int64) {
	n.t.Helper()
	n.propose(touch(n.Document(), lateness))
}

func touch(doc *agreed.Document, lateness int64) agreed.Command {
	s := doc.Settings
	s.LatenessSeconds = lateness
	return agreed.Command{Kind: agreed.SetSettings, Now: time.Now().Unix(), Settings: s}
}

// sees waits until all nodes show a lateness.
func sees(t *testing.T, lateness int64, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s sees lateness %d", n.cfg.Name, lateness), func() error {
			if got := n.Document().Settings.LatenessSeconds; got != lateness {
				return fmt.Errorf("its document says %d, version %v", got, n.Document().Version)
			}
			return nil
		})
	}
}

// leader waits until one of the nodes leads.
func leader(t *testing.T, nodes ...*testNode) (found *testNode) {
	t.Helper()
	eventually(t, "a leader", func() error {
		for _, n := range nodes {
			if q := n.era(); q != nil && q.leads() {
				found = n
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// servers waits until a node sees so many voters and followers.
func servers(t *testing.T, n *testNode, voters, followers int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s sees %d voters and %d followers", n.cfg.Name, voters, followers), func() error {
		v, f := 0, 0
		for _, s := range n.Status().Servers {
			if s.Voter {
				v++
			} else {
				f++
			}
		}
		if v != voters || f != followers {
			return fmt.Errorf("%d and %d", v, f)
		}
		return nil
	})
}

// three founds a cluster of three.
func three(t *testing.T, names ...string) []*testNode {
	t.Helper()
	var nodes []*testNode
	for _, name := range names {
		nodes = append(nodes, newTestNode(t, name).listen())
	}
	startTogether(t, nodes)
	return nodes
}

// startTogether starts nodes that expect each other.
func startTogether(t *testing.T, nodes []*testNode) {
	t.Helper()
	var seeds []string
	for _, n := range nodes {
		seeds = append(seeds, n.address)
	}
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		n.cfg.Seeds, n.cfg.Expect = seeds, len(nodes)
		go func() { errs <- n.start() }()
	}
	for range nodes {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	servers(t, nodes[0], len(nodes), 0)
}

// says checks that an error is a sentence with these words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// id makes an id out of a word.
func id(word string) (id [16]byte) {
	sum := sha256.Sum256([]byte(word))
	copy(id[:], sum[:])
	return id
}

func nodeID(word string) ring.NodeID { return id(word) }
