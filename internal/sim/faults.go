package sim

import "time"

// faults are what goes wrong, and when it is put right.
type faults struct {
	s      *Sim
	end    time.Duration
	over   bool
	victim *node         // the one that may lose bytes
	safeAt time.Duration // from then on another one may
	bad    *node         // the one whose files may be damaged
	wiped  *node         // the one that lost everything, until others have all it had

	flipped map[int64]bool // slots in whose files, of bad, bits have flipped
}

func (f *faults) init(s *Sim) { f.s, f.flipped = s, map[int64]bool{} }

// start arranges for faults until end.
func (f *faults) start(end time.Duration) {
	f.end = end
	f.next()
}

func (f *faults) next() {
	s := f.s
	at := s.now + s.between(time.Second, 6*time.Second)
	if at > f.end-time.Second {
		return
	}
	s.at(at, func() {
		f.one()
		f.next()
	})
}

// one brings about one fault of a random kind.
func (f *faults) one() {
	s := f.s
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	lasts := s.between(500*time.Millisecond, 8*time.Second)
	switch k := s.rng.IntN(100); {
	case k < 16:
		f.kill(n, lasts)
	case k < 24:
		f.stop(n, lasts)
	case k < 38:
		f.crash(n, lasts)
	case k < 52:
		f.cut(n, lasts)
	case k < 60:
		f.burst(lasts)
	case k < 68:
		f.slow(n, lasts)
	case k < 76:
		f.clock(n)
	case k < 86:
		f.disk(n, lasts)
	case k < 94:
		f.damage()
	case k < 98:
		f.inTurn(lasts)
	default:
		f.moveTail()
	}
	if s.rng.IntN(3) == 0 {
		f.another()
	}
}

// another brings about one fault of those who agree.
func (f *faults) another() {
	s := f.s
	members := s.members()
	n := members[s.rng.IntN(len(members))]
	lasts := s.between(time.Second, 25*time.Second)
	switch k := s.rng.IntN(100); {
	case k < 30:
		f.note(n, "hears nothing of agreement")
		n.deaf = true
		s.after(lasts, func() { n.deaf = false })
	case k < 50:
		f.note(n, "hears late of agreement")
		n.late = s.between(time.Second, 10*time.Second)
		s.after(lasts, func() { n.late = 0 })
	case k < 70:
		f.note(n, "promises nothing")
		n.slowly = true
		s.after(lasts, func() { n.slowly = false })
	case k < 85:
		f.split(min(lasts, 15*time.Second))
	default:
		f.loseMajority()
	}
}

// outdate cuts some nodes off at the moment a ring is fixed: they have promised, go on
// with what they know, and have each other. Clients put on one side, and read on the
// other what was acknowledged.
func (f *faults) outdate() {
	s := f.s
	if f.over || s.rng.IntN(3) > 0 {
		return
	}
	lasts := s.between(3*time.Second, 12*time.Second)
	side := f.split(lasts)
	for range 20 {
		s.after(s.upTo(lasts), func() { s.work.apart(side) })
	}
}

// split cuts the network in two, and returns which nodes are on one side.
func (f *faults) split(lasts time.Duration) (side []bool) {
	s := f.s
	f.note(nil, "split")
	side = make([]bool, len(s.nodes))
	for i := range side {
		side[i] = s.rng.IntN(3) == 0
	}
	set := func(cut bool) {
		for i := range side {
			for j := range side {
				if side[i] != side[j] {
					s.net.cut[i][j] = cut
				}
			}
		}
	}
	set(true)
	s.after(lasts, func() { set(false) })
	return side
}

// wipe has a machine lose all it had, for ever, while all others have everything.
func (f *faults) wipe() {
	s := f.s
	valid := s.operator.valid()
	n := valid[s.rng.IntN(len(valid))]
	if len(valid) <= fewestNodes || !n.up || !f.mayLose(n) || s.anyInDoubtBut(n) || s.restless() != "" {
		return
	}
	f.note(n, "disks wiped")
	f.loses(n, 0)
	f.wiped = n
	n.kill()
	n.wiped = true
	s.operator.lose(n)
}

func (f *faults) note(n *node, kind string) {
	at := -1
	if n != nil {
		at = n.at
	}
	f.s.faultCounts.add(kind, 1)
	f.s.trace.note(f.s.now, at, "FAULT "+kind, "", 0)
}

// restartAfter brings a node back.
func (f *faults) restartAfter(n *node, d time.Duration) {
	life := n.life
	f.s.after(d, func() {
		if !n.running && n.life == life {
			n.start()
		}
	})
}

func (f *faults) kill(n *node, lasts time.Duration) {
	if !n.up {
		return
	}
	f.note(n, "process killed")
	n.kill()
	f.restartAfter(n, lasts)
}

func (f *faults) stop(n *node, lasts time.Duration) {
	if !n.up || n.fault != diskWell {
		return
	}
	f.note(n, "process stopped")
	n.shutDown()
	f.restartAfter(n, lasts)
}

// mayLose reports whether a node may lose bytes now: one at a time may, see the
// package comment.
func (f *faults) mayLose(n *node) bool {
	if f.wiped != nil {
		if f.s.restless() != "" || f.s.doubts() > 0 {
			return false
		}
		f.wiped = nil
	}
	return f.victim == nil || f.victim == n || f.s.now >= f.safeAt
}

