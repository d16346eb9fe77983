package agreed

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A world is a document, the nodes there are, and what they really hold. Slots
// are 10 seconds, events live for 12 of them.
type world struct {
	d      *Document
	now    int64
	made   int                              // nodes made so far
	timed  map[int64][]map[ring.NodeID]bool // who holds all of a slot's partition
	plain  []map[ring.NodeID]bool
	claims []Command // Completed, true when they were made
	gates  map[ring.NodeID]*Gate
	lossy  bool // loss was accepted
}

const (
	walkBits = 2
	walkSlot = 10
	walkTTL  = 12 * walkSlot
)

func newWorld(t fataler, founders int) *world {
	f := Founding{Cluster: ClusterID{9}, Name: "walk", Bits: walkBits,
		Settings: Settings{SlotSeconds: walkSlot, AheadSeconds: 2, SkewSeconds: 1, LeadSeconds: 3, LatenessSeconds: 1}}
	buckets, err := bucket.DefaultSet().Declare(bucket.Declaration{Name: bucket.Events, TTLSeconds: new(int64(walkTTL))})
	if err != nil {
		t.Fatal(err)
	}
	f.Buckets = buckets
	w := &world{now: 100_000, timed: map[int64][]map[ring.NodeID]bool{}, gates: map[ring.NodeID]*Gate{}}
	for range founders {
		f.Members = append(f.Members, w.make())
	}
	if w.d, err = Found(f); err != nil {
		t.Fatal(err)
	}
	for prefix := range uint32(1 << walkBits) {
		w.plain = append(w.plain, set(w.d.History.Newest().Owners(ring.Partition{Bits: walkBits, Prefix: prefix})))
	}
	w.write()
	return w
}

// make makes a node that never was.
func (w *world) make() Member {
	m := testMember(w.made, string(rune('a'+w.made%3)))
	w.made++
	w.gates[m.ID] = NewGate(walkSlot, ring.Promise{}, ring.NoEpoch)
	return m
}

func set(ids []ring.NodeID) map[ring.NodeID]bool {
	s := map[ring.NodeID]bool{}
	for _, id := range ids {
		s[id] = true
	}
	return s
}

func (w *world) slot() int64 { return w.d.History.SlotOf(w.now) }

// write writes the open slot: its owners have it.
func (w *world) write() {
	slot := w.slot()
	r := w.d.History.At(slot)
	if w.timed[slot] == nil {
		w.timed[slot] = make([]map[ring.NodeID]bool, 1<<walkBits)
	}
	for p := range r.Partitions() {
		if w.timed[slot][p.Prefix] == nil {
			w.timed[slot][p.Prefix] = set(r.Owners(p))
		}
	}
}

// apply applies a command, and checks what must hold of any.
func (w *world) apply(t *rapid.T, c Command) Result {
	c.Now = w.now
	encoded, err := c.MarshalBinary()
	if err != nil {
		t.Fatalf("%v: %v", c.Kind, err)
	}
	same, err := UnmarshalCommand(encoded)
	if err != nil {
		t.Fatalf("%v: %v", c.Kind, err)
	}
	before := w.bytes(t, w.d)
	copied, err := UnmarshalDocument(before)
	if err != nil {
		t.Fatal(err)
	}
	next, result := w.d.Apply(c)
	other, otherResult := copied.Apply(same)
	if !bytes.Equal(before, w.bytes(t, w.d)) {
		t.Fatalf("%v wrote through to the document before", c.Kind)
	}
	after := w.bytes(t, next)
	if !bytes.Equal(after, w.bytes(t, other)) {
		t.Fatalf("%v gives another document where it was decoded", c.Kind)
	}
	if a, b := w.resultBytes(t, result), w.resultBytes(t, otherResult); !bytes.Equal(a, b) {
		t.Fatalf("%v gives another result where it was decoded:\n%+v\n%+v", c.Kind, result, otherResult)
	}
	if result.Err != nil && (result.Err.Outcome != object.NotDone || result.Changed) {
		t.Fatalf("%v was refused, and done: %+v", c.Kind, result)
	}
	if result.Changed != (next != w.d) || result.Changed == bytes.Equal(before, after) || result.Version != next.Version {
		t.Fatalf("%v: changed %v: %+v", c.Kind, result.Changed, result)
	}
	if want := w.d.Version.Index + 1; result.Changed && next.Version.Index != want {
		t.Fatalf("%v: version %v, want index %d", c.Kind, next.Version, want)
	}
	if next.Trimmed < w.d.Trimmed || next.Moved.Before(w.d.Moved) || next.Change.Round < w.d.Change.Round || next.History.Version().Before(w.d.History.Version()) {
		t.Fatalf("%v went back: %+v after %+v", c.Kind, next, w.d)
	}
	w.d = next
	return result
}

func (w *world) bytes(t *rapid.T, d *Document) []byte {
	b, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) resultBytes(t *rapid.T, r Result) []byte {
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnmarshalResult(b)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	if fmt.Sprint(again.Err) != fmt.Sprint(r.Err) || (again.loss() == nil) != (r.loss() == nil) {
		t.Fatalf("decoded %+v, was %+v", again, r)
	}
	return b
}

