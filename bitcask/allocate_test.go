package bitcask

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
)

// allocations has every request for blocks appended to list, and answered with err.
func allocations(fsys *vfs.Mem, list *[]blocks, err error) {
	fsys.Inject(func(op vfs.Op) error {
		if op.Kind != vfs.OpAllocate {
			return nil
		}
		*list = append(*list, blocks{op.Offset, op.Bytes})
		return err
	})
}

// TestAllocateAhead follows a segment of several megabytes: whatever is written lies
// where blocks were asked for, each block is asked for once, twice as many as before at
// a time, and what is left is given back.
func TestAllocateAhead(t *testing.T) {
	for _, policy := range []Sync{SyncNone, SyncAlways} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			fsys := vfs.NewMem()
			d, s := openAll(t, fsys, testConfig())
			var asked []blocks
			allocations(fsys, &asked, nil)
			b := events.synced(policy)
			for i := range 60 {
				mustPut(t, s, make1(t, b, t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 100_000)))
			}
			var calls []int64
			end := asked[0].offset
			for _, a := range asked {
				if a.offset < end {
					t.Errorf("asked for %+v again", a)
				}
				calls, end = append(calls, a.size), a.offset+a.size
			}
			if len(calls) < 4 || len(calls) > 8 || !slices.IsSorted(calls) || calls[0] != minAllocation {
				t.Errorf("asked for %v bytes", calls)
			}
			l, err := s.lane(laneOf(b, t0, testSlot), false)
			if err != nil {
				t.Fatal(err)
			}
			if written := l.segs[0].end.Load(); end < written || end > written+maxAllocation {
				t.Errorf("%d bytes are written, %d allocated", written, end)
			}
			if n := d.Stats().Allocations; n != int64(len(asked)) {
				t.Errorf("%d are counted, want %d", n, len(asked))
			}
			var cut []int64
			fsys.Inject(func(op vfs.Op) error {
				if op.Kind == vfs.OpTruncate && op.Name == l.segs[0].data.name {
					cut = append(cut, op.Bytes)
				}
				return nil
			})
			if err := s.Seal(b, slotAt(t0)); err != nil || !slices.Equal(cut, []int64{l.segs[0].end.Load()}) {
				t.Errorf("sealed with %v, cut to %v", err, cut)
			}
		})
	}
}

// A disk that has no blocks to give, or gives none ahead, takes puts as ever; the second
// is not asked again.
func TestAllocateFails(t *testing.T) {
	for _, tc := range []struct {
		err   error
		again bool
	}{{&fs.PathError{Op: "allocate", Path: "x", Err: syscall.ENOSPC}, true}, {&fs.PathError{Op: "allocate", Path: "x", Err: syscall.EOPNOTSUPP}, false}} {
		fsys := vfs.NewMem()
		_, s := openAll(t, fsys, testConfig())
		var asked []blocks
		allocations(fsys, &asked, tc.err)
		for i := range 30 {
			o := make1(t, events.synced(SyncAlways), t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 100_000))
			mustPut(t, s, o)
			mustGet(t, s, o)
		}
		if again := len(asked) > 1; again != tc.again {
			t.Errorf("%v: asked %d times", tc.err, len(asked))
		}
		if errors.Is(tc.err, vfs.ErrUnsupported) == tc.again {
			t.Errorf("%v counts as unsupported: %t", tc.err, !tc.again)
		}
	}
}

// TestAllocateAfterCut: cutting a failed write off gives the blocks behind it back, so they
// are asked for again: whatever is written before and after it lies where blocks were
// asked for and not given back.
func TestAllocateAfterCut(t *testing.T) {
	full := error(syscall.ENOSPC)
	for _, policy := range []Sync{SyncNone, SyncAlways} {
		for name, fault := range map[string]error{"full at once": full, "full halfway": &vfs.Partial{Bytes: 5000, Err: full}} {
			t.Run(fmt.Sprint(policy, " ", name), func(t *testing.T) {
				fsys := vfs.NewMem()
				d, s := openAll(t, fsys, testConfig())
				end := map[string]int64{} // up to where a file has blocks
				asked, cuts := 0, 0
				var fails error // of the next write to a segment
				fsys.Inject(func(op vfs.Op) error {
					switch {
					case !strings.HasSuffix(op.Name, segSuffix):
					case op.Kind == vfs.OpAllocate:
						asked++
						end[op.Name] = op.Offset + op.Bytes
					case op.Kind == vfs.OpTruncate:
						cuts++
						end[op.Name] = min(end[op.Name], op.Bytes)
					case op.Kind == vfs.OpWrite && op.Offset > 0: // not the header
						if op.Offset+op.Bytes > end[op.Name] {
							t.Errorf("%d bytes are written at %d, blocks end at %d", op.Bytes, op.Offset, end[op.Name])
						}
						err := fails
						fails = nil
						return err
					}
					return nil
				})
				put := func(i int) error {
					_, err := s.putTest(make1(t, events.synced(policy), t0, fmt.Sprint(i), t0*1e6, bytesOf(uint64(i), 10_000)))
					return err
				}
				for i := range 40 {
					if i%8 == 7 {
						fails = fault
						wantErr(t, put(i), object.CodeLowSpace, "a put to a full disk")
						d.space.refresh(d)
					} else if err := put(i); err != nil {
						t.Fatal(err)
					}
				}
				if cuts != 5 || len(end) != 1 || asked < 5 || asked > 12 {
					t.Errorf("%d cuts, asked %d times, files %v", cuts, asked, end)
				}
			})
		}
	}
}

// What may be asked for is bounded by the free space.
func TestAllocateLittleSpace(t *testing.T) {
	d, s := openAll(t, vfs.NewMem(), testConfig())
	mustPut(t, s, make1(t, events, t0, "first", t0*1e6, nil))
	l, err := s.lane(laneOf(events, t0, testSlot), false)
	if err != nil {
		t.Fatal(err)
	}
	least := d.space.minFree
	for _, tc := range []struct{ from, to, free, want int64 }{
		{100, 300, math.MaxInt64 / 2, minAllocation},
		{1 << 20, 1<<20 + 8, least + 10<<30, 1<<20 + 8},
		{800 << 20, 800<<20 + 8, least + 100<<30, maxAllocation},
		{512 << 20, 512<<20 + 8, least + 4<<30, 4 << 20}, // a thousandth of what is free
		{100, 300, least + minAllocation*allocationShare - 1024, 0},
		{100, 300, least - 1, 0},
		{100, maxAllocation + 101, math.MaxInt64 / 2, 0}, // the record alone is longer
		{l.maxBytes() - 1000, l.maxBytes(), math.MaxInt64 / 2, 0},
	} {
		seg := &segment{}
		d.space.free.Store(tc.free)
		if got := l.wantBlocks(seg, tc.from, tc.to); got.size != tc.want || got.size > 0 && got.offset != tc.from {
			t.Errorf("%+v: got %+v", tc, got)
		}
		if again := l.wantBlocks(seg, tc.from, tc.to); again.size > 0 {
			t.Errorf("%+v: and again %+v", tc, again)
		}
	}
}
