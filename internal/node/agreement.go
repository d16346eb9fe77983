package node

import (
	"context"
	"slices"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// An Agreement is where this node learns what all nodes agree on, and brings its
// own word to it. Its methods may be called by any goroutine.
type Agreement interface {
	// Document returns the newest document known here. It must be quick.
	Document() *agreed.Document

	// Changed returns a channel that is closed when there is a newer one: to be
	// called before Document.
	Changed() <-chan struct{}

	// Propose brings a command to agreement, wherever that is made. The error, an
	// *object.Error, says whether that was not done or maybe done; a command that
	// was agreed and refused is the Result's failure.
	Propose(ctx context.Context, c agreed.Command) (agreed.Result, error)

	// CatchUp makes a document known here whose history is not older than v, which
	// that member has. It does not need a majority.
	CatchUp(ctx context.Context, v ring.Version, from ring.NodeID) error

	// Address returns where a member serves, as host:port; "" if that is not known.
	Address(id ring.NodeID) string

	// Alive reports whether a member is thought to be up.
	Alive(id ring.NodeID) bool

	// Close takes leave of the others.
	Close(ctx context.Context) error
}

// A fixedAgreement never changes: the members are a list in the configuration, or
// the node is alone.
type fixedAgreement struct {
	doc     *agreed.Document
	changed chan struct{} // never closed
}

// newFixedAgreement returns the agreement of the members that the configuration
// lists, or of a node alone, under a history.
func newFixedAgreement(cfg Config, history *ring.History, buckets *bucket.Set) *fixedAgreement {
	d := &agreed.Document{
		Version: history.Version(), Cluster: clusterID(cfg.Cluster), Name: cfg.Cluster, History: history, Buckets: buckets,
		Settings: agreed.DefaultSettings(),
	}
	d.Settings.SlotSeconds, d.Settings.AheadSeconds, d.Settings.LatenessSeconds = cfg.SlotSeconds, cfg.AheadSeconds, cfg.LatenessSeconds
	for _, node := range history.Newest().Nodes() {
		m := agreed.Member{ID: node.ID, Name: node.Name, Zone: node.Zone, Weight: node.Weight, State: agreed.Valid}
		if i := slices.IndexFunc(cfg.Members, func(m Member) bool { return m.Name == node.Name }); i >= 0 {
			m.Address = cfg.Members[i].Address
		}
		d.Members = append(d.Members, m)
	}
	return &fixedAgreement{d, make(chan struct{})}
}

func (f *fixedAgreement) Document() *agreed.Document { return f.doc }

func (f *fixedAgreement) Changed() <-chan struct{} { return f.changed }

var errFixed = &object.Error{Code: object.CodeUnsupported, Outcome: object.NotDone,
	Message: "the members of this cluster are a list in the nodes' configuration: nothing can be changed while they run"}

func (f *fixedAgreement) Propose(context.Context, agreed.Command) (agreed.Result, error) {
	return agreed.Result{}, errFixed
}

func (f *fixedAgreement) CatchUp(context.Context, ring.Version, ring.NodeID) error { return errFixed }

func (f *fixedAgreement) Address(id ring.NodeID) string {
	m, _ := f.doc.Member(id)
	return m.Address
}

func (f *fixedAgreement) Alive(ring.NodeID) bool { return true }

func (f *fixedAgreement) Close(context.Context) error { return nil }
