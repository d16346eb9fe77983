package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// A Summary is what a demo found. Its JSON form is for scripts: names keep their
// meaning.
type Summary struct {
	Nodes              int              `json:"nodes"`
	Seconds            float64          `json:"seconds"` // of sending
	EventsSent         int64            `json:"events_sent"`
	EventsReceived     int64            `json:"events_received"` // by the aggregator
	EventsAcknowledged int64            `json:"events_acknowledged"`
	EventsTailed       int64            `json:"events_tailed"`
	Lost               int64            `json:"lost"`       // events acknowledged that were not tailed, listed or read back
	Corrupt            int64            `json:"corrupt"`    // events tailed or read back that differ, or were never sent
	Duplicates         int64            `json:"duplicates"` // blobs tailed twice
	Blobs              int64            `json:"blobs"`      // acknowledged
	StoredBytes        int64            `json:"stored_bytes"`
	RawBytes           int64            `json:"raw_bytes"` // of the same events, msgpack without compression
	PutMS              Quantiles        `json:"put_ms"`    // of a blob, from the aggregator's call to the acknowledgement
	TailMS             Quantiles        `json:"tail_ms"`   // of an event, from the end of its second to the tailer holding it
	Dropped            map[string]int64 `json:"dropped"`   // events, by reason; and "network": sent and not received
	ReadBack           int64            `json:"read_back"` // blobs read by key and compared, through each node
	Watermarks         map[string]int64 `json:"watermarks"`
	CheckRecords       int64            `json:"check_records"`  // records found valid in the data directories afterwards
	CheckDamage        int64            `json:"check_damage"`   // places found damaged
	CopiesLacking      int64            `json:"copies_lacking"` // of acknowledged blobs: what a node that was away was not given yet
	Kill               *Kill            `json:"kill,omitempty"`
	Growth             *Growth          `json:"growth,omitempty"`
	Directory          string           `json:"directory,omitempty"`
	Faults             []string         `json:"faults"` // what is wrong, in words; empty if nothing is
}

// Quantiles are of a time, milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func quantiles(t *timing) Quantiles {
	ms := func(q float64) float64 { return float64(t.quantile(q).Microseconds()) / 1000 }
	return Quantiles{ms(0.5), ms(0.99)}
}

// OK tells whether everything that was acknowledged came out as it went in.
func (s *Summary) OK() bool { return len(s.Faults) == 0 }

// judge adds to the faults what the figures say.
func (s *Summary) judge() {
	if s.Faults == nil {
		s.Faults = []string{}
	}
	fault := func(bad bool, format string, args ...any) {
		if bad {
			s.Faults = append(s.Faults, fmt.Sprintf(format, args...))
		}
	}
	fault(s.Lost != 0, "%d acknowledged events are lost", s.Lost)
	fault(s.Corrupt != 0, "%d events differ from what was sent", s.Corrupt)
	fault(s.Duplicates != 0, "%d blobs were tailed twice", s.Duplicates)
	fault(s.EventsAcknowledged != s.EventsReceived, "%d events were received and %d acknowledged", s.EventsReceived, s.EventsAcknowledged)
	fault(s.EventsTailed != s.EventsAcknowledged, "%d events were acknowledged and %d tailed", s.EventsAcknowledged, s.EventsTailed)
	fault(s.CheckDamage != 0, "the data is damaged in %d places", s.CheckDamage)
	fault(s.Kill.falseAbsent() != 0, "%d reads said that an acknowledged blob is absent", s.Kill.falseAbsent())
	fault(s.EventsReceived == 0, "no event was received")
	s.Faults = append(s.Faults, s.Growth.faults()...)
}

// falseAbsent is FalseAbsent, 0 if nobody was to be killed.
func (k *Kill) falseAbsent() int64 {
	if k == nil {
		return 0
	}
	return k.FalseAbsent
}

// print writes rows about a kill, if there was to be one.
func (k *Kill) print(row func(name, format string, args ...any)) {
	switch {
	case k == nil:
		return
	case k.Node == "":
		row("killed", "nobody: the sending ended before")
	default:
		with := ""
		if k.HadTail {
			with = ", which the tail was connected to,"
		}
		row("killed", "%s%s after %.1f s", k.Node, with, k.KilledSeconds)
		row("back", "%.1f s later, ready in %.0f ms; %d blobs were acknowledged without it", k.AwaySeconds, k.ReadyMS, k.BlobsWhileAway)
	}
	row("meanwhile", "%d blobs read through one node after another; absent: %d, no answer: %d", k.RunReads, k.FalseAbsent, k.RunReadsFailed)
	row("clients", "calls repeated: %d, failed all the same: %d; tail resumed: %d", k.Retries, k.FailedCalls, k.TailResumes)
}

// Print writes the summary for people.
func (s *Summary) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	share := func(part, whole int64) string {
		if whole == 0 {
			return ""
		}
		return fmt.Sprintf("(%.2f %%)", 100*float64(part)/float64(whole))
	}
	row("nodes", "%d", s.Nodes)
	row("sent", "%d events by UDP in %.1f s", s.EventsSent, s.Seconds)
	row("received", "%d events %s", s.EventsReceived, share(s.EventsReceived, s.EventsSent))
	row("acknowledged", "%d events in %d blobs", s.EventsAcknowledged, s.Blobs)
	row("tailed", "%d events", s.EventsTailed)
	row("lost", "%d", s.Lost)
	row("corrupt", "%d", s.Corrupt)
	for _, reason := range slices.Sorted(maps.Keys(s.Dropped)) {
		if n := s.Dropped[reason]; n > 0 {
			row("dropped", "%d events: %s", n, reason)
		}
	}
	row("stored", "%d bytes, of %d bytes of msgpack %s", s.StoredBytes, s.RawBytes, share(s.StoredBytes, s.RawBytes))
	row("put", "%.1f ms p50, %.1f ms p99", s.PutMS.P50, s.PutMS.P99)
	row("tail", "%.0f ms p50, %.0f ms p99 after the end of an event's second", s.TailMS.P50, s.TailMS.P99)
	s.Kill.print(row)
	s.Growth.print(row)
	row("read back", "%d blobs by their keys, through %s", s.ReadBack, map[bool]string{true: "the node", false: "each node"}[s.Nodes == 1])
	for _, state := range slices.Sorted(maps.Keys(s.Watermarks)) {
		row("seconds", "%d %s", s.Watermarks[state], state)
	}
	row("check", "%d records, %d places damaged, %d copies lacking", s.CheckRecords, s.CheckDamage, s.CopiesLacking)
	if s.Directory != "" {
		row("data", "%s", s.Directory)
	}
	for _, f := range s.Faults {
		row("WRONG", "%s", f)
	}
	if s.OK() {
		row("verdict", "everything acknowledged came out as it went in")
	}
	return t.Flush()
}
