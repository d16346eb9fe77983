package agreed

import (
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// Plan returns what a commit of what is staged would do, for people: from the
// slot on, or the earliest there can be if that is later. now is the caller's
// clock, seconds of Unix time. Errors are *object.Error; where the last copy of
// something would go and that is not accepted, they wrap a *ring.LastCopyError.
func (d *Document) Plan(now int64, data ring.Data, from int64, acceptLoss bool) (*ring.Plan, error) {
	return nil, refuse(object.CodeUnsupported, "planning is not there yet")
}