// loses notes that a node has lost bytes, or is about to, until some time from now.
func (f *faults) loses(n *node, lasts time.Duration) {
	s := f.s
	f.victim = n
	f.safeAt = max(f.safeAt, s.now+lasts+writeTimeout+2*syncInterval+3*time.Second)
	s.lossy = true
	s.model.replicaLost(n)
}

func (f *faults) crash(n *node, lasts time.Duration) {
	if !n.up || !f.mayLose(n) {
		return
	}
	f.note(n, "machine crashed")
	f.loses(n, lasts)
	n.crash()
	f.restartAfter(n, lasts)
}

// inTurn is what makes a false "absent" if anybody's word is taken: one node is
// away and lacks what is put meanwhile, a second loses it soon after, and the third,
// which has it, cannot be asked.
func (f *faults) inTurn(lasts time.Duration) {
	s := f.s
	up := s.upNodes()
	if len(up) < 3 {
		return
	}
	turn := s.rng.Perm(len(up))
	away, loser, holder := up[turn[0]], up[turn[1]], up[turn[2]]
	f.kill(away, time.Second)
	then := func(d time.Duration, do func()) {
		s.after(d, func() {
			if !f.over {
				do()
			}
		})
	}
	then(900*time.Millisecond, func() { f.crash(loser, 200*time.Millisecond) })
	then(time.Second, func() { f.kill(holder, lasts) })
}

// cut cuts a node off, from all or some, in both directions or one.
func (f *faults) cut(n *node, lasts time.Duration) {
	s := f.s
	whole, out, in := s.rng.IntN(2) == 0, true, true
	switch s.rng.IntN(3) {
	case 0:
		out = false
	case 1:
		in = false
	}
	kind := "cut in one direction"
	if out && in {
		kind = "cut"
	}
	if !whole {
		kind += ", from some"
	}
	f.note(n, kind)
	for i := range s.nodes {
		if i == n.at || !whole && s.rng.IntN(2) == 0 {
			continue
		}
		if out {
			s.net.cut[n.at][i] = true
		}
		if in {
			s.net.cut[i][n.at] = true
		}
	}
	s.after(lasts, func() {
		for i := range s.nodes {
			s.net.cut[n.at][i], s.net.cut[i][n.at] = false, false
		}
	})
}

func (f *faults) burst(lasts time.Duration) {
	f.note(nil, "messages delayed")
	f.s.net.burst = true
	f.s.after(lasts, func() { f.s.net.burst = false })
}

func (f *faults) slow(n *node, lasts time.Duration) {
	f.note(n, "disk slow")
	n.slow = f.s.between(10*time.Millisecond, 2*time.Second)
	f.s.after(lasts, func() { n.slow = 0 })
}

// maxClockOff is how far a node's clock may be off; two may be twice that apart.
const maxClockOff = 900 * time.Millisecond

func (f *faults) clock(n *node) {
	f.note(n, "clock stepped")
	n.offset = f.s.between(-maxClockOff, maxClockOff)
	n.tickAt = 0
	n.settle()
}

func (f *faults) disk(n *node, lasts time.Duration) {
	s := f.s
	kind := []diskFault{diskNoWrites, diskNoSyncs, diskNoReads, diskFull}[s.rng.IntN(4)]
	if kind != diskFull && !f.mayLose(n) {
		kind = diskFull
	}
	f.note(n, map[diskFault]string{
		diskNoWrites: "disk fails writes", diskNoSyncs: "disk fails syncs", diskNoReads: "disk fails reads", diskFull: "disk full",
	}[kind])
	if kind != diskFull {
		f.loses(n, lasts)
	}
	n.fault = kind
	s.after(lasts, func() { n.fault = diskWell })
}

func (f *faults) moveTail() {
	s := f.s
	if len(s.tails) == 0 {
		return
	}
	f.note(nil, "tail moved")
	s.tails[s.rng.IntN(len(s.tails))].leave()
}

// damage flips a bit in a file that has been at rest for a while, always of the
// same node, and only if every other one is complete.
func (f *faults) damage() {
	s := f.s
	if f.bad == nil {
		f.bad = s.nodes[s.rng.IntN(len(s.nodes))]
	}
	n := f.bad
	if !n.up || !f.mayLose(n) || s.anyInDoubtBut(n) {
		return
	}
	old := f.oldFile(n.fs)
	if old.name == "" {
		return
	}
	file, err := n.fs.OpenReadWrite(old.name)
	if err != nil {
		return
	}
	size, err := file.Size()
	if err != nil || size == 0 {
		return
	}
	at := s.rng.Int64N(size)
	var b [1]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		return
	}
	b[0] ^= 1 << s.rng.IntN(8)
	f.note(n, "bit flipped")
	f.loses(n, 0)
	f.flipped[old.slot] = true
	if _, err := file.WritevAt([][]byte{b[:]}, at); err != nil {
		return
	}
	_ = file.Sync()
	if s.rng.IntN(2) == 0 { // and is found when it is read again
		f.kill(n, s.between(100*time.Millisecond, time.Second))
	}
}

// heal puts everything right.
func (f *faults) heal() {
	s := f.s
	f.over = true
	for i := range s.net.cut {
		clear(s.net.cut[i])
	}
	s.net.burst = false
	for _, n := range s.nodes {
		n.slow, n.fault = 0, diskWell
		n.deaf, n.late, n.slowly, n.barred = false, 0, false, n.barred && s.agreement.lost
		if !n.running {
			n.start()
		}
	}
	s.trace.note(s.now, -1, "HEALED", "", 0)
}
