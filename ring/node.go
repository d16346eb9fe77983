package ring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a ring holds.
const (
	MaxNodes     = 4096
	MaxN         = 16  // owners of a partition
	MaxNameBytes = 255 // of a node's name and of a zone's
)

// ErrNode is wrapped by every error about a node's id, name, zone or weight.
var ErrNode = errors.New("not a node")

// A NodeID identifies a member for as long as it lives: random, made once, kept
// on all its disks. The zero NodeID is nobody's.
type NodeID [16]byte

// ParseNodeID parses 32 lower hexadecimal digits. Errors wrap ErrNode.
func ParseNodeID(text string) (NodeID, error) {
	var id NodeID
	return id, id.UnmarshalText([]byte(text))
}

// String returns the id as 32 lower hexadecimal digits.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String returns.
func (id NodeID) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, id[:]), nil
}

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (id *NodeID) UnmarshalText(text []byte) error {
	var parsed NodeID
	if len(text) != 2*len(parsed) || !bytes.Equal(text, bytes.ToLower(text)) {
		return fmt.Errorf("node id %.40q: want 32 lower hexadecimal digits: %w", text, ErrNode)
	}
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return fmt.Errorf("node id %.40q: want 32 lower hexadecimal digits: %w", text, ErrNode)
	}
	*id = parsed
	return nil
}

// IsZero reports whether the id is the one that is nobody's.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// Compare orders ids by their bytes.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id[:], other[:]) }

// A Node is a member as a ring sees it.
type Node struct {
	ID     NodeID
	Name   string // for people; 1..MaxNameBytes
	Zone   string // what may fail together; "" is a zone like any other
	Weight uint32 // capacity in any unit, the same for all nodes; at least 1
}

// Validate says what is wrong with the node, all of it. Errors wrap ErrNode.
func (n Node) Validate() error {
	var faults []error
	if n.ID.IsZero() {
		faults = append(faults, fmt.Errorf("id is all zeroes: %w", ErrNode))
	}
	if n.Name == "" {
		faults = append(faults, fmt.Errorf("name is empty: %w", ErrNode))
	}
	if !plain(n.Name) {
		faults = append(faults, fmt.Errorf("name %.40q: want at most %d bytes of UTF-8 without control characters: %w", n.Name, MaxNameBytes, ErrNode))
	}
	if !plain(n.Zone) {
		faults = append(faults, fmt.Errorf("zone %.40q: want at most %d bytes of UTF-8 without control characters: %w", n.Zone, MaxNameBytes, ErrNode))
	}
	if n.Weight == 0 {
		faults = append(faults, fmt.Errorf("weight is 0, want at least 1: %w", ErrNode))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("node %v: %w", n.ID, err)
	}
	return nil
}

// indexOf returns where in nodes each id is.
func indexOf(nodes []Node) map[NodeID]int {
	index := make(map[NodeID]int, len(nodes))
	for i, node := range nodes {
		index[node.ID] = i
	}
	return index
}

// plain reports whether s fits its field and is text without control characters.
func plain(s string) bool {
	if len(s) > MaxNameBytes || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
