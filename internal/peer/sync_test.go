package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
	"github.com/mayflydb/mayfly/ring"
)

var (
	testLane   = Lane{Type: "default", Bucket: "events", Timed: true, Partition: ring.Partition{Bits: 6, Prefix: 10}, Slot: 500_000}
	testSurvey = Survey{All: true, Since: 500_001, Plain: true, Born: 1_800_000_000, Buckets: []SurveyedBucket{
		{Type: "default", Name: "events", Timed: true, Horizon: 7200, Slots: []int64{3, 4}},
		{Type: "default", Name: "notes", Slots: []int64{-1}},
		{Type: "default", Name: "epochs", Timed: true},
	}}
	testPage = Page{Next: 8, Complete: true, Horizon: 7200, Items: []Item{
		{Position: 5, Key: "a", Version: object.Version{TimestampMicros: 9, HeaderCRC: 1, Tombstone: true}, Checksum: 2, ValueBytes: 3},
		{Position: 5, Key: "b", Version: object.Version{TimestampMicros: 10, HeaderCRC: 4}, Checksum: 5, ValueBytes: 6},
	}}
	testDigest = LaneDigest{Complete: true, Horizon: 7200, Minutes: []MinuteDigest{
		{Minute: 30_000_000, Count: 2, Digest: object.Digest{Hi: 1, Lo: 2}}, {Minute: 30_000_002, Count: 1, Digest: object.Digest{Hi: 3, Lo: 4}},
	}}
	testRows = Page{Next: pageEnd, Items: []Item{{Position: 5, Key: "a", Row: object.Digest{Hi: 1, Lo: 2}}}}
)

