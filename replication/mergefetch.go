package replication

import (
	"context"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/index"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/ring"
)

// FetchFrom reads an object of a lane from one replica and waits for it, no
// longer than ctx: the greatest version, tombstones included; of an index, the
// row as one delta. It is what a [Syncer] needs for its Fetch.
func FetchFrom(ctx context.Context, from Replica, history ring.Version, lane Lane, rows bool, key string) (object.Record, error) {
	ask := Ask{History: history}
	ask.Deadline, _ = ctx.Deadline()
	if rows {
		return fetchRow(ctx, from, ask, lane, key)
	}
	ask.Hash = ring.Hash(lane.Type, lane.Bucket, key)
	type answer struct {
		rec object.Record
		err *object.Error
	}
	answers := make(chan answer, 1)
	from.Get(ask, []byte(lane.Type), []byte(lane.Bucket), []byte(key), true, func(_ uint64, rec object.Record, _ bool, err *object.Error) {
		answers <- answer{rec, err}
	})
	select {
	case a := <-answers:
		return a.rec, plainError(a.err)
	case <-ctx.Done():
		go func() { // the replica answers shortly after the deadline
			a := <-answers
			a.rec.Release()
		}()
		return object.Record{}, object.Errorf(object.CodeDeadline, object.NotDone, "%w", context.Cause(ctx))
	}
}

func fetchRow(ctx context.Context, from Replica, ask Ask, lane Lane, key string) (object.Record, error) {
	k, err := event.ParseIndexKey(key)
	if err != nil {
		return object.Record{}, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	text := k.AppendTo(nil)
	ask.Hash = ring.HashBytes(rowType, rowBucket, text)
	type answer struct {
		row index.Row
		err *object.Error
	}
	answers := make(chan answer, 1)
	from.Row(ask, k, func(_ uint64, row index.Row, _ bool, err *object.Error) { answers <- answer{row, err} })
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		return object.Record{}, object.Errorf(object.CodeDeadline, object.NotDone, "%w", context.Cause(ctx))
	}
	switch {
	case a.err != nil:
		return object.Record{}, a.err
	case a.row.Empty():
		return object.Record{}, object.Errorf(object.CodeAbsent, object.NotDone, "nothing was said of this second")
	}
	scratch := object.NewBuffer(a.row.Size())
	defer scratch.Release()
	return object.Encode(object.Header{
		Kind: object.Delta, TimestampMicros: newest(k, a.row),
		Type: []byte(lane.Type), Bucket: []byte(lane.Bucket), Key: text,
	}, index.AppendRow(scratch.Bytes()[:0], a.row))
}
