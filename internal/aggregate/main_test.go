package aggregate

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mayflydb/mayfly/event"
)

func TestMain(m *testing.M) {
	// Each encoder has a channel, and a channel that is made in a synctest bubble
	// cannot be used outside: make all of them here.
	event.PrepareEncoders()
	goleak.VerifyTestMain(m)
}