// TestSyncGolden pins the encodings.
func TestSyncGolden(t *testing.T) {
	head, items := appendPage(nil, nil, &testPage, false)
	rowHead, rows := appendPage(nil, nil, &testRows, true)
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"partition", appendPartition(nil, testLane.Partition), "060a000000"},
		{"page request", appendPageRequest(nil, &testLane, 7), "060a0000000120a1070000000000070064656661756c7406006576656e74730700000000000000"},
		{"survey", appendSurvey(nil, &testSurvey), "0321a10700000000" + "0000d2496b00000000" + "03000000" +
			"070064656661756c7406006576656e747301201c0000000000000200000003000000000000000400000000000000" +
			"070064656661756c7405006e6f74657300000000000000000001000000" + "ffffffffffffffff" +
			"070064656661756c74060065706f63687301000000000000000000000000"},
		{"page head", head, "0800000000000000" + "01" + "201c000000000000" + "01" + "02000000" + "552be0565a7436de"},
		{"items", items, "05000000" + "0900000000000000" + "01000000" + "01" + "0200000000000000" + "03000000" + "010061" +
			"05000000" + "0a00000000000000" + "04000000" + "00" + "0500000000000000" + "06000000" + "010062"},
		{"row page head", rowHead, "0000000001000000" + "00" + "0000000000000000" + "02" + "01000000" + "c8eec02c470fd3d8"},
		{"rows", rows, "05000000" + "0100000000000000" + "0200000000000000" + "010061"},
		{"digest", appendLaneDigest(nil, &testDigest), "01" + "201c000000000000" + "02000000" +
			"80c3c90100000000" + "0200000000000000" + "0100000000000000" + "0200000000000000" +
			"82c3c90100000000" + "0100000000000000" + "0300000000000000" + "0400000000000000"},
		{"version", appendVersion(nil, testPage.Items[0].Version), "09000000000000000100000001"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestSyncDecodes: what is encoded decodes to the same.
func TestSyncDecodes(t *testing.T) {
	if l, from, err := parsePageRequest(appendPageRequest(nil, &testLane, 7)); err != nil || l != testLane || from != 7 {
		t.Errorf("%+v, %d, %v", l, from, err)
	}
	if s, err := parseSurvey(appendSurvey(nil, &testSurvey)); err != nil || !reflect.DeepEqual(s, testSurvey) {
		t.Errorf("%+v, %v", s, err)
	}
	if l, err := parseLane(appendLane(nil, &testLane)); err != nil || l != testLane {
		t.Errorf("%+v, %v", l, err)
	}
	if d, err := parseLaneDigest(appendLaneDigest(nil, &testDigest)); err != nil || !reflect.DeepEqual(d, testDigest) {
		t.Errorf("%+v, %v", d, err)
	}
	for _, rows := range []bool{false, true} {
		page := testPage
		if rows {
			page = testRows
		}
		head, items := appendPage(nil, nil, &page, rows)
		if p, err := parsePage(head, items, 0); err != nil || !reflect.DeepEqual(p, page) {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

// TestSyncRefuses: what is not well-formed is refused, each for its reason.
func TestSyncRefuses(t *testing.T) {
	page := func(change func(p *Page)) ([]byte, []byte) {
		p := testPage
		p.Items = append([]Item(nil), p.Items...)
		change(&p)
		return appendPage(nil, nil, &p, false)
	}
	head, items := appendPage(nil, nil, &testPage, false)
	backHead, backItems := page(func(p *Page) { p.Items[0].Position = 6 })
	nowhereHead, nowhereItems := page(func(p *Page) { p.Next = 5; p.Items = nil })
	beyondHead, beyondItems := page(func(p *Page) { p.Next = 5 })
	changed := func(b []byte, at int, to byte) []byte { b = bytes.Clone(b); b[at] = to; return b }
	for _, c := range []struct {
		claim       string
		head, items []byte
		from        uint64
	}{
		{"a damaged item", head, changed(items, 4, 77), 0},
		{"more items than bytes", changed(head, 20, 1), items, 0},
		{"another kind", changed(head, 17, 3), items, 0},
		{"a flag that is none", changed(head, 8, 2), items, 0},
		{"positions that descend", backHead, backItems, 0},
		{"a page before the one that was asked for", head, items, 6},
		{"a page that goes nowhere", nowhereHead, nowhereItems, 5},
		{"an item behind the page's end", beyondHead, beyondItems, 0},
		{"a head that is cut short", head[:20], items, 0},
		{"no head", nil, nil, 0},
	} {
		if p, err := parsePage(c.head, c.items, c.from); !errors.Is(err, errArguments) {
			t.Errorf("%s: %+v, %v", c.claim, p, err)
		}
	}
	s := appendSurvey(nil, &testSurvey)
	for at := range s {
		if _, err := parseSurvey(s[:at]); !errors.Is(err, errArguments) {
			t.Errorf("a survey cut at %d: %v", at, err)
		}
	}
	r := appendPageRequest(nil, &testLane, 7)
	for at := range r {
		if _, _, err := parsePageRequest(r[:at]); !errors.Is(err, errArguments) {
			t.Errorf("a page request cut at %d: %v", at, err)
		}
	}
	d := appendLaneDigest(nil, &testDigest)
	for at := range d {
		if _, err := parseLaneDigest(d[:at]); !errors.Is(err, errArguments) {
			t.Errorf("a digest cut at %d: %v", at, err)
		}
	}
	for claim, bad := range map[string][]byte{
		"a minute of nothing": changed(d, 21, 0), "minutes that descend": changed(d, 13, 0x90), "a flag that is none": changed(d, 0, 2),
	} {
		if _, err := parseLaneDigest(bad); !errors.Is(err, errArguments) {
			t.Errorf("%s: %v", claim, err)
		}
	}
	plain := testLane
	plain.Timed = false
	if _, _, err := parsePageRequest(appendPageRequest(nil, &plain, 7)); err == nil {
		t.Error("a slot of a plain bucket passed")
	}
	if _, err := parsePartition([]byte{2, 4, 0, 0, 0}); err == nil {
		t.Error("a partition outside its ring passed")
	}
	if _, err := parseOver(make([]byte, 12)); err == nil {
		t.Error("half a version passed")
	}
}

func FuzzParseSurvey(f *testing.F) {
	f.Add(appendSurvey(nil, &testSurvey))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSurvey(b)
		if err == nil && !bytes.Equal(appendSurvey(nil, &s), b) {
			t.Error("what decodes does not encode back")
		}
	})
}

func FuzzParseLaneDigest(f *testing.F) {
	f.Add(appendLaneDigest(nil, &testDigest))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseLaneDigest(b)
		if err == nil && !bytes.Equal(appendLaneDigest(nil, &d), b) {
			t.Error("what decodes does not encode back")
		}
	})
}

