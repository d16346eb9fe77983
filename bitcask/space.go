package bitcask

import (
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/internal/vfs"
)

// A space watches how full the disk is. Below minFree bytes puts are refused,
// before the disk is full; they are taken again by themselves when an eighth
// more than that is free. A reserve file holds room for manifests, so that
// expiry can note what it drops even when others have filled the disk.
type space struct {
	minFree int64 // bytes
	low     atomic.Bool
	free    atomic.Int64 // bytes, as last seen
	total   atomic.Int64
	fixed   atomic.Bool // nothing can be allocated ahead of a file's end here

	mu      sync.Mutex
	reserve bool // the file is there
}

func (s *space) init(d *Disk) {
	s.minFree = d.cfg.MinFreeBytes
	_, total, err := d.fs.Space()
	if s.minFree == 0 {
		s.minFree = defaultMinFree
		if err == nil {
			s.minFree = min(s.minFree, total/50)
		}
	}
	s.refresh(d)
	e, err := d.fs.Stat(reserveName)
	s.reserve = err == nil && e.SizeBytes == d.cfg.reserveBytes
	s.keepReserve(d)
}

// refresh looks at the disk.
func (s *space) refresh(d *Disk) {
	free, total, err := d.fs.Space()
	if err != nil {
		return // the puts themselves will tell
	}
	s.free.Store(free)
	s.total.Store(total)
	was := s.low.Load()
	is := free < s.minFree || was && free < s.minFree+s.minFree/8
	if is == was {
		return
	}
	s.low.Store(is)
	if is {
		d.cfg.Log.Warn("the disk is nearly full: puts are refused", "free_bytes", free, "min_free_bytes", s.minFree)
	} else {
		d.cfg.Log.Info("the disk has room again: puts are taken", "free_bytes", free)
	}
}

// full notes that the disk refused to take more.
func (s *space) full() { s.low.Store(true) }

// noteFull does so if that is what err says.
func (d *Disk) noteFull(err error) {
	if vfs.IsNoSpace(err) {
		d.space.full()
	}
}

// keepReserve makes the reserve if it is missing and there is room.
func (s *space) keepReserve(d *Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserve || s.low.Load() {
		return
	}
	err := vfs.Publish(d.fs, reserveName, func(f vfs.File) error {
		_, err := f.WritevAt([][]byte{make([]byte, d.cfg.reserveBytes)}, 0)
		return err
	})
	if err != nil {
		d.noteFull(err)
		return
	}
	s.reserve = true
}

// spend frees the reserve; it reports whether that made room.
func (s *space) spend(d *Disk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reserve {
		return false
	}
	s.reserve = false
	d.cfg.Log.Warn("the disk is full: the reserve is spent to note what expires")
	return d.fs.Remove(reserveName) == nil
}

// LowSpace reports whether puts are refused because the disk is nearly full.
func (d *Disk) LowSpace() bool { return d.space.low.Load() }
