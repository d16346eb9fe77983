package sim

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/vnode"
)

// A model is what the clients were told, and what the replicas were: all that is
// held against what is read afterwards.
type model struct {
	s       *Sim
	keys    map[string]*key // by bucket and key
	order   []*key          // in the order in which they were first put
	rows    map[event.IndexKey]*rowModel
	holds   []map[string]*holding // by node: what it has acknowledged
	lists   []map[event.IndexKey]map[string]bool
	seconds []event.IndexKey // those with blobs, in order
}

// A key is an object and all that was ever put under it.
type key struct {
	bucket, key string
	puts        []*put // in the order in which they were first sent
	acked       []*put
	newest      *put // the greatest version acknowledged; nil: none
	erased      bool // a delete was sent
}

func (k *key) id() string { return k.bucket + "/" + k.key }

// A fate is what a client knows of a put.
type fate uint8

const (
	sent fate = iota
	acked
	notDone
	maybeDone
)

// A put is one record that was sent, at least once.
type put struct {
	version  object.Version
	checksum uint64
	fate     fate
	at       time.Duration // when it was acknowledged
	late     bool          // and listed as late
	header   object.Header // its slices are the put's own
}

// A rowModel is what was acknowledged for a second: by suffix.
type rowModel struct {
	entries map[string]*put
	order   []string
}

// A holding is what a node has acknowledged as a replica: the greatest version it
// took of a key.
type holding struct{ version object.Version }

func newModel(s *Sim) *model {
	return &model{s: s, keys: map[string]*key{}, rows: map[event.IndexKey]*rowModel{}}
}

// grow makes room for one more node.
func (m *model) grow() {
	m.holds = append(m.holds, map[string]*holding{})
	m.lists = append(m.lists, map[event.IndexKey]map[string]bool{})
}

func (m *model) key(name, text string) *key {
	id := name + "/" + text
	k := m.keys[id]
	if k == nil {
		k = &key{bucket: name, key: text}
		m.keys[id] = k
		m.order = append(m.order, k)
	}
	return k
}

func (k *key) find(v object.Version) *put {
	for _, p := range k.puts {
		if p.version == v {
			return p
		}
	}
	return nil
}

// sends notes that a record is about to be sent.
func (m *model) sends(rec *object.Record) {
	k := m.key(string(rec.Bucket), string(rec.Key))
	k.erased = k.erased || rec.Kind == object.Tombstone
	if k.find(rec.Version()) != nil {
		return // again
	}
	h := rec.Header
	h.Type, h.Bucket, h.Key, h.Writer, h.Metadata = []byte("default"), []byte(k.bucket), []byte(k.key), append([]byte(nil), h.Writer...), nil
	k.puts = append(k.puts, &put{version: rec.Version(), checksum: rec.Checksum, header: h})
}

// rescues notes that a value is about to be kept under another key.
func (m *model) rescues(rec, loser *object.Record) {
	m.sends(loser)
	from, to := m.key(string(rec.Bucket), string(rec.Key)), m.key(string(loser.Bucket), string(loser.Key))
	if p := from.find(rec.Version()); p != nil && p.fate != notDone {
		to.find(loser.Version()).fate = maybeDone
	}
}

// put notes what became of a record.
func (m *model) put(rec *object.Record, a putAnswer) {
	k := m.key(string(rec.Bucket), string(rec.Key))
	p := k.find(rec.Version())
	switch {
	case a.err != nil && a.err.Outcome == object.NotDone && p.fate == sent:
		p.fate = notDone
	case a.err != nil && p.fate != acked:
		p.fate = maybeDone
	case a.err == nil && p.fate != acked:
		m.acked(k, p, a.late)
	}
}

func (m *model) acked(k *key, p *put, late bool) {
	p.fate, p.at, p.late = acked, m.s.now, late
	k.acked = append(k.acked, p)
	if k.newest == nil || k.newest.version.Compare(p.version) < 0 {
		k.newest = p
	}
	if k.bucket != bucket.Events {
		return
	}
	row, entry, err := index.EntryOf(&p.header)
	if err != nil {
		return
	}
	at := row.Index()
	r := m.rows[at]
	if r == nil {
		r = &rowModel{entries: map[string]*put{}}
		m.rows[at] = r
		m.seconds = append(m.seconds, at)
	}
	if _, known := r.entries[entry.Suffix]; !known {
		r.order = append(r.order, entry.Suffix)
	}
	r.entries[entry.Suffix] = p
}

