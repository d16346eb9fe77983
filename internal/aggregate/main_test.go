package aggregate

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
)

func TestMain(m *testing.M) {
	// The encoder that all blobs share has a channel, and a channel that is made
	// in a synctest bubble cannot be used outside: make it here.
	new(event.Builder).Seal(nil)
	goleak.VerifyTestMain(m)
}
