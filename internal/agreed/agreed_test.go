package agreed

import (
	"fmt"
	"testing"

	"github.com/mayflydb/mayfly/ring"
)

// testMember returns the i-th member: "n<i>" in a zone, with one disk.
func testMember(i int, zone string) Member {
	return Member{ID: ring.NodeID{byte(i + 1)}, Name: fmt.Sprint("n", i), Zone: zone, Weight: 1,
		Disks: []DiskID{{byte(i + 1), 1}}, Address: fmt.Sprintf("10.0.0.%d:7000", i)}
}

func testFounding(n int) Founding {
	f := Founding{Cluster: ClusterID{9}, Name: "test", Settings: DefaultSettings(), Bits: 3}
	for i := range n {
		f.Members = append(f.Members, testMember(i, string(rune('a'+i%3))))
	}
	return f
}

func mustFound(t testing.TB, n int) *Document {
	d, err := Found(testFounding(n))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFoundTogether(t *testing.T) {
	d := mustFound(t, 3)
	if d.Version != (ring.Version{Era: 1, Index: 1}) || d.History.Version() != d.Version || d.History.Newest().N() != 3 {
		t.Errorf("version %v, history %v, %d owners", d.Version, d.History.Version(), d.History.Newest().N())
	}
	next, r := d.Apply(Command{Kind: Join, Now: 1000, Member: testMember(3, "a")})
	if r.Err != nil || len(next.Staged) != 1 || next.Version.Index != 2 || len(d.Members) != 3 {
		t.Errorf("join: %+v, staged %v", r, next.Staged)
	}
}