func FuzzParsePageRequest(f *testing.F) {
	f.Add(appendPageRequest(nil, &testLane, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, from, err := parsePageRequest(b)
		if err == nil && !bytes.Equal(appendPageRequest(nil, &l, from), b) {
			t.Error("what decodes does not encode back")
		}
	})
}

func FuzzParsePage(f *testing.F) {
	head, items := appendPage(nil, nil, &testPage, false)
	f.Add(head[:pageHeadSize-8], items, uint64(0))
	head, items = appendPage(nil, nil, &testRows, true)
	f.Add(head[:pageHeadSize-8], items, uint64(5))
	f.Fuzz(func(t *testing.T, head, items []byte, from uint64) {
		head = appendSum(bytes.Clone(head), items) // or nothing would ever pass
		p, err := parsePage(head, items, from)
		if err != nil {
			return
		}
		again, body := appendPage(nil, nil, &p, head[17] == kindOfRows)
		if !bytes.Equal(again, head) || !bytes.Equal(body, items) {
			t.Error("what decodes does not encode back")
		}
	})
}

func FuzzParseOver(f *testing.F) {
	f.Add(appendVersion(nil, testPage.Items[0].Version))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseOver(b)
		if err == nil && len(b) > 0 && !bytes.Equal(appendVersion(nil, v), b) {
			t.Error("what decodes does not encode back")
		}
	})
}

func FuzzParsePartition(f *testing.F) {
	f.Add(appendPartition(nil, testLane.Partition))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePartition(b)
		if err == nil && !bytes.Equal(appendPartition(nil, p), b) {
			t.Error("what decodes does not encode back")
		}
	})
}

// A fakeSync is what a SyncHandler serves, and what it was asked.
type fakeSync struct {
	survey Survey
	page   Page
	rows   bool
	digest LaneDigest
	err    error

	lane  Lane
	from  uint64
	asked ring.Partition
	rec   string
	over  object.Version
}

func (f *fakeSync) Survey(_ context.Context, p ring.Partition) (Survey, error) {
	f.asked = p
	return f.survey, f.err
}

func (f *fakeSync) Page(_ context.Context, lane Lane, from uint64) (Page, bool, error) {
	f.lane, f.from = lane, from
	return f.page, f.rows, f.err
}

func (f *fakeSync) Digest(_ context.Context, lane Lane) (LaneDigest, error) {
	f.lane = lane
	return f.digest, f.err
}

func (f *fakeSync) RepairRecord(_ context.Context, rec object.Record, over object.Version) error {
	f.rec, f.over = string(rec.Raw()), over
	return f.err
}

// syncRig is a rig whose server serves merging.
func syncRig(t *testing.T, f *fakeSync, version ring.Version) (*rig, *SyncHandler) {
	t.Helper()
	r := newRig(t, nil)
	r.local.setVersion(version)
	h := NewSyncHandler(SyncHandlerConfig{Local: f, Cluster: cluster, History: func() ring.Version { return version }})
	r.srv = serverFor(h, r.local)
	r.net.listen(r.srv)
	if err := r.peer.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, h
}

