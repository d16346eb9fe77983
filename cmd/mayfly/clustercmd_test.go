package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/native/proto"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// TestClusterGrows follows three members that become six, as it is shown.
func TestClusterGrows(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.join(4, 6)
	same(t, f.must("status"), `
cluster:      test, version 1.4; slots of 1h, 8 partitions of 3 owners
agreement:    n1 leads; voters: n1, n2, n3
change:       none under way
staged:       n4 joins; n5 joins; n6 joins ("mayfly cluster plan" shows what it means)

MEMBER  ZONE  WEIGHT  STATE    UP   PARTITIONS  STORED    FREE     TO-GET
n1      a     100     valid    yes  8           24.0 MiB  1.0 TiB  -
n2      b     100     valid    yes  8           24.0 MiB  1.0 TiB  -
n3      c     100     valid    yes  8           24.0 MiB  1.0 TiB  -
n4      a     100     joining  yes  0           0 B       1.0 TiB  -
n5      b     100     joining  yes  0           0 B       1.0 TiB  -
n6      c     100     joining  yes  0           0 B       1.0 TiB  -

copying:      nothing: every owner has what it must have
copies:       all known data has 3 copies, whole, on members that answer`)
	same(t, f.must("plan"), `
cluster:      test, version 1.4
staged:       n4 joins; n5 joins; n6 joins
new ring:     8 partitions of 3 owners, from slot 498866, 2026-11-29 02:00:00 UTC (in 1h), or a later one

NODE  ZONE  WEIGHT  FATE   BEFORE  AFTER  FAIR  TO-GET
n1    a     100     stays  8       4      4.0   0 B
n2    b     100     stays  8       4      4.0   0 B
n3    c     100     stays  8       4      4.0   0 B
n4    a     100     joins  0       4      4.0   4.0 KiB
n5    b     100     joins  0       4      4.0   4.0 KiB
n6    c     100     joins  0       4      4.0   4.0 KiB

moves now:    0 B of timed data, 12.0 KiB of plain data
never moves:  72.0 MiB of timed data: it expires where it is
balanced:     2026-12-09 02:00:00 UTC (in 10d1h), when all older data has expired

"mayfly cluster commit" does this, "mayfly cluster clear" takes it back.`)
	f.poll = func() { f.promise() }
	same(t, f.must("commit", "--yes"), `
note: slot 498866 is proposed; waiting for n1, n2, n3, n4, n5, n6
committed as version 1.11: fixed: the newest ring counts from slot 498866, 2026-11-29 02:00:00 UTC (in 1h)`)
	f.poll = nil
	same(t, f.must("status"), `
cluster:      test, version 1.11; slots of 1h, 8 partitions of 3 owners
agreement:    n1 leads; voters: n1, n2, n3
change:       fixed: the newest ring counts from slot 498866, 2026-11-29 02:00:00 UTC (in 1h)

MEMBER  ZONE  WEIGHT  STATE  UP   PARTITIONS  STORED    FREE     TO-GET
n1      a     100     valid  yes  4           24.0 MiB  1.0 TiB  -
n2      b     100     valid  yes  4           24.0 MiB  1.0 TiB  -
n3      c     100     valid  yes  4           24.0 MiB  1.0 TiB  -
n4      a     100     valid  yes  4           0 B       1.0 TiB  4.0 KiB
n5      b     100     valid  yes  4           0 B       1.0 TiB  4.0 KiB
n6      c     100     valid  yes  4           0 B       1.0 TiB  4.0 KiB

copying:      12.0 KiB to get; rate not known yet; 12 partitions not known to be whole on a new owner
copies:       all known data has 3 copies, whole, on members that answer`)
	f.complete()
	if got := f.must("status"); !strings.Contains(got, "copying:      nothing: every owner") {
		t.Errorf("when all is copied:\n%s", got)
	}
}

