package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/ring"
)

func (a *app) clusterStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "show members, what is under way, and what has too few copies",
		Long: `status asks all members how they are and shows it together with what is agreed:
the version of the agreed document (era and number of changes), who leads and who
votes, what is staged, the change of the ring under way and whom it waits for,
and for each member its zone, weight and state, whether it is up, its partitions
of the newest ring, what it stores, and what it has still to get.

A member is up if it answers now. "down" in its state says that the others have
agreed on it and took its places for the time being. Copies that are whole on a
member that answers are counted; what has fewer than wanted is told in bytes of
one copy.

--wait waits until nothing is under way any more: no change is being prepared,
nobody is leaving, every new owner has what it must have. It can be stopped and
started again at any time.`,
		Example: `  mayfly cluster status
  mayfly cluster status --wait               # until all is copied
  mayfly cluster status --json | jq .short   # partitions and bytes with too few copies
  mayfly cluster status --node 10.0.0.2:7070`,
		Args: noArguments(),
	}
	wait := cmd.Flags().Bool("wait", false, "wait until nothing is under way")
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, _ []string) error {
		if *wait {
			if err := r.awaitQuiet(ctx, func(*picture) bool { return false }); err != nil {
				return err
			}
		}
		p, err := r.look(ctx)
		if err != nil {
			return err
		}
		s := describeStatus(p)
		if r.asJSON {
			return printJSON(r.stdout, s)
		}
		return s.print(r.stdout)
	})
}

