package peer

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// TestGoldenPushes pins what nodes of different builds push to each other.
func TestGoldenPushes(t *testing.T) {
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"everything", appendSubscription(nil, &Subscription{Bodies: true}), "010000"},
		{"two dcs, no bodies", appendSubscription(nil, &Subscription{DCs: []string{"ams", "fra1"}}), "000200" + "0300616d73" + "040066726131"},
		{"a delta", appendPushDeltaMeta(nil, rowKey, []byte("hello")), "02" + "a36d9f887d82c726" + hex.EncodeToString([]byte("1763712000:ams"))},
		{"a late delta", appendPushDeltaMeta(nil, event.IndexKey{Epoch: 1, DC: "ams", Late: true}, nil), "02" + "99e9d85137db46ef" + hex.EncodeToString([]byte("1:ams:late"))},
		{"a body", bodyMeta, "03"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.what, got, c.want)
		}
	}
	if OpSubscribe != 40 || pushReady != 1 {
		t.Error("the numbers have changed")
	}
	for op := range 256 {
		if Pushes(uint8(op)) != (op == 40) || Pushes(uint8(op)) && Serves(uint8(op)) {
			t.Errorf("operation %d", op)
		}
	}
	if blobBucket != bucket.Events || rowBucketType != bucket.DefaultType {
		t.Error("blobs are kept elsewhere")
	}
}

func TestBadSubscriptions(t *testing.T) {
	many := make([]string, MaxSubscribedDCs+1)
	for i := range many {
		many[i] = fmt.Sprintf("dc%04d", i)
	}
	good := appendSubscription(nil, &Subscription{DCs: []string{"ams", "fra"}})
	for claim, b := range map[string][]byte{
		"nothing": nil, "half a head": {0, 0}, "a flag that is none": {2, 0, 0}, "4096 dcs in no bytes": {0, 0, 16},
		"cut short": good[:len(good)-1], "cut in a length": good[:len(good)-4], "more behind": append(bytes.Clone(good), 0),
		"out of order": appendSubscription(nil, &Subscription{DCs: []string{"fra", "ams"}}),
		"twice":        appendSubscription(nil, &Subscription{DCs: []string{"ams", "ams"}}),
		"no name":      appendSubscription(nil, &Subscription{DCs: []string{"a b"}}),
		"empty name":   appendSubscription(nil, &Subscription{DCs: []string{""}}),
		"a long name":  appendSubscription(nil, &Subscription{DCs: []string{strings.Repeat("a", 65)}}),
		"too many":     appendSubscription(nil, &Subscription{DCs: many}),
	} {
		if s, err := parseSubscription(b); err == nil {
			t.Errorf("%s: passed as %+v", claim, s)
		}
	}
	if s, err := parseSubscription(appendSubscription(nil, &Subscription{DCs: many[1:]})); err != nil || len(s.DCs) != MaxSubscribedDCs {
		t.Errorf("%d dcs: %v", MaxSubscribedDCs, err)
	}
}

func TestSubscriptionWants(t *testing.T) {
	all, two := Subscription{}, Subscription{DCs: []string{"ams", "fra"}}
	for dc, want := range map[string]bool{"ams": true, "fra": true, "am": false, "zrh": false} {
		if !all.Wants(dc) || two.Wants(dc) != want {
			t.Errorf("dc %s", dc)
		}
	}
	if all.Equal(&two) || all.Equal(&Subscription{Bodies: true}) || !two.Equal(&Subscription{DCs: []string{"ams", "fra"}}) {
		t.Error("subscriptions are compared wrongly")
	}
}

// deltaMessage encodes a delta as it is pushed.
func deltaMessage(key event.IndexKey, delta index.Row) (meta, body []byte) {
	body = index.AppendRow(nil, delta)
	return appendPushDeltaMeta(nil, key, body), body
}

