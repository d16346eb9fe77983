package tail

// Counters are a hub's figures: those that only grow, and at the end those that
// tell the present. A node exposes them as metrics.
type Counters struct {
	Published      int64 // updates the hub was told of
	Unpushed       int64 // of these, outside the window's seconds; readers find them in the index
	RowReads       int64 // index rows the window has read
	UncertainReads int64 // of these, without certainty or failed
	Unannounced    int64 // blobs a row named before any push did
	Watermarks     int64 // told of the window's seconds
	GivenUpSeconds int64 // dropped from the window before they were finished
	Overflows      int64 // times a live subscription fell behind
	CatchUpSeconds int64 // read by subscriptions that were behind
	BodyReads      int64 // bodies read because they were not at hand
	ReadRetries    int64 // reads of bodies and rows repeated for subscriptions
	Gaps           int64 // told to readers

	Subscriptions int64 // open now
	Behind        int64 // of these, not live
	WaitingItems  int64 // for all readers
	WaitingBytes  int64 // of bodies, for all readers
	WindowBlobs   int64 // remembered
	WindowSeconds int64 // from the lowest unfinished second to now
}

// counters returns the figures at that time.
func (c *core) counters(nowMillis int64) Counters {
	n := c.counts
	n.Subscriptions = int64(len(c.feeds))
	n.WaitingBytes = c.held
	for _, f := range c.feeds {
		n.WaitingItems += int64(f.queue.len())
		if !f.live {
			n.Behind++
		}
	}
	if c.window != nil {
		n.WindowBlobs = int64(c.window.held)
		n.WindowSeconds = nowMillis/1000 - c.window.low
	}
	return n
}
