package vnode

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/expiry"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// A desk is where TestStorage works: one partition of one system.
type desk struct {
	t     *testing.T
	sys   system
	ttls  atomic.Int64 // of all buckets
	store Storage
	now   int64
}

// Its buckets, as the vnode would present them.
var (
	timedBucket = rulesOf(bucket.Properties{Type: "default", Name: "timed", Timed: true, Sync: bucket.SyncNone}).engine
	indexBucket = rulesOf(bucket.Properties{Type: "default", Name: "epochs", Timed: true, Rows: true, Sync: bucket.SyncNone}).engine
	plainBucket = rulesOf(bucket.Properties{Type: "default", Name: "plain", Sync: bucket.SyncNone}).engine
)

func (d *desk) open() {
	d.t.Helper()
	store, err := d.sys.disks().Store(ring.Partition{})
	if err != nil {
		d.t.Fatal(err)
	}
	d.store = store
}

func (d *desk) restart() { d.sys.restart(); d.open() }

func hashIn(b bitcask.Bucket, key string) uint64 { return ring.Hash(b.Type, b.Name, key) }

// epochIn is the epoch of a key of the tests: what stands before the first colon.
func epochIn(b bitcask.Bucket, key string) (epoch int64) {
	if b.Timed {
		fmt.Sscanf(key, "%d:", &epoch)
	}
	return epoch
}

func (d *desk) put(b bitcask.Bucket, kind object.Kind, key, value string, stampMicros int64, decide bitcask.Decide) (bitcask.Action, error) {
	d.t.Helper()
	rec := recordOf(d.t, kind, b.Name, key, value, time.UnixMicro(stampMicros))
	return d.store.Put(b, hashIn(b, key), epochIn(b, key), d.now, rec, decide)
}

func (d *desk) mustPut(b bitcask.Bucket, kind object.Kind, key, value string, stampMicros int64) {
	d.t.Helper()
	if action, err := d.put(b, kind, key, value, stampMicros, nil); err != nil || action != bitcask.Append {
		d.t.Fatalf("put %q: %v, %v", key, action, err)
	}
}

// get returns the value under a key, "deleted", or the code of the error; the
// header must agree.
func (d *desk) get(b bitcask.Bucket, key string) string {
	d.t.Helper()
	rec, err := d.store.Get(b, hashIn(b, key), epochIn(b, key), d.now, []byte(key))
	head, headErr := d.store.Head(b, hashIn(b, key), epochIn(b, key), d.now, []byte(key))
	if err != nil || headErr != nil {
		if object.AsError(err).Code != object.AsError(headErr).Code {
			d.t.Errorf("%q: get says %v, head %v", key, err, headErr)
		}
		return object.AsError(err).Code.String()
	}
	defer rec.Release()
	defer head.Release()
	if rec.Version() != head.Version() || string(head.Key) != key || string(rec.Key) != key {
		d.t.Errorf("%q: get and head differ", key)
	}
	if rec.Kind == object.Tombstone {
		return "deleted"
	}
	return string(rec.Value())
}

// each returns the values of all records of a key, sorted.
func (d *desk) each(b bitcask.Bucket, key string) (values []string) {
	d.t.Helper()
	for rec, err := range d.store.Each(b, hashIn(b, key), epochIn(b, key), d.now, []byte(key)) {
		if err != nil {
			if errors.Is(err, object.CodeExpired) {
				return []string{"expired"}
			}
			d.t.Fatal(err)
		}
		values = append(values, string(rec.Value()))
	}
	slices.Sort(values)
	return values
}

// walk returns the keys of a slot, sorted.
func (d *desk) walk(b bitcask.Bucket, slot expiry.Slot) (keys []string) {
	d.t.Helper()
	for head, err := range d.store.Walk(b, slot, d.now) {
		if err != nil {
			d.t.Fatal(err)
		}
		keys = append(keys, string(head.Key))
	}
	slices.Sort(keys)
	return keys
}

func (d *desk) wantGet(b bitcask.Bucket, key, want string) {
	d.t.Helper()
	if got := d.get(b, key); got != want {
		d.t.Errorf("get %q: got %q, want %q", key, got, want)
	}
}