func encoded(t testing.TB, h object.Header) []byte {
	t.Helper()
	h.TimestampMicros = 7
	rec, err := object.Encode(h, []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	return bytes.Clone(rec.Raw())
}

func TestBadPushes(t *testing.T) {
	meta, body := deltaMessage(rowKey, someRow(t))
	if m, err := parsePush(meta, body); err != nil || m.row != rowKey || !reflect.DeepEqual(m.delta, someRow(t)) {
		t.Fatalf("a delta: %+v, %v", m, err)
	}
	name := func(kind object.Kind, typ, bucket, key string) []byte {
		return encoded(t, object.Header{Kind: kind, Type: []byte(typ), Bucket: []byte(bucket), Key: []byte(key)})
	}
	blob := name(object.Value, "default", "events", blobKey)
	if m, err := parsePush(bodyMeta, blob); err != nil || m.key.String() != blobKey || string(m.rec.Value()) != "v" {
		t.Fatalf("a body: %+v, %v", m, err)
	}
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	with := func(row []byte) []byte { return appendPushDeltaMeta(nil, rowKey, row) }
	for claim, m := range map[string][2][]byte{
		"no meta":                 {nil, body},
		"an unknown kind":         {{4}, nil},
		"kind 0":                  {{0}, nil},
		"ready with a body":       {{1}, {1}},
		"ready with more":         {{1, 1}, nil},
		"a delta without sum":     {{2}, body},
		"a delta without key":     {meta[:pushDeltaHead], body},
		"a delta of no second":    {append(bytes.Clone(meta[:pushDeltaHead]), "now:ams"...), body},
		"a damaged delta":         {meta, flip(body, len(body)-1)},
		"a delta cut short":       {with(body[:len(body)-1]), body[:len(body)-1]},
		"a delta that is empty":   {with(index.AppendRow(nil, index.Row{})), index.AppendRow(nil, index.Row{})},
		"a late row's delta":      {appendPushDeltaMeta(nil, event.IndexKey{Epoch: rowKey.Epoch, DC: "ams", Late: true}, body), body},
		"a delta of 1 MiB":        {with(make([]byte, maxPushedRow+1)), make([]byte, maxPushedRow+1)},
		"a body with more meta":   {{3, 0}, blob},
		"a body of nothing":       {bodyMeta, nil},
		"a body cut short":        {bodyMeta, blob[:len(blob)-1]},
		"a damaged header":        {bodyMeta, flip(blob, 10)},
		"a damaged value":         {bodyMeta, flip(blob, len(blob)-1)},
		"a record of 1 MiB":       {bodyMeta, make([]byte, maxPushedBody+1)},
		"a record of elsewhere":   {bodyMeta, name(object.Value, "default", "notes", blobKey)},
		"a record of other types": {bodyMeta, name(object.Value, "other", "events", blobKey)},
		"a record of no key":      {bodyMeta, name(object.Value, "default", "events", "k")},
	} {
		if got, err := parsePush(m[0], m[1]); err == nil {
			t.Errorf("%s: passed as %+v", claim, got)
		}
	}
}

// TestPushQueue: bodies go first, then deltas; what is dropped is counted and let
// go of.
func TestPushQueue(t *testing.T) {
	noBuffersLeft(t, func() {
		const size = 512 // of the smallest buffer
		make1 := func(body bool, id byte) push {
			return push{piece: wire.Piece{Bytes: []byte{id}, Buf: object.NewBuffer(1)}, body: body}
		}
		for _, c := range []struct {
			claim string
			items int
			bytes int64
			add   string // upper case: a delta, lower case: a body
			want  string
			drop  dropped
		}{
			{"all fit", 4, 4 * size, "aBcD", "aBcD", dropped{}},
			{"a body too many", 2, 9 * size, "aBc", "aB", dropped{bodies: 1}},
			{"a body of too many bytes", 9, 2 * size, "aBc", "aB", dropped{bodies: 1}},
			{"a delta pushes bodies out", 3, 9 * size, "abCD", "CD", dropped{bodies: 2}},
			{"a delta pushes bodies out for their bytes", 9, 3 * size, "aBcD", "BD", dropped{bodies: 2}},
			{"deltas do not push deltas out", 2, 9 * size, "ABC", "AB", dropped{deltas: 1}},
			{"nothing fits", 9, size - 1, "aB", "", dropped{bodies: 1, deltas: 1}},
			{"room comes back", 2, 2 * size, "aBCdE", "BC", dropped{bodies: 2, deltas: 1}},
		} {
			q := pushQueue{maxItems: c.items, maxBytes: c.bytes}
			var sum dropped
			for _, id := range []byte(c.add) {
				d := q.add(make1(id >= 'a', id))
				sum.bodies += d.bodies
				sum.deltas += d.deltas
				if len(q.items) > c.items || q.bytes > c.bytes {
					t.Errorf("%s: %d items, %d bytes", c.claim, len(q.items), q.bytes)
				}
			}
			var got []byte
			for p, ok := q.next(); ok; p, ok = q.next() {
				got = append(got, p.piece.Bytes...)
				p.piece.Release()
			}
			if string(got) != c.want || sum != c.drop || q.bytes != 0 || q.bodies != 0 {
				t.Errorf("%s: gave %q, dropped %+v, left %d bytes", c.claim, got, sum, q.bytes)
			}
		}
		q := pushQueue{maxItems: 9, maxBytes: 9 * size}
		q.add(make1(true, 'a'))
		q.add(make1(false, 'B'))
		q.drop()
	})
}

func FuzzParseSubscription(f *testing.F) {
	f.Add(appendSubscription(nil, &Subscription{Bodies: true}))
	f.Add(appendSubscription(nil, &Subscription{DCs: []string{"ams", "fra1"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSubscription(b)
		if err == nil && !bytes.Equal(appendSubscription(nil, &s), b) {
			t.Fatal("what decodes does not encode back")
		}
	})
}

func FuzzParsePush(f *testing.F) {
	meta, body := deltaMessage(rowKey, someRow(f))
	f.Add(meta, body)
	f.Add([]byte{byte(pushReady)}, []byte{})
	rec := record(f, blobKey, 10)
	f.Add(bodyMeta, bytes.Clone(rec.Raw()))
	rec.Release()
	f.Fuzz(func(t *testing.T, meta, body []byte) {
		m, err := parsePush(meta, body)
		if err != nil {
			return
		}
		switch m.kind {
		case pushDelta:
			// One key has two texts, of which the one with a dash is never sent.
			if again, row := deltaMessage(m.row, m.delta); !bytes.Equal(row, body) || len(again) != len(meta) {
				t.Fatal("the delta does not encode back")
			}
		case pushBody:
			if !bytes.Equal(m.rec.Raw(), body) || m.key.String() != string(m.rec.Key) {
				t.Fatal("the body is another one")
			}
		}
	})
}
