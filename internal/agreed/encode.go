package agreed

import "errors"

// Bounds of what is encoded, in bytes.
const (
	MaxDocumentBytes = 256 << 20
	MaxCommandBytes  = 8 << 20
	MaxResultBytes   = 1 << 20
)

var (
	// ErrCorrupt says the bytes are cut short, damaged, or were never what they
	// are taken for.
	ErrCorrupt = errors.New("corrupt agreed state")

	// ErrFormat says the bytes are of a format this program does not know.
	ErrFormat = errors.New("unknown format of agreed state")
)

var errNotYet = errors.New("agreed: not encoded yet")

// MarshalBinary returns the document's bytes.
func (d *Document) MarshalBinary() ([]byte, error) { return nil, errNotYet }

// UnmarshalDocument returns the document whose bytes b is, whole. It keeps
// nothing of b. Errors wrap ErrCorrupt or ErrFormat.
func UnmarshalDocument(b []byte) (*Document, error) { return nil, errNotYet }

// MarshalBinary returns the command's bytes.
func (c Command) MarshalBinary() ([]byte, error) { return nil, errNotYet }

// UnmarshalCommand returns the command whose bytes b is, whole. It keeps
// nothing of b. Errors wrap ErrCorrupt or ErrFormat.
func UnmarshalCommand(b []byte) (Command, error) { return Command{}, errNotYet }

// MarshalBinary returns the result's bytes.
func (r Result) MarshalBinary() ([]byte, error) { return nil, errNotYet }

// UnmarshalResult returns the result whose bytes b is, whole. It keeps nothing
// of b. Errors wrap ErrCorrupt or ErrFormat.
func UnmarshalResult(b []byte) (Result, error) { return Result{}, errNotYet }