// print writes the state for people.
func (s *statusJSON) print(w io.Writer) error {
	printLine(w, "cluster", "%s, version %s; slots of %s, %s of %s", s.Name, s.Version,
		spanText(s.SlotSeconds), plural(int64(s.Partitions), "partition"), plural(int64(s.Owners), "owner"))
	printLine(w, "agreement", "%s", s.agreement())
	printLine(w, "change", "%s", s.Change.sentence(s.SlotSeconds, s.Now))
	if len(s.Staged) > 0 {
		printLine(w, "staged", "%s (\"mayfly cluster plan\" shows what it means)", strings.Join(s.Staged, "; "))
	}
	fmt.Fprintln(w)
	t := newTable(w, "member", "zone", "weight", "state", "up", "partitions", "stored", "free", "to-get")
	for _, m := range s.Members {
		t.row(m.cells()...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	printLine(w, "copying", "%s", s.Handing.sentence())
	printLine(w, "copies", "%s", copiesSentence(s.Short, s.None, s.Owners))
	if s.Silent.Most > 0 {
		printLine(w, "owners", "%s", s.Silent.sentence(s.Owners))
	}
	for _, m := range s.Members {
		if m.Why != "" {
			printLine(w, m.Name, "does not answer: %s", m.Why)
		}
		for _, fault := range m.Faults {
			printLine(w, m.Name, "%s", fault)
		}
		if m.Unattainable > 0 {
			printLine(w, m.Name, "lacks something in %s of which too few others can be reached", plural(int64(m.Unattainable), "partition"))
		}
	}
	return nil
}

// agreement says who leads and who votes; without a leader, why there is none and
// what that means.
func (s *statusJSON) agreement() string {
	text, voters := s.Leader+" leads", strings.Join(s.Voters, ", ")
	up, leads := s.votersUp()
	switch {
	case s.Leader != "" && !leads:
		text += ", as far as the others know, and does not answer: changes may be refused until another one leads"
	case s.Leader == "":
		text = "no leader is known, changes are refused: try again"
		if need := len(s.Voters)/2 + 1; up < need && len(s.Voters) > 0 {
			text = fmt.Sprintf("no leader: %d of %s answer, and changes need %d. They are refused; data is served where enough owners answer. "+
				"Start the others, or see \"mayfly cluster recover --help\"", up, plural(int64(len(s.Voters)), "voter"), need)
		}
	}
	if voters == "" {
		return text
	}
	return text + "; voters: " + voters
}

// votersUp counts the voters that answer, and tells whether the leader is among them.
func (s *statusJSON) votersUp() (up int, leads bool) {
	for _, m := range s.Members {
		if m.Up && slices.Contains(s.Voters, m.Name) {
			up, leads = up+1, leads || m.Name == s.Leader
		}
	}
	return up, leads
}

func (m *memberJSON) cells() []string {
	state, up := m.State, "yes"
	if m.Down {
		state += ", down"
	}
	if !m.Up {
		return []string{m.Name, dash(m.Zone), fmt.Sprint(m.Weight), state, "NO", fmt.Sprint(m.Partitions), "?", "?", "?"}
	}
	return []string{m.Name, dash(m.Zone), fmt.Sprint(m.Weight), state, up, fmt.Sprint(m.Partitions),
		bytesText(int64(m.StoredBytes)), bytesText(int64(m.FreeBytes)), m.toGet()}
}

func (m *memberJSON) toGet() string {
	switch {
	case m.ToGet > 0:
		return bytesText(int64(m.ToGet))
	case m.Lacking > 0:
		return plural(int64(m.Lacking), "partition")
	}
	return "-"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// sentence says how far the change is.
func (c *changeState) sentence(slotSeconds, now int64) string {
	boundary := slotText(c.Boundary, slotSeconds, now)
	switch c.Phase {
	case ring.Proposed.String():
		if len(c.Returns) > 0 {
			return fmt.Sprintf("%s returns, round %d, to own again from %s; waiting for %s", strings.Join(c.Returns, ", "), c.Round, boundary, strings.Join(c.Waiting, ", "))
		}
		return fmt.Sprintf("being prepared, round %d, to count from %s; waiting for %s", c.Round, boundary, strings.Join(c.Waiting, ", "))
	case ring.Fixed.String():
		if c.Time > now {
			return "fixed: the newest ring counts from " + boundary
		}
		return "none under way; the newest ring counts since " + boundary
	}
	return "none under way"
}

// sentence says what is still to be copied.
func (h *handing) sentence() string {
	var parts []string
	if h.ToGet > 0 {
		parts = append(parts, fmt.Sprintf("%s to get; %s", bytesText(int64(h.ToGet)), etaText(h.ToGet, h.Rate)))
	}
	if h.Moves > 0 {
		parts = append(parts, plural(int64(h.Moves), "partition")+" not known to be whole on a new owner")
	}
	if len(h.Leaving) > 0 {
		parts = append(parts, strings.Join(h.Leaving, ", ")+" leaving")
	}
	if len(parts) == 0 {
		return "nothing: every owner has what it must have"
	}
	return strings.Join(parts, "; ")
}

// copiesSentence says what has too few copies.
func copiesSentence(short, none shortage, owners int) string {
	if short.Partitions == 0 {
		if owners == 1 {
			return "all known data has its one copy, whole, on a member that answers"
		}
		return fmt.Sprintf("all known data has %d copies, whole, on members that answer", owners)
	}
	text := fmt.Sprintf("%s in %s have fewer than %d", bytesText(int64(short.Bytes)), short.places(), owners)
	if none.Partitions > 0 {
		text += fmt.Sprintf("; of these %s in %s have none that is known to be whole", bytesText(int64(none.Bytes)), none.places())
	}
	return text
}

// sentence says of what too few owners answer.
func (s silence) sentence(owners int) string {
	text := fmt.Sprintf("of %s fewer than %d of %d owners answer", plural(int64(s.Most), "partition"), owners/2+1, owners)
	if s.All > 0 {
		text += fmt.Sprintf(", of %d none", s.All)
	}
	return text + ": what needs as many fails there until they are back"
}

func (s shortage) places() string {
	text := plural(int64(s.Partitions), "partition")
	if s.Slots > 0 {
		text += " of " + plural(int64(s.Slots), "slot")
	}
	return text
}

func (a *app) clusterMembersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "members",
		GroupID: groupLook,
		Short:   "list all members, those that left or are lost included",
		Long: `members lists everybody the cluster knows, with ids, addresses and disks, also
those that have left or were declared lost: these can be named by their ids only.

A member's state is joining (it has no place in a ring yet), valid, leaving (it is
out of the newest ring, and still needed), left (nobody needs it any more: switch
it off) or lost. Its version is that of what it knows to be agreed: era and number
of changes.`,
		Example: `  mayfly cluster members
  mayfly cluster members --json | jq -r '.members[].address'`,
		Args: noArguments(),
	}
	return a.clusterSub(cmd, func(ctx context.Context, r *clusterRun, _ []string) error {
		p, err := r.look(ctx)
		if err != nil {
			return err
		}
		members := make([]memberJSON, len(p.doc.Members))
		for i, m := range p.doc.Members {
			members[i] = describeMember(p, m)
		}
		slices.SortStableFunc(members, func(a, b memberJSON) int { return strings.Compare(a.Name, b.Name) })
		if r.asJSON {
			return printJSON(r.stdout, struct {
				Version string       `json:"version"`
				Members []memberJSON `json:"members"`
			}{p.doc.Version.String(), members})
		}
		t := newTable(r.stdout, "member", "id", "zone", "weight", "state", "up", "role", "version", "address", "disks")
		for _, m := range members {
			up := "-"
			if m.State != agreed.Left.String() && m.State != agreed.Lost.String() {
				up = m.cells()[4]
			}
			t.row(m.Name, m.ID, dash(m.Zone), strconv.FormatUint(uint64(m.Weight), 10), m.cells()[3], up, dash(m.Role), dash(m.Version), m.Address, strings.Join(m.Disks, ","))
		}
		return t.flush()
	})
}