// TestClusterStatusOfTrouble: who is away, what has too few copies, how long it
// takes.
func TestClusterStatusOfTrouble(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.reports[fakeID(3)] = memberReport{err: errors.New("connecting to 10.0.0.3:7070: connection refused")}
	f.change(2, func(r *memberReport) {
		slot := f.doc.History.SlotOf(f.now)
		r.Gaps = []proto.Gap{{Partition: ring.Partition{Bits: 3, Prefix: 1}, From: slot, Until: slot + 1}, {Partition: ring.Partition{Bits: 3, Prefix: 2}, Plain: true}}
		r.Merging = proto.Merging{Partitions: 2, Unattainable: 1, BytesToGet: 3 << 30, BytesPerSecond: 64 << 20}
		r.Disks = append(r.Disks, proto.Disk{Path: "/d2", Failed: "input/output error"}, proto.Disk{Path: "/d3", LowSpace: true}, proto.Disk{ID: "ab12", Failed: "none of the data directories is this disk"})
	})
	f.change(1, func(r *memberReport) {
		r.Gaps = []proto.Gap{{Partition: ring.Partition{Bits: 3, Prefix: 2}, Plain: true}}
		r.Agreement = proto.Agreement{Role: "voter", Voters: r.Agreement.Voters}
	})
	f.apply(agreed.Command{Kind: agreed.Down, Node: fakeID(3)})
	same(t, f.must("status"), `
cluster:      test, version 1.2; slots of 1h, 8 partitions of 3 owners
agreement:    n1 leads; voters: n1, n2, n3
change:       none under way

MEMBER  ZONE  WEIGHT  STATE        UP   PARTITIONS  STORED    FREE     TO-GET
n1      a     100     valid        yes  8           24.0 MiB  1.0 TiB  -
n2      b     100     valid        yes  8           24.0 MiB  1.0 TiB  3.0 GiB
n3      c     100     valid, down  NO   8           ?         ?        ?

copying:      3.0 GiB to get; 64.0 MiB/s, about 48s
copies:       24.0 MiB in 8 partitions of 3 slots have fewer than 3; of these 1.0 KiB in 1 partition have none that is known to be whole
n2:           /d2: input/output error
n2:           /d3 is nearly full and takes no puts
n2:           disk ab12: none of the data directories is this disk
n2:           lacks something in 1 partition of which too few others can be reached
n3:           does not answer: connecting to 10.0.0.3:7070: connection refused`)
	var s statusJSON
	if err := json.Unmarshal([]byte(f.must("status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Short.Bytes != 24<<20+8<<10 || s.None.Bytes != 1<<10 || s.Handing.ToGet != 3<<30 || s.Members[2].Up || s.Members[1].Unattainable != 1 || len(s.Voters) != 3 {
		t.Errorf("%+v", s)
	}
}

// TestClusterStatusWithoutMajority: how many voters answer, how many must, and what
// data is out of reach.
func TestClusterStatusWithoutMajority(t *testing.T) {
	f := newFakeAdmin(t, 5)
	gone := func(i int) {
		f.reports[fakeID(i)] = memberReport{err: errors.New("connection refused")}
	}
	remembers := ring.NodeID{} // who the others think leads
	status := func() string {
		t.Helper()
		for i := range f.reports {
			r := f.reports[i]
			r.Agreement = proto.Agreement{Role: "voter", Leader: remembers, Voters: []ring.NodeID{fakeID(1), fakeID(2), fakeID(3), fakeID(4), fakeID(5)}}
			f.reports[i] = r
		}
		return f.must("status")
	}
	has := func(want string) {
		t.Helper()
		if got := status(); !strings.Contains(got, want+"\n") {
			t.Errorf("got\n%s\nwant a line\n%s", got, want)
		}
	}
	gone(2)
	gone(4)
	has("agreement:    no leader is known, changes are refused: try again; voters: n1, n2, n3, n4, n5")
	remembers = fakeID(4)
	has("agreement:    n4 leads, as far as the others know, and does not answer: changes may be refused until another one leads; voters: n1, n2, n3, n4, n5")
	gone(5)
	has(`agreement:    no leader: 2 of 5 voters answer, and changes need 3. They are refused; data is served where enough owners answer. Start the others, or see "mayfly cluster recover --help"; voters: n1, n2, n3, n4, n5`)
	has("owners:       of 4 partitions fewer than 2 of 3 owners answer: what needs as many fails there until they are back")
	gone(3)
	has("owners:       of 8 partitions fewer than 2 of 3 owners answer, of 4 none: what needs as many fails there until they are back")
}

// TestClusterMembers lists those that have left as well.
func TestClusterMembers(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.join(4, 4)
	same(t, f.must("members"), `
MEMBER  ID                                ZONE  WEIGHT  STATE    UP   ROLE    VERSION  ADDRESS        DISKS
n1      01000000000000000000000000000000  a     100     valid    yes  leader  1.1      10.0.0.1:7070  01010000000000000000000000000000
n2      02000000000000000000000000000000  b     100     valid    yes  voter   1.1      10.0.0.2:7070  02010000000000000000000000000000
n3      03000000000000000000000000000000  c     100     valid    yes  voter   1.1      10.0.0.3:7070  03010000000000000000000000000000
n4      04000000000000000000000000000000  a     100     joining  yes  voter   1.2      10.0.0.4:7070  04010000000000000000000000000000`)
	var out struct{ Members []memberJSON }
	if err := json.Unmarshal([]byte(f.must("members", "--json")), &out); err != nil || len(out.Members) != 4 || out.Members[3].State != "joining" {
		t.Errorf("%v, %+v", err, out)
	}
}

// TestLossIsRefused: what would lose the last copy of something, with what, how
// much, and what to do; --accept-loss does it all the same.
func TestLossIsRefused(t *testing.T) {
	f := newFakeAdmin(t, 3)
	for _, i := range []int{1, 2} {
		f.change(i, func(r *memberReport) {
			r.Gaps = []proto.Gap{{Partition: ring.Partition{Bits: 3, Prefix: 1}, From: 498864, Until: 498866}, {Partition: ring.Partition{Bits: 3, Prefix: 2}, Plain: true}}
		})
	}
	f.must("remove", "n3", "--lost")
	const why = `refused, it would lose the last copy of data: without "n3" nobody has all of
  timed data  2.0 MiB in 1 partition of 2 slots, from 2026-11-29 00:00:00 UTC to 2026-11-29 02:00:00 UTC
  plain data  1.0 KiB in 1 partition
Bring back who has it, or wait until others have all ("mayfly cluster status --wait").
To give it up for good: mayfly cluster commit --accept-loss
To take back what is staged: mayfly cluster clear`
	f.refuses([]badInput{
		{"plan", 1, "cluster plan: " + why},
		{"commit --yes", 1, "cluster commit: " + why},
		{"remove n3 --lost --wait --yes", 1, "cluster remove: " + why},
	})
	if f.doc.Change.Phase != ring.Idle {
		t.Fatal("it was committed")
	}
	f.poll = func() { f.promise() }
	if got := f.must("commit", "--yes", "--accept-loss", "--json"); !strings.Contains(got, `"timed_bytes":2097152`) || !strings.Contains(got, `"phase":"fixed"`) {
		t.Errorf("accepted: %s", got)
	}
	if m, _ := f.doc.Member(fakeID(3)); m.State != agreed.Lost {
		t.Errorf("n3 is %v", m.State)
	}
	f.poll = nil
	f.must("weight", "n1", "200")
	if got := f.must("plan"); strings.Contains(got, "\nn3 ") || !strings.Contains(got, "\nn1 ") {
		t.Errorf("a plan that n3 has nothing to do with:\n%s", got)
	}
}

// What a member does not say it is not taken to have, unless it is that member
// that is given up: what it may have had goes with it.
func TestSilentMembersAreNoCopies(t *testing.T) {
	for _, c := range []struct {
		claim  string
		silent []int
		lost   []string
		want   string // names of those without whom something is lost; "": nothing is
	}{
		{"one is dead and given up, the others have all", []int{3}, []string{"n3"}, ""},
		{"two are dead, and one is given up: the third has all", []int{2, 3}, []string{"n3"}, ""},
		{"two are dead and given up: the third has all", []int{2, 3}, []string{"n2", "n3"}, ""},
		{"all others are silent", []int{1, 2}, []string{"n3"}, `"n3"`},
		{"all are silent, and one is given up", []int{1, 2, 3}, []string{"n3"}, `"n3"`},
		{"all that had something are given up", []int{1, 2, 3}, []string{"n1", "n2", "n3"}, `"n1", "n2", "n3"`},
	} {
		f := newFakeAdmin(t, 3)
		f.join(4, 6)
		for _, i := range c.silent {
			f.change(i, func(r *memberReport) { *r = memberReport{err: errors.New("gone")} })
		}
		for _, name := range c.lost {
			f.must("remove", name, "--lost")
		}
		r := f.run("plan")
		refused := "without " + c.want + " nobody has all of"
		if c.want == "" && r.status != 0 || c.want != "" && !strings.Contains(r.stderr, refused) {
			t.Errorf("%s: status %d, %s", c.claim, r.status, r.stderr)
		}
		if unknown := "timed data  an unknown amount in 8 partitions"; strings.Contains(r.stderr, unknown) != (len(c.silent) == 3) {
			t.Errorf("%s: %s, want %q where nobody answers who has it", c.claim, r.stderr, unknown)
		}
	}
}

// TestChangesOfMembers: each command stages what it says, and says what next.
func TestChangesOfMembers(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.join(4, 5)
	next := "\n\"mayfly cluster plan\" shows what it means, \"mayfly cluster commit\" does it"
	for _, c := range []struct{ args, want string }{
		{"clear n5", "nothing is staged for n5 any more"},
		{"join n5", "staged: n4 joins; n5 joins" + next},
		{"join n5", "nothing changed: it was so before"},
		{"clear", "nothing is staged any more"},
		{"clear", "nothing was staged"},
		{"clear n5", "nothing was staged for n5"},
		{"weight n5 200", "n5 joins with weight 200"},
		{"weight n1 100", "nothing changed: n1 has weight 100 already"},
		{"zone n1 a", `nothing changed: n1 has zone "a" already`},
		{"weight n1 200", "staged: n1 gets weight 200" + next},
		{"zone n2 rack-7", `staged: n1 gets weight 200; n2 moves to zone "rack-7"` + next},
		{"replace n3 n4", `staged: n1 gets weight 200; n2 moves to zone "rack-7"; n4 takes the place of n3` + next},
		{"replace n3 n4 --lost", `staged: n1 gets weight 200; n2 moves to zone "rack-7"; n3 is lost, n4 takes its place` + next},
		{"clear n3", "nothing is staged for n3 any more"},
		{"leave n3", `staged: n1 gets weight 200; n2 moves to zone "rack-7"; n3 leaves` + next},
		{"remove n3 --lost", `staged: n1 gets weight 200; n2 moves to zone "rack-7"; n3 is lost` + next},
		{"fill", `staged: n1 gets weight 200; n2 moves to zone "rack-7"; n3 is lost; rings made with fewer nodes are filled up` + next},
		{"leave n5", "n5 had no places and is forgotten: stop it, for it asks to join again when it is started"},
		{"weight " + fakeID(1).String() + " 300 --json", `{"version":"1.17","changed":true,"staged":["n2 moves to zone \"rack-7\"","n3 is lost","rings made with fewer nodes are filled up","n1 gets weight 300"],"notes":[]}`},
	} {
		same(t, f.must(strings.Fields(c.args)...), c.want)
	}
	f.refuses([]badInput{
		{"leave n9", 2, `there is no member "n9"; the members are n1, n2, n3, n4`},
		{"leave", 2, `leave takes the name of a member; "mayfly cluster leave --help" explains`},
		{"leave n1 --yes", 2, `--yes and --accept-loss belong to what is committed: add --wait, or give them to "mayfly cluster commit"`},
		{"join n1", 1, `cluster join: node "n1" is valid: it cannot be asked to join`},
		{"replace n1 n2", 1, `cluster replace: node "n2", which is to replace node "n1", is valid and has places of its own: replace it by a node that has just joined`},
		{"remove n1", 2, `cluster remove: a member that answers hands over what it has with "mayfly cluster leave n1"; if it is gone for good, add --lost`},
		{"weight n1 0", 2, `the weight "0" is not a whole number from 1 to 1048576`},
		{"weight n1 1048577", 2, `the weight "1048577" is not a whole number from 1 to 1048576`},
		{"weight n1 -5", 2, `there is no flag -5, and nothing here can be negative; "mayfly cluster weight --help" explains`},
		{"weight n1 much", 2, `the weight "much" is not a whole number from 1 to 1048576`},
		{"commit", 2, `cluster commit asks before it does this, and there is nobody to ask: add --yes`},
		{"cancel", 1, `cluster cancel: there is nothing to give up: no change is being prepared`},
		{"staus", 2, `there is no command "staus"; did you mean "status"? "mayfly cluster --help" lists them all`},
		{"staus --wait", 2, `there is no command "staus"; did you mean "status"? "mayfly cluster --help" lists them all`},
		{"--wait status", 2, `flags come behind the command that has them: "mayfly cluster status --help" lists them`},
		{"--wiat", 2, `there is no flag --wiat; did you mean --set? "mayfly cluster --help" explains`},
		{"bucket lst --node a:1", 2, `there is no command "lst"; did you mean "list"? "mayfly cluster bucket --help" lists them all`},
		{"plan --from -5", 2, `--from: -5 is no slot: they are counted from 1970 on; 0 is as early as can be`},
		{"plan --from 999999", 1, `cluster plan: slot 999999 is too far ahead: a change committed now can begin with a slot between 498866 and 498890`},
		{"commit --from -5 --yes", 2, `--from: -5 is no slot: they are counted from 1970 on; 0 is as early as can be`},
		{"leave n1 --wait", 2, `cluster leave asks before it does this, and there is nobody to ask: add --yes`},
	})
	f.must("clear")
	f.must("clear")
	if len(f.doc.Staged) != 0 {
		t.Errorf("staged by a command that was refused: %+v", f.doc.Staged)
	}
	f.refuses([]badInput{{"plan", 1, `cluster plan: nothing is staged: a node that starts with --join stages its joining, "mayfly cluster --help" lists what else can be`}})
}

// Nobody commits what he has not seen.
func TestCommitOfSomethingElse(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.join(4, 4)
	f.asked = func() { // the plan is being made, and somebody else comes
		f.asked = nil
		f.apply(agreed.Command{Kind: agreed.Stage, Stage: agreed.Staged{Kind: agreed.StageLeave, Node: fakeID(1)}})
	}
	f.refuses([]badInput{{"commit --yes", 1, "cluster commit: what is staged has changed since you looked at it: look at the plan again, then commit"}})
}

// TestCommitWaits until all have promised, across rounds; what is interrupted
// goes on by itself.
func TestCommitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAdmin(t, 3)
		f.join(4, 4)
		start := time.Now()
		f.poll = func() {
			switch f.polls {
			case 4:
				f.promise(fakeID(1), fakeID(2))
			case 6: // too late: it is proposed again
				f.now += 2 * 3600
				f.apply(agreed.Command{Kind: agreed.Tick})
			case 7:
				f.err = object.Errorf(object.CodeUnavailable, object.NotDone, "no node answers")
			case 8:
				f.err = nil
				f.promise()
			}
		}
		got := f.must("commit", "--yes")
		if !strings.Contains(got, "fixed: the newest ring counts from slot 498868") {
			t.Errorf("got %s", got)
		}
		if took := time.Since(start); took != 6*documentPause {
			t.Errorf("it took %v", took)
		}

		f.must("leave", "n4")
		f.poll, f.polls = nil, 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := f.runIn(ctx, "commit", "--yes")
		want := `the change goes on by itself and waits for n1, n2, n3, n4; "mayfly cluster status" shows it, "mayfly cluster cancel" gives it up`
		if r.status != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("status %d, %s", r.status, r.stderr)
		}
		if want := "waiting for the promise of n1, n2, n3, n4; \"mayfly cluster cancel\" gives the change up\n"; strings.Count(r.stderr, want) != 1 {
			t.Errorf("it waits and says %q", r.stderr)
		}
		f.refuses([]badInput{{"plan", 1, `cluster plan: nothing is staged; what was committed is being prepared and waits for n1, n2, n3, n4: "mayfly cluster status" shows it, "mayfly cluster cancel" gives it up`}})
		same(t, f.must("clear"), `nothing was staged; the change that is being prepared is given up with "mayfly cluster cancel"`)
		if got := f.must("status"); !strings.Contains(got, "change:       being prepared, round 3, to count from slot") || !strings.Contains(got, "waiting for n1, n2, n3, n4") {
			t.Errorf("got %s", got)
		}
		f.refuses([]badInput{{"leave n4 --wait --yes", 1, `cluster leave: a change is pending, for slot 498869, and waits for n1, n2, n3, n4: wait until it is fixed, cancel it, or remove as lost whom it waits for; nothing else can be added`}})
		same(t, f.must("cancel"), "note: the change was given up\nwhat it was made of is staged again; \"mayfly cluster clear\" takes that back")

		f.polls = 0
		f.poll = func() {
			if f.polls == 4 {
				f.apply(agreed.Command{Kind: agreed.Cancel})
			}
		}
		r = f.run("commit", "--yes")
		same(t, r.stdout, "note: slot 498869 is proposed; waiting for n1, n2, n3, n4")
		same(t, r.stderr, "mayfly: cluster commit: the change was given up by somebody else; what it was made of is staged again")
	})
}