// oldest returns the first slot that holds something.
func (w *world) oldest() int64 { return w.d.History.SlotOf(w.now - walkTTL) }

// check demands the invariants, and of all data that owners that are no
// newcomers hold it, and somebody who holds it is asked.
func (w *world) check(t *rapid.T) {
	if err := w.d.check(); err != nil {
		t.Fatal(err)
	}
	h := w.d.History
	for slot, parts := range w.timed {
		if slot < w.oldest() {
			delete(w.timed, slot)
			continue
		}
		for prefix, holders := range parts {
			p := ring.Partition{Bits: walkBits, Prefix: uint32(prefix)}
			w.checkOne(t, fmt.Sprintf("slot %d, %v", slot, p), h.At(slot).Owners(p), h.Newcomers(slot, p), h.Sources(slot, p), holders)
		}
	}
	for prefix, holders := range w.plain {
		p := ring.Partition{Bits: walkBits, Prefix: uint32(prefix)}
		w.checkOne(t, fmt.Sprintf("plain %v", p), h.Newest().Owners(p), h.PlainNewcomers(p), h.PlainSources(p), holders)
	}
}

func (w *world) checkOne(t *rapid.T, what string, owners, newcomers, sources []ring.NodeID, holders map[ring.NodeID]bool) {
	somebody := false
	for _, id := range owners {
		if !slices.Contains(newcomers, id) && !holders[id] && !w.is(id, Lost) {
			t.Fatalf("%s: %s counts as complete and has nothing", what, w.d.label(id))
		}
		if w.is(id, Left) {
			t.Fatalf("%s: %s has left and is an owner", what, w.d.label(id))
		}
		somebody = somebody || holders[id]
	}
	for _, id := range sources {
		if m, known := w.d.Member(id); !known || !m.State.Live() {
			t.Fatalf("%s: the source %s is %v", what, w.d.label(id), m.State)
		}
		somebody = somebody || holders[id]
	}
	if !somebody && !w.lossy {
		t.Fatalf("%s: nobody who has it is asked", what)
	}
}

func (w *world) is(id ring.NodeID, state MemberState) bool {
	m, known := w.d.Member(id)
	return known && m.State == state
}

// pick draws a member.
func (w *world) pick(t *rapid.T) Member {
	return rapid.SampledFrom(w.d.Members).Draw(t, "member")
}

