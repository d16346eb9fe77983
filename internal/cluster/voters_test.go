package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/ring"
)

// A view is written as words, one a node: its name, its zone, V (voter), F (follower)
// or - (no server), then what is special of it: "dead" (silent for long), "silent",
// "left" (no member), "anew" (it has another log now).
func view(t *testing.T, self string, words ...string) votersView {
	t.Helper()
	v := votersView{Self: nodeID(self), MaxVoters: 5, MaxServers: 7, ReplaceAfter: time.Minute, Peers: map[ring.NodeID]peerView{}}
	for _, w := range words {
		var name, zone, role, special string
		if n, _ := fmt.Sscan(w, &name, &zone, &role, &special); n < 3 {
			t.Fatalf("%q", w)
		}
		p := peerView{Node: nodeID(name), Zone: zone, Live: true, Alive: true, Log: logID(id("log of " + name))}
		s := server{Node: p.Node, Log: p.Log, Voter: role == "V"}
		switch special {
		case "dead":
			p.Alive, p.Silent = false, time.Hour
		case "silent":
			p.Alive, p.Silent = false, time.Second
		case "left":
			p.Live = false
		case "anew":
			p.Log = logID(id("new log of " + name))
		}
		v.Peers[p.Node] = p
		if role != "-" {
			v.Servers = append(v.Servers, s)
		}
	}
	return v
}

func TestVoterSteps(t *testing.T) {
	for _, tc := range []struct {
		name  string
		nodes []string
		want  string
	}{
		{"one node alone is enough", []string{"a z V"}, "none"},
		{"a member that is there becomes a server", []string{"a z V", "b z -"}, "add b"},
		{"one that is silent does not", []string{"a z V", "b z - silent"}, "none"},
		{"two nodes have one voter: two could bear no failure either", []string{"a z V", "b z F"}, "none"},
		{"three nodes have three", []string{"a z V", "b y F", "c x F"}, "promote b or c"},
		{"one after the other", []string{"a z V", "b y V", "c x F"}, "promote c"},
		{"there are only so many servers", []string{"a z V", "b y V", "c x V", "d w V", "e w V", "f w F", "g w F", "h w -"}, "none"},
		{"four nodes have three", []string{"a z V", "b y V", "c x V", "d w F"}, "none"},
		{"five have five", []string{"a z V", "b y V", "c x V", "d w F", "e w F"}, "promote d or e"},
		{"six have five", []string{"a z V", "b y V", "c x V", "d w V", "e w V", "f w F"}, "none"},
		{"a zone without a voter comes first", []string{"a z V", "b z F", "c y F"}, "promote c"},
		{"a dead voter's zone has none", []string{"a z V", "b y V dead", "c z F", "d y F"}, "promote d"},
		{"a dead voter makes room when there is another", []string{"a z V", "b y V", "c x V dead", "d w F"}, "promote d"},
		{"and goes then", []string{"a z V", "b y V", "c x V dead", "d w V"}, "demote c"},
		{"without another it stays", []string{"a z V", "b y V", "c x V dead"}, "none"},
		{"a silent one stays for a while", []string{"a z V", "b y V", "c x V silent", "d w F"}, "none"},
		{"voters spread to zones that have none", []string{"a z V", "b z V", "c y V", "d x F"}, "promote d"},
		{"and leave the crowded one", []string{"a z V", "b z V", "c y V", "d x V"}, "demote b"},
		{"but not while one of them is away", []string{"a z V", "b z V", "c y V silent", "d x F"}, "none"},
		{"who has left is no server", []string{"a z V", "b y V", "c x V left"}, "remove c"},
		{"who has lost its log is not the server it was", []string{"a z V", "b y V", "c x V anew"}, "remove c"},
		{"a leader that has left hands over", []string{"a z V left", "b y V", "c x V"}, "hand over"},
		{"and leads on if there is nobody", []string{"a z V left", "b y F silent"}, "none"},
		{"a follower does not lead", []string{"a z V left", "b y F"}, "none"},
	} {
		got := view(t, "a", tc.nodes...).next()
		what := got.Kind.String()
		if got.Kind != stepNone && got.Kind != stepHandOver {
			names := []string{}
			for _, w := range tc.nodes {
				if nodeID(w[:1]) == got.Server.Node {
					names = append(names, w[:1])
				}
			}
			what += " " + names[0]
		}
		if what != tc.want && !slices.Contains(either(tc.want), what) {
			t.Errorf("%s: %s, want %s", tc.name, what, tc.want)
		}
	}
}

// either reads "promote b or c".
func either(want string) []string {
	var verb, b, or, c string
	if n, _ := fmt.Sscan(want, &verb, &b, &or, &c); n != 4 {
		return nil
	}
	return []string{verb + " " + b, verb + " " + c}
}

// apply performs a step as Raft does.
func (v *votersView) apply(s serverStep) {
	i := slices.IndexFunc(v.Servers, func(x server) bool { return x.Log == s.Server.Log })
	switch s.Kind {
	case stepAdd:
		v.Servers = append(v.Servers, s.Server)
	case stepPromote, stepDemote:
		v.Servers[i].Voter = s.Kind == stepPromote
	case stepRemove:
		v.Servers = slices.Delete(v.Servers, i, i+1)
	}
}

// Whatever the nodes are, the steps come to an end; and then as many vote as should,
// nobody votes that is gone while another could, and zones are as even as they can.
func TestVoterStepsEnd(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		words := []string{fmt.Sprintf("n0 z%d V", r.IntN(3))}
		for i := 1; i <= r.IntN(9); i++ {
			special := []string{"", "", "", "", "dead", "silent", "left", "anew"}[r.IntN(8)]
			words = append(words, fmt.Sprintf("n%d z%d %c %s", i, r.IntN(4), "VF-"[r.IntN(3)], special))
		}
		v := view(t, "n0", words...)
		steps := 0
		for ; steps < 60; steps++ {
			s := v.next()
			if s.Kind == stepNone {
				break
			}
			v.apply(s)
		}
		if steps == 60 {
			t.Fatalf("seed %d: %q: the steps do not end", seed, words)
		}
		dead, spare := 0, 0
		for _, s := range v.Servers {
			if s.Voter && v.gone(s) {
				dead++
			}
			if !s.Voter && v.Peers[s.Node].Alive {
				spare++
			}
		}
		if n := v.voters(); n > v.wanted() || n < v.wanted() && spare > 0 || dead > 0 && spare > 0 {
			t.Fatalf("seed %d: %q: %d voters of %d wanted, %d of them dead, and %d to spare", seed, words, n, v.wanted(), dead, spare)
		}
	}
}