// TestLeaveWaits until all is whole elsewhere and the member has left.
func TestLeaveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAdmin(t, 4)
		done := false
		f.poll = func() {
			f.promise()
			if m, _ := f.doc.Member(fakeID(4)); m.State == agreed.Leaving && time.Since(time.Unix(946684800, 0)) > 30*time.Second && !done {
				f.complete()
				done = true
			}
		}
		r := f.run("leave", "n4", "--wait", "--yes")
		same(t, r.stdout, "n4 has left; all it had is whole on others, by their digests: it may be switched off, its data removed")
		if r.status != 0 || !strings.HasPrefix(r.stderr, "note: slot") || !done {
			t.Errorf("status %d, %s", r.status, r.stderr)
		}
		f.poll = nil
		same(t, strings.Split(f.must("status", "--wait"), "\n")[2], "change:       fixed: the newest ring counts from slot 498866, 2026-11-29 02:00:00 UTC (in 1h)")
	})
}

// TestNodesBehind: a command that is answered by one node and then by another never
// goes back.
func TestNodesBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAdmin(t, 3)
		f.join(4, 4)
		old := f.doc
		f.must("clear")
		r := &clusterRun{app: &app{}, clusterAdmin: f, seen: new(ring.Version)}
		if d, err := r.document(t.Context()); err != nil || d != f.doc {
			t.Fatalf("%v", err)
		}
		newest := f.doc
		f.doc, f.polls = old, 0
		f.poll = func() {
			if f.polls == 5 {
				f.doc = newest
			}
		}
		if d, err := r.document(t.Context()); err != nil || d != newest {
			t.Errorf("a document of version %v, %v", d.Version, err)
		}
		f.doc, f.poll = old, nil
		if _, err := r.document(t.Context()); err == nil || err.Error() != "version 1.3 of what is agreed is not known to the nodes that were asked; try again" {
			t.Errorf("nobody knows it: %v", err)
		}
	})
}

