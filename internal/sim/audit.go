package sim

import (
	"time"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/vnode"
)

// rowChecked returns what holds a row against the model.
func (s *Sim) rowChecked(key event.IndexKey, acked []string, begun time.Duration, over func(bool)) func(index.Row, bool, *object.Error) {
	return func(row index.Row, certain bool, err *object.Error) {
		switch {
		case err != nil && err.Code == object.CodeExpired:
			s.breach("I5", "epochs/"+key.String(), "a row is called expired, and nothing here expires")
		case err != nil || !certain:
			s.notes.add("rows not certain", 1)
		default:
			s.model.gotRow(key, acked, begun, row)
		}
		over(err == nil && certain)
	}
}

// audit reads everything that was ever put, when all is healed: what was
// acknowledged must be there, with its bytes.
func (s *Sim) audit() {
	if s.broken != nil {
		return
	}
	turn := 0
	for _, k := range s.model.order {
		turn++
		v := k.view()
		s.get(k.bucket, k.key, true, turn, func(rec object.Record, err *object.Error) {
			s.model.got(k, v, &rec, err, k.bucket != quickBucket)
			if err != nil && err.Code != object.CodeAbsent {
				s.breach("I1", k.id(), "all is healed, every replica is complete, and still it cannot be read: %v", err)
			}
		})
		if k.bucket == bucket.Events {
			s.auditCopies(k)
		}
	}
	for _, key := range s.model.seconds {
		turn++
		s.checkRow(key, turn, func(certain bool) {
			if !certain {
				s.breach("I2", "epochs/"+key.String(), "all is healed, every replica is complete, and still the row is not certain")
			}
		})
	}
	s.runWhile(s.now+2*callTime, func() bool { return s.pending > 0 })
	if s.pending > 0 && s.broken == nil {
		s.breach("progress", "", "%d reads at the end are not over", s.pending)
	}
}

// auditCopies looks for an acknowledged blob on the disks themselves: some owner
// must have it, whoever may vouch for what.
func (s *Sim) auditCopies(k *key) {
	for _, p := range k.acked {
		if p.version.Tombstone || k.erased {
			continue
		}
		if !s.anyoneHas(k, p) {
			s.breach("I1", k.id(), "it was acknowledged at %v and no node has it any more", p.at)
		}
	}
}

// anyoneHas reports whether some node has the value of a put: under its key or, if
// another value has won that, under the key of the one that lost.
func (s *Sim) anyoneHas(k *key, p *put) bool {
	names := []string{k.key}
	if blob, err := event.ParseKey(k.key); err == nil {
		loser := blob.LoserKey(p.checksum).String()
		if l := s.model.keys[bucket.Events+"/"+loser]; l != nil && l.erased {
			return true // it was, there
		}
		names = append(names, loser)
	}
	for _, name := range names {
		ref := vnode.RefOf([]byte(bucket.DefaultType), []byte(k.bucket), []byte(name))
		for _, n := range s.upNodes() {
			a, err := n.vnodes.Get(n.now(), ref)
			if err != nil {
				continue
			}
			has := a.State == vnode.Found && a.Record.Checksum == p.checksum && a.Record.Verify() == nil
			a.Release()
			if has {
				return true
			}
		}
	}
	return false
}

// auditTails checks that every tail has passed the last second that was written,
// and was given every blob that was acknowledged.
func (s *Sim) auditTails() {
	if s.broken != nil {
		return
	}
	for _, t := range s.tails {
		for _, k := range s.model.order {
			if k.bucket != bucket.Events || len(k.acked) == 0 || k.erased || t.got[k.key] || t.gaps[k.key] {
				continue
			}
			if key, err := event.ParseKey(k.key); err == nil && key.Epoch < t.from && !k.acked[0].late {
				continue // before it began
			}
			s.breach("tail", k.id(), "tailer %d was never given it; it was acknowledged at %v, late %v", t.at, k.acked[0].at, k.acked[0].late)
		}
	}
}