// replicaTook notes that a node has acknowledged a record as a replica.
func (m *model) replicaTook(n *node, rec *object.Record) {
	if rec.Kind == object.Delta {
		key, err := event.ParseIndexKey(string(rec.Key))
		if err != nil {
			return
		}
		row, err := index.ParseRow(rec.Value())
		if err != nil {
			return
		}
		have := m.lists[n.at][key]
		if have == nil {
			have = map[string]bool{}
			m.lists[n.at][key] = have
		}
		for w, e := range row.All() {
			have[w.String()+" "+e.Suffix] = true
		}
		return
	}
	id := string(rec.Bucket) + "/" + string(rec.Key)
	h := m.holds[n.at][id]
	if h == nil {
		m.holds[n.at][id] = &holding{rec.Version()}
	} else if h.version.Compare(rec.Version()) < 0 {
		h.version = rec.Version()
	}
}

// replicaLost notes that a node may have lost what it acknowledged. From now on only
// that is asked of it of which clients were told, and only when it calls itself
// complete: of the rest nobody need have another copy.
func (m *model) replicaLost(n *node) {
	maps.DeleteFunc(m.holds[n.at], func(id string, h *holding) bool {
		k := m.keys[id]
		p := k.find(h.version)
		return p == nil || p.fate != acked
	})
	for key, have := range m.lists[n.at] {
		r := m.rows[key]
		maps.DeleteFunc(have, func(name string, _ bool) bool {
			if r == nil {
				return true
			}
			_, suffix, _ := strings.Cut(name, " ")
			return r.entries[suffix] == nil
		})
	}
}

// counts reports whether the history lets a node's word count that it has no object:
// an owner's that is no newcomer.
func (n *node) counts(bucketType, name []byte, hash uint64, key []byte) bool {
	o, _, ok := n.placed(bucketType, name, hash, key)
	if !ok {
		return false
	}
	h := n.history()
	r, p := h.For(o.Timed, o.Hash, o.Epoch)
	if o.Timed {
		return r.Owns(n.id, p) && !slices.Contains(h.Newcomers(h.SlotOf(o.Epoch), p), n.id)
	}
	return r.Owns(n.id, p) && !slices.Contains(h.PlainNewcomers(p), n.id)
}

// replicaSaid holds a replica's answer against what it has acknowledged: one that
// calls itself complete must have it.
func (m *model) replicaSaid(n *node, ref *vnode.Ref, rec *object.Record, complete bool, err error) {
	h := m.holds[n.at][string(ref.Bucket)+"/"+string(ref.Key)]
	if h == nil || !complete || !n.counts(ref.Type, ref.Bucket, ref.Hash, ref.Key) {
		return
	}
	id := string(ref.Bucket) + "/" + string(ref.Key)
	switch {
	case errors.Is(err, object.CodeAbsent):
		m.s.breach("complete", id, "node %d says that it is complete and has nothing; it has acknowledged version %v", n.at, h.version)
	case err == nil && string(ref.Bucket) != bucket.Events && rec.Version().Compare(h.version) < 0:
		m.s.breach("complete", id, "node %d says that it is complete and has version %v; it has acknowledged %v", n.at, rec.Version(), h.version)
	}
}

// replicaSaidRow is replicaSaid for rows: they never lose an entry.
func (m *model) replicaSaidRow(n *node, key event.IndexKey, row index.Row, complete bool) {
	have := m.lists[n.at][key]
	if len(have) == 0 || !complete || !n.counts([]byte(bucket.DefaultType), []byte(bucket.Epochs), vnode.RowHash(key), []byte(key.String())) {
		return
	}
	found := 0
	for w, e := range row.All() {
		if have[w.String()+" "+e.Suffix] {
			found++
		}
	}
	if found < len(have) {
		m.s.breach("I3", "epochs/"+key.String(), "node %d says that it is complete, and its row has %d of the %d entries it has acknowledged", n.at, found, len(have))
	}
}
