package bitcask

import "unsafe"

// A target is where the puts of a lane go at present. It is not changed once it is
// shown, so that a put can read it without the lane's lock.
type target struct {
	seg    *segment
	keydir *keydir
	places []location // the keydir's
	homes  int32
}

// showTargetLocked shows where puts go, whenever that changes.
func (l *lane) showTargetLocked() {
	if l.active == nil {
		l.target.Store(nil)
		return
	}
	k := l.active.keydir
	l.target.Store(&target{l.active, k, k.places, k.homes})
}

// prefetch has the processor fetch what a put is going to change, while it is still
// being checked. Mostly that is in another processor's cache, or, in a keydir of many
// keys, in memory: to wait for it there took a put longer than all else it does but for
// writing. Where the keydir grows meanwhile, nothing is gained.
func (l *lane) prefetch(hash uint64) {
	t := l.target.Load()
	if t == nil || t.homes == 0 {
		return
	}
	home := &t.places[(hash&(1<<32-1))*uint64(t.homes)>>32]
	prefetch(unsafe.Pointer(l), unsafe.Pointer(t.seg), unsafe.Pointer(t.keydir), unsafe.Pointer(home))
}