// Whatever is asked for, in any order: the document stays valid, all nodes come
// to the same one, and no data is lost that nobody gave up.
func TestWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorldIn(t)
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"time passes": func(t *rapid.T) {
				for range rapid.IntRange(1, 3).Draw(t, "slots") {
					w.now += walkSlot
					w.write()
				}
			},
			"seconds pass": func(t *rapid.T) {
				w.now += rapid.Int64Range(1, walkSlot).Draw(t, "seconds")
				w.write()
			},
			"join": func(t *rapid.T) {
				if len(w.d.Members) > 7 {
					t.Skip()
				}
				if r := w.apply(t, Command{Kind: Join, Member: w.make()}); r.Err != nil {
					t.Fatal(r.Err)
				}
			},
			"introduce": func(t *rapid.T) {
				m := w.pick(t)
				back := Member{ID: m.ID, Address: "10.1.1.1:1", Disks: slices.Clone(m.Disks)}
				if rapid.Bool().Draw(t, "a new disk") {
					back.Disks = append(back.Disks, DiskID{m.ID[0], byte(len(m.Disks) + len(m.Removed) + 1)})
				}
				if rapid.Bool().Draw(t, "without the first") {
					back.Disks = back.Disks[1:]
				}
				w.apply(t, Command{Kind: Introduce, Member: back})
			},
			"stage": func(t *rapid.T) {
				x := Staged{Kind: StageKind(rapid.IntRange(1, 8).Draw(t, "what")), Node: w.pick(t).ID}
				switch x.Kind {
				case StageReplace:
					x.New = w.pick(t).ID
				case StageLose:
					if rapid.Bool().Draw(t, "replaced") {
						x.New = w.pick(t).ID
					}
				case StageWeight:
					x.Weight = rapid.Uint32Range(1, 3).Draw(t, "weight")
				case StageZone:
					x.Zone = rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "zone")
				case StageFill:
					x.Node = ring.NodeID{}
				case StagePartitions:
					x.Node, x.Bits = ring.NodeID{}, walkBits
				}
				w.apply(t, Command{Kind: Stage, Stage: x})
			},
			"clear": func(t *rapid.T) {
				w.apply(t, Command{Kind: Clear, Node: w.pick(t).ID})
			},
			"commit": func(t *rapid.T) {
				c := Commit{Staged: w.d.StagedHash(), AcceptLoss: rapid.IntRange(0, 9).Draw(t, "accept loss") == 0}
				if rapid.Bool().Draw(t, "later") {
					c.From = w.slot() + rapid.Int64Range(0, 5).Draw(t, "by")
				}
				if r := w.apply(t, Command{Kind: CommitStaged, Commit: c}); r.Err == nil {
					w.lossy = w.lossy || c.AcceptLoss
				}
			},
			"cancel": func(t *rapid.T) { w.apply(t, Command{Kind: Cancel}) },
			"tick":   func(t *rapid.T) { w.apply(t, Command{Kind: Tick}) },
			"promise": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "of how many") {
					m := w.pick(t)
					reply, err := w.gates[m.ID].Agreed(w.d.Change, func(ring.Promise) error { return nil })
					if err != nil {
						t.Fatal(err)
					}
					if reply != nil {
						w.apply(t, Command{Kind: Promised, Node: m.ID, Round: reply.Round, Highest: reply.Highest})
					}
				}
			},
			"all promise": func(t *rapid.T) {
				for _, id := range w.d.Change.Waiting {
					if reply, _ := w.gates[id].Agreed(w.d.Change, func(ring.Promise) error { return nil }); reply != nil {
						w.apply(t, Command{Kind: Promised, Node: id, Round: reply.Round, Highest: reply.Highest})
					}
				}
			},
			"admit": func(t *rapid.T) {
				m := w.pick(t)
				w.gates[m.ID].Admit(w.now + rapid.Int64Range(-walkSlot, w.d.Settings.AheadSeconds).Draw(t, "epoch"))
			},
			"down": func(t *rapid.T) {
				c := Command{Kind: Down, Node: w.pick(t).ID}
				if rapid.Bool().Draw(t, "another is silent") {
					c.Silent = []ring.NodeID{w.pick(t).ID}
				}
				w.apply(t, c)
			},
			"up": func(t *rapid.T) { w.apply(t, Command{Kind: Up, Node: w.pick(t).ID}) },
			"complete": func(t *rapid.T) {
				if c, can := w.complete(t); can {
					w.claims = append(w.claims, c)
				}
			},
			"tell of it": func(t *rapid.T) {
				if len(w.claims) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(w.claims)-1).Draw(t, "which")
				w.apply(t, w.claims[i])
				w.claims = slices.Delete(w.claims, i, i+1)
			},
			"trim": func(t *rapid.T) {
				w.apply(t, Command{Kind: Trim, Oldest: w.oldest() - rapid.Int64Range(-1, 3).Draw(t, "before")})
			},
			"ttl": func(t *rapid.T) { // never shorter than the model's: it would keep what is gone
				ttl := walkTTL + rapid.Int64Range(0, 30).Draw(t, "more")
				w.apply(t, Command{Kind: SetTTL, Bucket: bucket.Properties{Type: bucket.DefaultType, Name: bucket.Events, TTLSeconds: ttl}})
			},
			"recover": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					t.Skip()
				}
				era := w.d.Version.Era
				w.d = w.d.Recovered()
				if w.d.Version.Era != era+1 || w.d.History.Version() != w.d.Version {
					t.Fatalf("recovered as %v, its history as %v", w.d.Version, w.d.History.Version())
				}
			},
		})
	})
}

func newWorldIn(t *rapid.T) *world {
	return newWorld(t, rapid.IntRange(1, 5).Draw(t, "founders"))
}

// complete lets a member get all of a partition, from whoever is asked and has
// it, and returns what it will claim.
func (w *world) complete(t *rapid.T) (c Command, can bool) {
	m := w.pick(t)
	if !m.State.Live() {
		return c, false
	}
	p := ring.Partition{Bits: walkBits, Prefix: rapid.Uint32Range(0, 1<<walkBits-1).Draw(t, "partition")}
	x := ring.Completion{Node: m.ID, Partition: p, Plain: rapid.Bool().Draw(t, "plain")}
	h := w.d.History
	asked := func(holders map[ring.NodeID]bool, asked ...[]ring.NodeID) bool {
		return slices.ContainsFunc(slices.Concat(asked...), func(id ring.NodeID) bool { return holders[id] && !w.is(id, Lost) })
	}
	if x.Plain {
		if !asked(w.plain[p.Prefix], h.Newest().Owners(p), h.PlainSources(p)) {
			return c, false
		}
		w.plain[p.Prefix][m.ID] = true
	} else {
		x.From = max(0, w.slot()-rapid.Int64Range(0, 20).Draw(t, "from"))
		x.Until = w.slot() + rapid.Int64Range(0, 9).Draw(t, "until")
		if rapid.Bool().Draw(t, "all") {
			x.From, x.Until = 0, ring.Forever
		}
		for slot, parts := range w.timed {
			if x.From <= slot && slot < x.Until && !asked(parts[p.Prefix], h.At(slot).Owners(p), h.Sources(slot, p)) {
				return c, false
			}
		}
		for slot, parts := range w.timed {
			if x.From <= slot && slot < x.Until {
				parts[p.Prefix][m.ID] = true
			}
		}
	}
	return Command{Kind: Completed, Completions: []ring.Completion{x}, History: h.Version()}, true
}

// A fataler is a test, or a property.
type fataler interface{ Fatal(args ...any) }
