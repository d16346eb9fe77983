package cluster

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
)

// An entry of the log begins with a byte that says what it is: 1 a command, 2 an
// envelope: the document an era begins with. See format-agreed and envelope.
const (
	entryCommand  = 1
	entryDocument = 2
)

func commandEntry(c agreed.Command) ([]byte, error) {
	b, err := c.MarshalBinary()
	return append([]byte{entryCommand}, b...), err
}

func documentEntry(h held) ([]byte, error) { return appendEnvelope([]byte{entryDocument}, h) }

// A machine applies what is agreed to the document. It is Raft's [raft.FSM].
type machine struct {
	publish func(held) // told of each new document; must not wait

	mu    sync.Mutex
	at    held
	stuck error // an entry this version does not understand: what came after it is not applied
}

// document returns the document as of the last entry applied, nil if there is none
// yet.
func (m *machine) document() (held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at, m.stuck
}

// Apply implements [raft.FSM]. What it returns is an [agreed.Result].
func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stuck != nil {
		return refusedResult(m.at, m.stuck)
	}
	next, result, err := applyEntry(m.at, l.Data)
	if err != nil {
		m.stuck = fmt.Errorf("what was agreed as entry %d cannot be applied here: run the release that the other nodes run: %w", l.Index, err)
		return refusedResult(m.at, m.stuck)
	}
	if next.doc != m.at.doc {
		m.at = next
		m.publish(next)
	}
	return result
}

func refusedResult(h held, err error) agreed.Result {
	return agreed.Result{Version: h.version(), Err: object.Errorf(object.CodeUnsupported, object.MaybeDone, "%w", err)}
}

// applyEntry returns the document after an entry of the log. An error says that the
// entry cannot be understood.
func applyEntry(at held, data []byte) (held, agreed.Result, error) {
	switch {
	case len(data) == 0:
		return at, agreed.Result{}, errors.New("it is empty")
	case data[0] == entryDocument && at.doc != nil: // said again: its answer was lost
		return at, agreed.Result{Version: at.version()}, nil
	case data[0] == entryDocument:
		h, err := parseEnvelope(data[1:])
		return h, agreed.Result{Version: h.version(), Changed: true}, err
	case data[0] != entryCommand:
		return at, agreed.Result{}, fmt.Errorf("its kind is %d", data[0])
	}
	c, err := agreed.UnmarshalCommand(data[1:])
	switch {
	case err != nil:
		return at, agreed.Result{}, err
	case at.doc == nil: // so it is everywhere
		return at, agreed.Result{Err: object.Errorf(object.CodeUnavailable, object.NotDone, "the cluster is just beginning: try again")}, nil
	}
	doc, result, err := applyTo(at.doc, c)
	if err != nil {
		return at, agreed.Result{}, err
	}
	return held{doc, at.origin}, result, nil
}

// applyTo applies a command. A fault of this program in it, which all nodes have alike
// and have again at each start, must not end them all, and their data with them: it is
// an error, a *fault.
func applyTo(doc *agreed.Document, c agreed.Command) (next *agreed.Document, result agreed.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &fault{fmt.Sprintf("%v: %v", c.Kind, r), debug.Stack()}
		}
	}()
	next, result = doc.Apply(c)
	return next, result, nil
}

// A fault is one of this program.
type fault struct {
	what  string
	stack []byte
}

func (f *fault) Error() string {
	return "a fault of this release of mayfly, please report it: " + f.what
}

// Snapshot implements [raft.FSM].
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.stuck != nil:
		return nil, m.stuck
	case m.at.doc == nil:
		return nil, errors.New("there is no document yet")
	}
	return snapshot(m.at), nil
}

// Restore implements [raft.FSM].
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	h, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("a snapshot cannot be used: %w", err)
	}
	m.mu.Lock()
	m.at, m.stuck = h, nil
	m.mu.Unlock()
	m.publish(h)
	return nil
}

// A snapshot is a document that Raft keeps.
type snapshot held

// Persist implements [raft.FSMSnapshot].
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	b, err := appendEnvelope(nil, held(s))
	if err == nil {
		_, err = sink.Write(b)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write a snapshot of the agreed document: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot].
func (snapshot) Release() {}