// TestWithoutMajority: a change that cannot be agreed says so, and what may be
// assumed.
func TestWithoutMajority(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.err = object.Errorf(object.CodeUnavailable, object.MaybeDone, "2 of 3 voters do not answer")
	r := &clusterRun{app: &app{}, clusterAdmin: f, seen: new(ring.Version)}
	if _, _, err := r.propose(t.Context(), agreed.Command{Kind: agreed.Clear}); err == nil ||
		err.Error() != `2 of 3 voters do not answer (it may have been done all the same: "mayfly cluster status" tells)` {
		t.Errorf("%v", err)
	}
}

func TestClusterBuckets(t *testing.T) {
	f := newFakeAdmin(t, 3)
	same(t, f.must("bucket", "list"), `
BUCKET  TIME   WRITE-ONCE  TTL  N  R  W  SYNC      MAX-VALUE
epochs  timed  no          10d  3  2  2  interval  50.0 MiB
events  timed  yes         10d  3  2  2  interval  50.0 MiB`)
	for _, c := range []struct{ args, want string }{
		{"bucket show notes", "notes (not declared: this is what every such bucket promises): --timed=false --write-once=false --ttl 0s --n 3 --r 2 --w 2 --sync interval --max-value 50MiB"},
		{"bucket set notes --ttl 36h --yes --sync always --max-value 1MiB", "notes: --timed=false --write-once=false --ttl 1d12h --n 3 --r 2 --w 2 --sync always --max-value 1MiB"},
		{"bucket set --type web sessions --timed --n 5 --empty", "web/sessions: --timed=true --write-once=false --ttl 0s --n 5 --r 3 --w 3 --sync interval --max-value 50MiB"},
		{"ttl --type web sessions 2d --yes", "BUCKET        TTL\nweb/sessions  2d"},
		{"ttl events 8d --yes", "BUCKET  TTL\nevents  8d"},
		{"ttl", "BUCKET        TTL\nepochs        8d\nevents        8d\nnotes         1d12h\nweb/sessions  2d"},
		{"ttl notes 0s --json", `{"version":"1.6","buckets":[{"type":"default","name":"notes","ttl_seconds":0}]}`},
	} {
		same(t, f.must(strings.Fields(c.args)...), c.want)
	}
	f.refuses([]badInput{
		{"bucket set notes --timed", 1, `cluster bucket set: notes: what the first put fixes would change (--timed=false to true). If you know that the bucket holds nothing, add --empty; if not, put into another one`},
		{"bucket set notes --n 20", 2, `--n: 20 is not from 1 to 16`},
		{"bucket set notes --w 4", 2, `bucket "notes": w is 4, want 1 to n, which is 3`},
		{"bucket set notes --max-value 1GiB", 2, `--max-value: 1GiB is not from 1B to 50MiB`},
		{"bucket set notes --ttl 1500ms", 2, `--ttl: 1.5s is not whole seconds`},
		{"bucket set notes --max-value big", 2, `--max-value: "big" is not a size; write one like "64MiB", "500KB" or "4096" (bytes)`},
		{"bucket set epochs --ttl 1d", 2, `bucket "epochs": ttl_seconds is always that of "events"; set it there`},
		{"bucket lst", 2, `there is no command "lst"; did you mean "list"? "mayfly cluster bucket --help" lists them all`},
	})
}

