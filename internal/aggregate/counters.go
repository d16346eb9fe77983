package aggregate

import "sync/atomic"

// Counters count what an Aggregator did since it was opened. Any goroutine may
// read them at any time; several of them read one after another need not agree.
//
// At rest Events = EventsAcknowledged + the events dropped as Refused or Stopped;
// while it runs the difference is under way.
type Counters struct {
	Datagrams      atomic.Int64 // received
	DatagramBytes  atomic.Int64 // of payload, received
	KernelDrops    atomic.Int64 // datagrams the kernel dropped because the socket's buffer was full
	ReceiveErrors  atomic.Int64 // receives that failed
	ReceiveBuffer  atomic.Int64 // gauge: bytes of all sockets' buffers as the kernel counts them; 0 = not known
	Events         atomic.Int64 // taken in
	EventBytes     atomic.Int64 // of their msgpack, taken in
	UnknownMembers atomic.Int64 // of envelopes, ignored
	LateEvents     atomic.Int64 // of Events: for a second that was closed already
	dropped        [numReasons]atomic.Int64

	BufferedBytes atomic.Int64 // gauge: events and blobs held, bytes; bounded by Options.MaxBufferedBytes
	OpenGroups    atomic.Int64 // gauge: blobs being collected
	WaitingBlobs  atomic.Int64 // gauge: blobs made and not yet acknowledged
	EarlySeals    atomic.Int64 // builders sealed before their time because they, or all together, were large

	Blobs              atomic.Int64 // made
	RawBytes           atomic.Int64 // of their documents
	StoredBytes        atomic.Int64 // of the blobs
	BlobsAcknowledged  atomic.Int64
	EventsAcknowledged atomic.Int64
	BytesAcknowledged  atomic.Int64 // of blobs
	Batches            atomic.Int64 // of blobs, sent; with those sent again
	BlobRetries        atomic.Int64 // blobs to be sent again

	Hellos       atomic.Int64 // acknowledged
	Finals       atomic.Int64 // acknowledged
	Unexpected   atomic.Int64 // seconds of a dc closed without a final: too little was acknowledged before for readers to expect this writer
	FinalsMissed atomic.Int64 // not acknowledged while their second was open: it is incomplete
	Goodbyes     atomic.Int64 // acknowledged
	IndexRetries atomic.Int64 // hellos, finals and goodbyes to be sent again
}

// Dropped is how many events were dropped for that reason. Of BadMsgpack and
// Truncated only datagrams can be counted, one each; of Empty the datagrams.
func (c *Counters) Dropped(r Reason) int64 { return c.dropped[r].Load() }

// DroppedTotal is Dropped over all reasons.
func (c *Counters) DroppedTotal() (n int64) {
	for i := range c.dropped {
		n += c.dropped[i].Load()
	}
	return n
}