func (d *desk) want(what string, got, want []string) {
	d.t.Helper()
	if !slices.Equal(got, want) {
		d.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (d *desk) sealed(b bitcask.Bucket, slot expiry.Slot) bool {
	d.t.Helper()
	sealed, err := d.store.Sealed(b, slot)
	if err != nil {
		d.t.Fatal(err)
	}
	return sealed
}

// TestStorage holds every Storage to what the vnode relies on.
func TestStorage(t *testing.T) {
	const now, slot = 1000, expiry.Slot(1000 / testSlotSeconds)
	tests := []struct {
		claim string
		run   func(t *testing.T, d *desk)
	}{
		{"what is put is got, also after a restart and when sealed", func(t *testing.T, d *desk) {
			d.mustPut(timedBucket, object.Value, "1000:a", "one", 1)
			d.mustPut(plainBucket, object.Value, "a", "two", 1)
			for _, turn := range []func(){func() {}, d.restart, func() { d.seal(timedBucket, slot) }, d.restart} {
				turn()
				d.wantGet(timedBucket, "1000:a", "one")
				d.wantGet(timedBucket, "1000:b", "absent")
				d.wantGet(plainBucket, "a", "two")
				d.wantGet(plainBucket, "1000:a", "absent")
			}
		}},
		{"the greatest version is shown, whatever the order", func(t *testing.T, d *desk) {
			always := func(_, _ *object.Header) bitcask.Action { return bitcask.Append }
			for _, stamp := range []int64{2, 5, 3} {
				if _, err := d.put(timedBucket, object.Value, "1000:a", fmt.Sprint(stamp), stamp, always); err != nil {
					t.Fatal(err)
				}
			}
			d.wantGet(timedBucket, "1000:a", "5")
			d.seal(timedBucket, slot)
			d.wantGet(timedBucket, "1000:a", "5")
			d.mustPut(timedBucket, object.Value, "1000:a", "7", 7)
			d.wantGet(timedBucket, "1000:a", "7")
			d.restart()
			d.wantGet(timedBucket, "1000:a", "7")
			d.want("walk", d.walk(timedBucket, slot), []string{"1000:a"})
		}},
		{"a tombstone is a record", func(t *testing.T, d *desk) {
			d.mustPut(plainBucket, object.Value, "a", "one", 1)
			d.mustPut(plainBucket, object.Tombstone, "a", "", 2)
			d.wantGet(plainBucket, "a", "deleted")
			d.restart()
			d.wantGet(plainBucket, "a", "deleted")
		}},
		{"the decider sees the greatest version, and its word counts", func(t *testing.T, d *desk) {
			var seen []int64
			say := func(a bitcask.Action) bitcask.Decide {
				return func(old, next *object.Header) bitcask.Action {
					if old == nil {
						seen = append(seen, 0)
					} else {
						seen = append(seen, old.TimestampMicros)
					}
					return a
				}
			}
			for i, a := range []bitcask.Action{bitcask.Append, bitcask.Same, bitcask.Conflict, bitcask.Append, bitcask.Same} {
				got, err := d.put(timedBucket, object.Value, "1000:a", fmt.Sprint(i), int64(10+i), say(a))
				if err != nil || got != a {
					t.Errorf("put %d: got %v, %v, want %v", i, got, err, a)
				}
			}
			if want := []int64{0, 10, 10, 10, 13}; !slices.Equal(seen, want) {
				t.Errorf("the decider saw %v, want %v", seen, want)
			}
			d.wantGet(timedBucket, "1000:a", "3")
		}},
		{"of an index key all records stay, and the decider sees the very same", func(t *testing.T, d *desk) {
			for i, value := range []string{"x", "y", "x", "z"} { // the third is the first again
				stamp := int64(1 + i%2)
				if i == 3 {
					stamp = 9
				}
				var old *object.Header
				if _, err := d.put(indexBucket, object.Delta, "1000:ams", value, stamp, func(o, next *object.Header) bitcask.Action {
					old = o
					if o != nil {
						return bitcask.Same
					}
					return bitcask.Append
				}); err != nil {
					t.Fatal(err)
				}
				if (old != nil) != (i == 2) {
					t.Errorf("put %d: the decider saw %v", i, old)
				}
			}
			want := []string{"x", "y", "z"}
			d.want("each", d.each(indexBucket, "1000:ams"), want)
			d.restart()
			d.want("each", d.each(indexBucket, "1000:ams"), want)
			d.seal(indexBucket, slot)
			d.want("each, sealed", d.each(indexBucket, "1000:ams"), want)
			d.mustPut(indexBucket, object.Delta, "1000:ams", "late", 20)
			d.want("each, sealed and open", d.each(indexBucket, "1000:ams"), []string{"late", "x", "y", "z"})
			d.restart()
			d.want("each, sealed and open", d.each(indexBucket, "1000:ams"), []string{"late", "x", "y", "z"})
			d.want("walk", d.walk(indexBucket, slot), []string{"1000:ams", "1000:ams", "1000:ams", "1000:ams"})
			d.want("each of an absent key", d.each(indexBucket, "1000:ber"), nil)
		}},
		{"slots are listed, and sealed or not", func(t *testing.T, d *desk) {
			if slots, err := d.store.Slots(timedBucket); err != nil || len(slots) > 0 {
				t.Errorf("an empty bucket has the slots %v, %v", slots, err)
			}
			for _, key := range []string{"1005:a", "985:b", "1009:c"} {
				d.mustPut(timedBucket, object.Value, key, "v", 1)
			}
			slots := func() []expiry.Slot {
				all, err := d.store.Slots(timedBucket)
				if err != nil {
					t.Fatal(err)
				}
				return all
			}
			check := func() {
				t.Helper()
				if got := slots(); !slices.Equal(got, []expiry.Slot{98, 100}) {
					t.Errorf("slots %v", got)
				}
				if !d.sealed(timedBucket, 98) || d.sealed(timedBucket, 100) {
					t.Error("98 is not sealed, or 100 is")
				}
			}
			d.seal(timedBucket, 98)
			check()
			d.restart()
			check()
			d.want("walk", d.walk(timedBucket, 98), []string{"985:b"})
			d.want("walk", d.walk(timedBucket, 100), []string{"1005:a", "1009:c"})
			d.want("walk of an empty slot", d.walk(timedBucket, 99), nil)
			if d.sealed(timedBucket, 99) {
				t.Error("a slot that is not there is sealed")
			}
			d.mustPut(timedBucket, object.Value, "985:late", "v", 1)
			if d.sealed(timedBucket, 98) {
				t.Error("98 took a record and is still sealed")
			}
			d.want("walk", d.walk(timedBucket, 98), []string{"985:b", "985:late"})
		}},
		{"what has expired is neither shown nor taken", func(t *testing.T, d *desk) {
			d.mustPut(timedBucket, object.Value, "1000:a", "one", 1)
			d.mustPut(indexBucket, object.Delta, "1000:ams", "x", 1)
			d.mustPut(plainBucket, object.Value, "a", "two", 1000e6)
			d.ttls.Store(50)
			d.now = 1049
			d.wantGet(timedBucket, "1000:a", "one")
			d.wantGet(plainBucket, "a", "two")
			d.now = 1050
			d.wantGet(timedBucket, "1000:a", "expired")
			d.wantGet(plainBucket, "a", "expired")
			d.want("each", d.each(indexBucket, "1000:ams"), []string{"expired"})
			d.want("walk", d.walk(timedBucket, slot), nil)
			if _, err := d.put(timedBucket, object.Value, "1000:b", "v", 1, nil); !errors.Is(err, object.CodeExpired) {
				t.Errorf("put: %v", err)
			}
			d.ttls.Store(0)
			d.wantGet(timedBucket, "1000:a", "one")
		}},
		{"below the drop horizon it stays expired, whatever the TTL becomes", func(t *testing.T, d *desk) {
			d.mustPut(timedBucket, object.Value, "1000:a", "one", 1)
			d.mustPut(timedBucket, object.Value, "1010:a", "two", 1)
			d.ttls.Store(50)
			d.now = 1060
			d.sys.maintain(time.Unix(d.now, 0))
			d.ttls.Store(0)
			for range 2 {
				if h := d.store.Horizon(timedBucket); h != 1010 {
					t.Errorf("the horizon is %d", h)
				}
				d.wantGet(timedBucket, "1000:a", "expired")
				d.wantGet(timedBucket, "1000:never", "expired")
				d.wantGet(timedBucket, "1010:a", "two")
				if _, err := d.put(timedBucket, object.Value, "1009:b", "v", 1, nil); !errors.Is(err, object.CodeExpired) {
					t.Errorf("put: %v", err)
				}
				if slots, err := d.store.Slots(timedBucket); err != nil || !slices.Equal(slots, []expiry.Slot{101}) {
					t.Errorf("slots %v, %v", slots, err)
				}
				d.restart()
			}
		}},
		{"digests tell what is there", func(t *testing.T, d *desk) {
			var want object.Digest
			for i, key := range []string{"1000:a", "1001:b", "1009:c"} {
				rec := recordOf(t, object.Value, "timed", key, "v", time.UnixMicro(int64(1+i)))
				want.Add(hashIn(timedBucket, key), rec.Version())
				d.mustPut(timedBucket, object.Value, key, "v", int64(1+i))
			}
			for _, turn := range []func(){func() {}, d.restart, func() { d.seal(timedBucket, slot) }, d.restart} {
				turn()
				got, err := d.store.Digests(timedBucket, slot)
				if err != nil || len(got) != 1 || got[0].Minute != 1000/60 || got[0].Count != 3 || got[0].Digest != want {
					t.Errorf("got %+v, %v, want %+v", got, err, want)
				}
			}
		}},
	}
	systems(t, func(t *testing.T, makeSystem func(*testing.T, func(uint64) int64) system) {
		for _, test := range tests {
			t.Run(test.claim, func(t *testing.T) {
				d := &desk{t: t, now: now}
				d.sys = makeSystem(t, func(uint64) int64 { return d.ttls.Load() })
				d.open()
				test.run(t, d)
			})
		}
	})
}

func (d *desk) seal(b bitcask.Bucket, slot expiry.Slot) {
	d.t.Helper()
	if err := d.store.Seal(b, slot); err != nil {
		d.t.Fatal(err)
	}
}
