package ring

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestNodeID(t *testing.T) {
	const text = "f00102030405060708090a0b0c0d0eff"
	id, err := ParseNodeID(text)
	if err != nil || id[0] != 0xf0 || id[15] != 0xff || id.String() != text {
		t.Fatalf("ParseNodeID(%q) = %v, %v", text, id, err)
	}
	b, err := json.Marshal(map[NodeID]NodeID{id: id})
	if err != nil || string(b) != `{"`+text+`":"`+text+`"}` {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	if id.IsZero() || !(NodeID{}).IsZero() {
		t.Error("IsZero")
	}
	if (NodeID{1}).Compare(NodeID{2}) != -1 || id.Compare(id) != 0 {
		t.Error("Compare")
	}
}

func TestParseNodeIDRefuses(t *testing.T) {
	good := strings.Repeat("ab", 16)
	for _, text := range []string{"", "00", good[:31], good + "0", good + "00", strings.ToUpper(good), " " + good[1:], good[:31] + "g", strings.Repeat("\u0660", 16)} {
		if id, err := ParseNodeID(text); !errors.Is(err, ErrNode) || !id.IsZero() {
			t.Errorf("ParseNodeID(%q) = %v, %v", text, id, err)
		}
	}
	id := NodeID{7}
	if id.UnmarshalText([]byte("no")) == nil || id != (NodeID{7}) {
		t.Error("a refused text changed the id")
	}
}

func TestNodeValidate(t *testing.T) {
	good := testNode(1, "zone", 1)
	change := func(f func(*Node)) Node {
		n := good
		f(&n)
		return n
	}
	for _, c := range []struct {
		name string
		node Node
		say  []string // all of them; none: valid
	}{
		{"a node", good, nil},
		{"no zone", change(func(n *Node) { n.Zone = "" }), nil},
		{"the longest names", change(func(n *Node) { n.Name, n.Zone = strings.Repeat("n", 255), strings.Repeat("z", 255) }), nil},
		{"a name in another script", change(func(n *Node) { n.Name = "узел" }), nil},
		{"no name", change(func(n *Node) { n.Name = "" }), []string{"name is empty"}},
		{"a name too long", change(func(n *Node) { n.Name = strings.Repeat("n", 256) }), []string{"at most 255 bytes"}},
		{"a line break", change(func(n *Node) { n.Name = "a\nb" }), []string{`name "a\nb"`}},
		{"no UTF-8", change(func(n *Node) { n.Zone = "\xff" }), []string{"zone"}},
		{"everything", Node{Zone: "\x7f"}, []string{"all zeroes", "name is empty", "zone", "weight is 0"}},
	} {
		err := c.node.Validate()
		if (err == nil) != (c.say == nil) || err != nil && !errors.Is(err, ErrNode) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, say := range c.say {
			if !strings.Contains(err.Error(), say) {
				t.Errorf("%s: %q does not say %q", c.name, err, say)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	ordered := []Version{{}, {0, 1}, {0, 1 << 63}, {1, 0}, {1, 7}, {2, 0}}
	for i, v := range ordered {
		for j, w := range ordered {
			if v.Before(w) != (i < j) || (v.Compare(w) == 0) != (i == j) {
				t.Errorf("%v and %v: compare = %d", v, w, v.Compare(w))
			}
		}
	}
	if s := (Version{1, 42}).String(); s != "1.42" {
		t.Errorf("named %q", s)
	}
}
