package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// A node alone is a cluster, and finds it again after a restart.
func TestAlone(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, "a").mustStart()
	if got := n.Document(); len(got.Members) != 1 || got.Members[0].Name != "a" || got.Name != "test" {
		t.Fatalf("the first document is %+v", got)
	}
	n.touch(3)
	sees(t, 3, n)
	cluster, v := n.Document().Cluster, n.Document().Version
	n.stop()
	onDisk, err := os.ReadFile(filepath.Join(n.cfg.Disks[0].Path, "node", "agreed"))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := parseEnvelope(onDisk); err != nil || h.version() != v || h.origin != n.cfg.Node {
		t.Errorf("on disk is version %v of origin %v, %v", h.version(), h.origin, err)
	}
	n.mustStart()
	if got := n.Document(); got.Cluster != cluster || got.Version != v {
		t.Errorf("after a restart the document is %v of %x, it was %v of %x", got.Version, got.Cluster, v, cluster)
	}
	n.touch(4)
	if n.Document().Version.Era != 1 || !v.Before(n.Document().Version) {
		t.Errorf("version %v after %v", n.Document().Version, v)
	}
}

// Three that expect each other found one cluster; one of them is stopped, and the
// others go on; it catches up when it is back.
func TestThree(t *testing.T) {
	t.Parallel()
	nodes := three(t, "a", "b", "c")
	for _, n := range nodes {
		if doc := n.Document(); doc.Cluster != nodes[0].Document().Cluster || len(doc.Members) != 3 {
			t.Fatalf("%s: %d members of cluster %x", n.cfg.Name, len(doc.Members), doc.Cluster)
		}
		servers(t, n, 3, 0)
	}
	for i, n := range nodes {
		n.touch(int64(10 + i))
		sees(t, int64(10+i), nodes...)
	}
	first := leader(t, nodes...)
	first.stop()
	var rest []*testNode
	for _, n := range nodes {
		if n != first {
			rest = append(rest, n)
		}
	}
	rest[0].touch(20)
	rest[1].touch(21)
	sees(t, 21, rest...)
	first.mustStart()
	sees(t, 21, first)
	first.touch(22)
	sees(t, 22, nodes...)
}