// TestSyncOverTheWire: what is asked arrives, and what is answered comes back.
func TestSyncOverTheWire(t *testing.T) {
	noBuffersLeft(t, func() {
		f := &fakeSync{survey: testSurvey, page: testPage, digest: testDigest}
		v := ring.Version{Era: 1, Index: 4}
		r, h := syncRig(t, f, v)
		defer r.close()
		s := r.peer.Sync(func() ring.Version { return v })
		if got, err := s.Survey(t.Context(), testLane.Partition); err != nil || !reflect.DeepEqual(got, testSurvey) || f.asked != testLane.Partition {
			t.Errorf("survey of %v: %+v, %v", f.asked, got, err)
		}
		if got, err := s.Page(t.Context(), testLane, 5); err != nil || !reflect.DeepEqual(got, testPage) || f.lane != testLane || f.from != 5 {
			t.Errorf("page of %+v from %d: %+v, %v", f.lane, f.from, got, err)
		}
		f.lane = Lane{}
		if got, err := s.Digest(t.Context(), testLane); err != nil || !reflect.DeepEqual(got, testDigest) || f.lane != testLane {
			t.Errorf("digest of %+v: %+v, %v", f.lane, got, err)
		}
		f.page, f.rows = testRows, true
		if got, err := s.Page(t.Context(), testLane, 0); err != nil || !reflect.DeepEqual(got, testRows) {
			t.Errorf("rows: %+v, %v", got, err)
		}
		rec := record(t, blobKey, 100)
		defer rec.Release()
		for _, over := range []object.Version{{}, rec.Version()} {
			if err := s.RepairRecord(t.Context(), rec, over); err != nil || f.rec != string(rec.Raw()) || f.over != over {
				t.Errorf("repair over %+v, asked %+v: %v", f.over, over, err)
			}
		}
		f.err = object.Errorf(object.CodeConflict, object.NotDone, "no")
		for what, err := range map[string]error{
			"survey": second(s.Survey(t.Context(), testLane.Partition)),
			"page":   second(s.Page(t.Context(), testLane, 0)),
			"digest": second(s.Digest(t.Context(), testLane)),
			"repair": s.RepairRecord(t.Context(), rec, object.Version{}),
		} {
			want(t, what, object.AsError(err), object.CodeConflict, object.NotDone)
		}
		if st := h.Stats(); st != (SyncStats{Surveys: 2, Pages: 3, Repairs: 3, Digests: 2, Items: 3}) {
			t.Errorf("%+v", st)
		}
		if st := r.peer.Stats(); st.InFlightBytes != 0 || st.InFlightRequests != 0 {
			t.Errorf("still under way: %+v", st)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestSyncRefusals: strangers, other histories and what cannot be decoded.
func TestSyncRefusals(t *testing.T) {
	v := ring.Version{Era: 1, Index: 4}
	r, h := syncRig(t, &fakeSync{page: testPage}, v)
	defer r.close()
	for _, c := range []struct {
		claim  string
		theirs ring.Version
		code   object.Code
	}{
		{"a newer history", ring.Version{Era: 1, Index: 5}, object.CodeUnavailable},
		{"a newer era", ring.Version{Era: 2}, object.CodeUnavailable},
	} {
		_, err := r.peer.Sync(func() ring.Version { return c.theirs }).Page(t.Context(), testLane, 0)
		want(t, c.claim, object.AsError(err), c.code, object.NotDone)
	}
	if _, err := r.peer.Sync(func() ring.Version { return ring.Version{Era: 1, Index: 3} }).Page(t.Context(), testLane, 0); err != nil {
		t.Errorf("an older history: %v", err)
	}
	conn := r.peer.lines[bulkLine].current()
	for conn == nil {
		if err := r.peer.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, _ = r.peer.pick(true, r.peer.start)
	}
	good := appendPageRequest(nil, &testLane, 0)
	for _, c := range []struct {
		claim string
		call  wire.Call
		code  object.Code
	}{
		{"another class", wire.Call{Op: OpSyncPage, Class: wire.Get, Meta: good}, object.CodeBadRequest},
		{"no arguments", wire.Call{Op: OpSyncPage, Class: wire.Repair}, object.CodeBadRequest},
		{"a body", wire.Call{Op: OpSyncPage, Class: wire.Repair, Meta: good, Body: []wire.Piece{{Bytes: []byte("x")}}}, object.CodeBadRequest},
		{"no partition", wire.Call{Op: OpSyncSurvey, Class: wire.Repair}, object.CodeBadRequest},
		{"no lane", wire.Call{Op: OpSyncDigest, Class: wire.Repair, Meta: good}, object.CodeBadRequest},
		{"a repair that is no record", wire.Call{Op: OpSyncRepair, Class: wire.Repair, Body: []wire.Piece{{Bytes: []byte("x")}}}, object.CodeBadRequest},
		{"a repair over nonsense", wire.Call{Op: OpSyncRepair, Class: wire.Repair, Meta: []byte("x")}, object.CodeBadRequest},
		{"another operation", wire.Call{Op: 200, Class: wire.Repair}, object.CodeUnsupported},
	} {
		c.call.History = wire.History(v)
		_, err := conn.Call(t.Context(), &c.call)
		want(t, c.claim, object.AsError(err), c.code, object.NotDone)
	}
	if st := h.Stats(); st.Refused != 10 {
		t.Errorf("%+v", st)
	}
	r.net.listen(nil)
	r.net.cut()
}

// TestSyncCatchesUp: a node that is behind learns the history of the request before
// it answers, or does not answer.
func TestSyncCatchesUp(t *testing.T) {
	ours, theirs := ring.Version{Era: 1, Index: 4}, ring.Version{Era: 1, Index: 6}
	for _, c := range []struct {
		claim string
		upTo  ring.Version
		err   error
		code  object.Code // 0: it is answered
	}{
		{"it catches up", theirs, nil, 0},
		{"it learns a newer one", ring.Version{Era: 1, Index: 9}, nil, 0},
		{"it learns another one", ring.Version{Era: 1, Index: 5}, nil, object.CodeUnavailable},
		{"it cannot", ours, errors.New("nobody has it"), object.CodeUnavailable},
	} {
		f := &fakeSync{survey: testSurvey}
		r := newRig(t, nil)
		r.local.setVersion(ours)
		present := ours
		var from ring.NodeID
		h := NewSyncHandler(SyncHandlerConfig{Local: f, Cluster: cluster, History: func() ring.Version { return present },
			CatchUp: func(_ context.Context, v ring.Version, node ring.NodeID) error {
				if f.asked != (ring.Partition{}) || v != theirs {
					t.Errorf("%s: it was asked before it caught up with %v", c.claim, v)
				}
				present, from = c.upTo, node
				return c.err
			}})
		r.srv = serverFor(h, r.local)
		r.net.listen(r.srv)
		if err := r.peer.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := r.peer.Sync(func() ring.Version { return theirs }).Survey(t.Context(), testLane.Partition)
		if e := object.AsError(err); c.code == 0 && err != nil || c.code != 0 && (err == nil || e.Code != c.code) {
			t.Errorf("%s: %v", c.claim, err)
		}
		if from.IsZero() || h.Stats().CatchUps != 1 {
			t.Errorf("%s: from %v, %+v", c.claim, from, h.Stats())
		}
		r.close()
	}
}

// TestSyncWithoutConnection: a request fails at once and takes nothing.
func TestSyncWithoutConnection(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.net.listen(nil)
	s := r.peer.Sync(func() ring.Version { return ring.Version{} })
	if _, err := s.Survey(t.Context(), testLane.Partition); !errors.Is(err, object.CodeUnavailable) {
		t.Errorf("%v", err)
	}
	if st := r.peer.Stats(); st.InFlightRequests != 0 || st.Disconnected != 1 {
		t.Errorf("%+v", st)
	}
}

// TestSyncsIsApart: no operation is served by both handlers.
func TestSyncsIsApart(t *testing.T) {
	for op := range 256 {
		if Serves(uint8(op)) && Syncs(uint8(op)) {
			t.Errorf("operation %d", op)
		}
	}
}
