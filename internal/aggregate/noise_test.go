package aggregate

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/mayflydb/mayfly/internal/aggregate/generate"
)

// noise makes events that do not compress.
type noise struct{ random *rand.Rand }

func newNoise() *noise { return &noise{rand.New(rand.NewPCG(1, 2))} }

// envelope is one event of WEB:app with n random bytes.
func (r *noise) envelope(n int) []byte {
	body := binary.BigEndian.AppendUint16([]byte{0x81, 0xa1, 'b', 0xc5}, uint16(n))
	for range n {
		body = append(body, byte(r.random.Uint32()))
	}
	return generate.Msgpack.AppendEnvelope(nil, generate.Event{Type: "WEB", Subtype: "app", Body: body}, generate.Tags{})
}
