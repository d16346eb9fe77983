package vnode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// noon is when the tests of this package happen, the start of a slot of an hour.
var noon = time.Unix(1_763_712_000, 0).UTC()

const noonKey = "1763712000:ams:web:checkout:0"

// testBuckets has a bucket of each sort.
func testBuckets(t testing.TB) *bucket.Set {
	t.Helper()
	set, err := bucket.DefaultSet().Declare(
		bucket.Declaration{Name: bucket.Events, TTLSeconds: new(int64(864_000)), MaxValueBytes: new(int64(1 << 20))},
		bucket.Declaration{Name: "timed", Timed: new(true), TTLSeconds: new(int64(3600))},
		bucket.Declaration{Name: "once", WriteOnce: new(true)},
		bucket.Declaration{Name: "brief", TTLSeconds: new(int64(60))},
		bucket.Declaration{Name: "brief once", WriteOnce: new(true), TTLSeconds: new(int64(60))},
	)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAdmit(t *testing.T) {
	book := rulebook{present: func() *bucket.Set { return nil }}
	set := testBuckets(t)
	book.present = func() *bucket.Set { return set }
	const fine = object.Code(0)
	at := func(d time.Duration) int64 { return noon.Add(d).UnixMicro() }
	value, tombstone, delta := object.Value, object.Tombstone, object.Delta
	second, now := time.Second, at(0)

	tests := []struct {
		claim  string
		bucket string
		key    string
		kind   object.Kind
		flags  object.Flags
		bytes  uint32
		stamp  int64
		want   object.Code
		epoch  int64
	}{
		{"a blob of this second", "events", noonKey, value, 0, 100, now, fine, 1763712000},
		{"a blob of the last second of its life", "events", "1762848001:ams:web:checkout:0", value, 0, 1, now, fine, 1762848001},
		{"a blob one second too old", "events", "1762848000:ams:web:checkout:0", value, 0, 1, now, object.CodeExpired, 0},
		{"a blob ten seconds ahead", "events", "1763712010:ams:web:checkout:0", value, 0, 1, now, fine, 1763712010},
		{"a blob eleven seconds ahead", "events", "1763712011:ams:web:checkout:0", value, 0, 1, now, object.CodeTooFarAhead, 0},
		{"a blob of the greatest size", "events", noonKey, value, 0, 1 << 20, now, fine, 1763712000},
		{"a blob one byte larger", "events", noonKey, value, 0, 1<<20 + 1, now, object.CodeTooLarge, 0},
		{"a key that is no blob's", "events", "1763712000:ams:web", value, 0, 1, now, object.CodeBadRequest, 0},
		{"an erase", "events", noonKey, tombstone, object.FlagErased, 0, now, fine, 1763712000},
		{"an unmarked delete of a blob erases too", "events", noonKey, tombstone, 0, 0, now, fine, 1763712000},
		{"a value marked as erasing", "events", noonKey, value, object.FlagErased, 1, now, object.CodeBadRequest, 0},
		{"an erase where values may change", "plain", "k", tombstone, object.FlagErased, 0, now, object.CodeBadRequest, 0},
		{"a delta into events", "events", noonKey, delta, 0, 1, now, object.CodeBadRequest, 0},
		{"a delta", "epochs", "1763712000:ams", delta, 0, 1, now, fine, 1763712000},
		{"a delta of a late list", "epochs", "1763712000:ams:late", delta, 0, 1, now, fine, 1763712000},
		{"a delta under another spelling of the row", "epochs", "1763712000-ams", delta, 0, 1, now, object.CodeBadRequest, 0},
		{"a delta of an expired second", "epochs", "1762848000:ams", delta, 0, 1, now, object.CodeExpired, 0},
		{"a value into the index", "epochs", "1763712000:ams", value, 0, 1, now, object.CodeBadRequest, 0},
		{"a delete in the index", "epochs", "1763712000:ams", tombstone, 0, 0, now, object.CodeBadRequest, 0},
		{"any key behind an epoch", "timed", "1763712000:what ever", value, 0, 1, now, fine, 1763712000},
		{"a timed key without an epoch", "timed", "k", value, 0, 1, now, object.CodeBadRequest, 0},
		{"a timed object past a short TTL", "timed", "1763708400:x", value, 0, 1, now, object.CodeExpired, 0},
		{"any key of an undeclared bucket", "plain", "\x00\xff", value, 0, 1, now, fine, 1763712000},
		{"a plain object has the time of its stamp, rounded up", "plain", "k", value, 0, 1, at(time.Microsecond), fine, 1763712001},
		{"a plain object stamped long ago, kept for ever", "plain", "k", value, 0, 1, 1, fine, 1},
		{"a plain object just within its TTL", "brief", "k", value, 0, 1, at(-60*second + 1000), fine, 1763711941},
		{"a plain object past its TTL", "brief", "k", value, 0, 1, at(-60 * second), object.CodeExpired, 0},
		{"a stamp five seconds ahead", "plain", "k", value, 0, 1, at(5 * second), fine, 1763712005},
		{"a stamp further ahead", "plain", "k", value, 0, 1, at(5*second + time.Microsecond), object.CodeTooFarAhead, 0},
		{"a delta stamped too far ahead", "epochs", "1763712000:ams", delta, 0, 1, at(6 * second), object.CodeTooFarAhead, 0},
	}
	for _, test := range tests {
		t.Run(test.claim, func(t *testing.T) {
			r, err := book.of([]byte(bucket.DefaultType), []byte(test.bucket))
			if err != nil {
				t.Fatal(err)
			}
			h := &object.Header{Kind: test.kind, Flags: test.flags, ValueBytes: test.bytes, TimestampMicros: test.stamp, Key: []byte(test.key)}
			epoch, err := admit(r, h, noon, 10)
			if test.want == fine {
				if err != nil || epoch != test.epoch {
					t.Errorf("got epoch %d, %v, want %d", epoch, err, test.epoch)
				}
				return
			}
			if !errors.Is(err, test.want) || object.AsError(err).Outcome != object.NotDone {
				t.Errorf("got %v, want %v, not done", err, test.want)
			}
		})
	}
}

func TestRulebook(t *testing.T) {
	set := testBuckets(t)
	book := rulebook{present: func() *bucket.Set { return set }}
	of := func(name string) *rules {
		t.Helper()
		r, err := book.of([]byte(bucket.DefaultType), []byte(name))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := of("events"); !r.engine.Timed || r.engine.KeepAll || !r.WriteOnce || r != book.indexed() {
		t.Errorf("events: %+v", r)
	}
	if r := of("epochs"); !r.engine.Timed || !r.engine.KeepAll || r != book.rows() {
		t.Errorf("epochs: %+v", r)
	}
	if r := of("nobody"); r.engine.Timed || r.engine.KeepAll || r.engine.Name != "nobody" || r != of("nobody") {
		t.Errorf("undeclared: %+v", r)
	}
	old := of("timed")
	changed, err := set.Declare(bucket.Declaration{Name: "timed", TTLSeconds: new(int64(7))})
	if err != nil {
		t.Fatal(err)
	}
	set = changed
	if r := of("timed"); r == old || r.TTLSeconds != 7 {
		t.Errorf("after a change of the set: %+v", r.Properties)
	}
	if _, err := book.of([]byte("default"), []byte("no\nname")); !errors.Is(err, object.CodeBadRequest) {
		t.Errorf("a control character in a bucket's name: %v", err)
	}
	for i := range 2 * maxPlainRules {
		of(strings.Repeat("x", 1+i%100) + string(rune('a'+i/100)))
	}
	if n := len(book.page.Load().plain); n > maxPlainRules {
		t.Errorf("%d undeclared buckets are kept, the bound is %d", n, maxPlainRules)
	}
}
