package aggregate

import (
	"sync/atomic"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// A blob is one encoded blob on its way to the store.
type blob struct {
	key      event.Key
	record   object.Record // one use of its buffer is the blob's own
	events   int
	raw      int     // bytes of its document
	size     int64   // bytes it holds, overhead included
	second   *second // nil if no final counts it
	attempts int
}

// blobOverhead is what a blob costs beside its record, bytes.
const blobOverhead = 512

// A sealer turns groups into blobs. It belongs to one goroutine; several sealers
// share the number of the next chunk.
type sealer struct {
	writer      []byte
	incarnation uint64
	next        *atomic.Uint64
	value       []byte // reused
}

var (
	eventsType   = []byte(bucket.DefaultType)
	eventsBucket = []byte(bucket.Events)
)

// seal makes the blobs of a group: usually one, more if that would exceed
// event.MaxChunkBytes. It empties the builder. A blob bears the writer's name if a
// final counts it.
func (s *sealer) seal(g *group) (blobs []*blob) {
	for value, info := range g.builder.Chunks(s.value[:0]) {
		s.value = value
		key := event.Key{
			Epoch: g.epoch, DC: g.dc, Type: g.typ, Subtype: g.subtype,
			Chunk: event.Chunk(s.incarnation, s.next.Add(1)-1),
		}
		header := object.Header{
			Kind: object.Value, EventCount: uint32(info.Count), TimestampMicros: g.stamp,
			Type: eventsType, Bucket: eventsBucket, Key: key.AppendTo(nil),
		}
		if g.second != nil {
			header.Writer, header.Incarnation = s.writer, s.incarnation
		}
		record, err := object.Encode(header, value)
		if err != nil {
			panic("aggregate: BUG: a blob cannot be stored: " + err.Error())
		}
		blobs = append(blobs, &blob{
			key: key, record: record, events: info.Count, raw: info.RawBytes, second: g.second,
			size: int64(len(record.Raw())) + blobOverhead,
		})
	}
	g.builder.Reset()
	return blobs
}

// takeJob gives a group to be sealed, nil if there is none.
func (c *core) takeJob() *group {
	if len(c.jobs) == 0 {
		return nil
	}
	g := c.jobs[0]
	c.jobs[0] = nil
	c.jobs = c.jobs[1:]
	c.sealing++
	return g
}

// sealed takes the blobs of a group that takeJob gave.
func (c *core) sealed(g *group, blobs []*blob) {
	c.sealing--
	c.builders.put(g.names(), g.builder, g.size)
	g.builder = usedBuilder{}
	c.buffered -= g.size
	if g.second != nil {
		g.second.pending += len(blobs) - 1
	}
	for _, b := range blobs {
		c.counters.Blobs.Add(1)
		c.counters.RawBytes.Add(int64(b.raw))
		c.counters.StoredBytes.Add(int64(b.record.ValueBytes))
		c.buffered += b.size
		if c.abandoned {
			c.discard(b, Stopped)
			continue
		}
		c.blobs.push(b)
	}
	c.gauges()
}