func TestClusterSettings(t *testing.T) {
	f := newFakeAdmin(t, 1)
	for _, c := range []struct{ args, want string }{
		{"settings", "SLOT  AHEAD  SKEW  LEAD  LATENESS\n1h    10s    5s    30s   5s"},
		{"settings --lead 2m --skew 0s", "SLOT  AHEAD  SKEW  LEAD  LATENESS\n1h    10s    0s    2m    5s"},
		{"settings --json", `{"version":"1.2","slot_seconds":3600,"ahead_seconds":10,"skew_seconds":0,"lead_seconds":120,"lateness_seconds":5}`},
	} {
		same(t, f.must(strings.Fields(c.args)...), c.want)
	}
	f.refuses([]badInput{
		{"settings --lead 500ms", 2, "--lead: 500ms is not whole seconds"},
		{"settings --lead 0s", 1, "cluster settings: settings: lead_seconds is 0, want 1 to 86400"},
	})
}

// TestPlanSaysWhoIsWaitedFor: a member that does not answer holds a change up, unless
// it is staged as lost; one that has not joined yet does if it is staged.
func TestPlanSaysWhoIsWaitedFor(t *testing.T) {
	f := newFakeAdmin(t, 3)
	f.join(4, 4)
	silent := memberReport{err: errors.New("connection refused")}
	f.reports[fakeID(3)], f.reports[fakeID(4)] = silent, silent
	const line = `without an answer there is no promise; for whom will not come back, "mayfly cluster clear" and stage it with --lost`
	if plan := f.must("plan"); !strings.Contains(plan, "\nwaits for:    n3, n4: "+line) {
		t.Error(plan)
	}
	f.must("clear")
	f.must("remove", "n3", "--lost")
	if plan := f.must("plan"); strings.Contains(plan, "waits for") {
		t.Error(plan)
	}
	var out struct {
		WaitsFor []string `json:"waits_for"`
		Unheard  []string `json:"unheard"`
	}
	if err := json.Unmarshal([]byte(f.must("plan", "--json")), &out); err != nil || len(out.WaitsFor) != 0 || len(out.Unheard) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}
