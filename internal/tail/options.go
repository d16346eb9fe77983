package tail

import (
	"time"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/tail/cursor"
)

// aheadSeconds is how far ahead of the hub's clock a tail may begin.
const aheadSeconds = 60

// Options say what a subscription wants.
type Options struct {
	// From is the first second of arrival, Unix time; 0 is the present one. Not
	// together with Cursor.
	From int64
	// Cursor resumes where another subscription was: the text that its Cursor
	// method, or a cursor.Cursor kept by its reader, returned.
	Cursor string
	// DC, Type and Subtype are patterns: alternatives separated by commas, '*' in
	// them for any run of characters; empty is all.
	DC, Type, Subtype string
	// Shard and Shards take one part in Shards of the blobs, 0 <= Shard < Shards,
	// as [Shard] divides them. Shards 0 takes all.
	Shard, Shards int
	// WithoutBodies asks for keys and entries only; items have no Record.
	WithoutBodies bool
}

// Validate checks the options apart from the time they name. The error says what
// to change, and has object.CodeBadRequest.
func (o *Options) Validate() error {
	_, _, err := o.parse()
	return err
}

// parse returns the filter, and the cursor or nil.
func (o *Options) parse() (f filter, at *cursor.Cursor, err error) {
	bad := func(format string, args ...any) (filter, *cursor.Cursor, error) {
		return filter{}, nil, object.Errorf(object.CodeBadRequest, object.NotDone, format, args...)
	}
	switch {
	case o.From < 0:
		return bad("the second %d to tail from is negative", o.From)
	case o.From > 0 && o.Cursor != "":
		return bad("a tail begins from a second or from a cursor, not from both")
	case o.Shards < 0 || o.Shards > 0 && (o.Shard < 0 || o.Shard >= o.Shards) || o.Shards == 0 && o.Shard != 0:
		return bad("shard %d of %d does not exist: the first one is 0", o.Shard, o.Shards)
	}
	if o.Cursor != "" {
		if at, err = cursor.Parse(o.Cursor); err != nil {
			return bad("the tail cannot be resumed: %w; begin from a second instead", err)
		}
	}
	for _, p := range []struct {
		field, text string
		to          *pattern
	}{{"dc", o.DC, &f.dc}, {"type", o.Type, &f.kind}, {"subtype", o.Subtype, &f.subtype}} {
		if *p.to, err = parsePattern(p.field, p.text); err != nil {
			return filter{}, nil, err
		}
	}
	f.shard, f.shards = uint64(o.Shard), uint64(o.Shards)
	return f, at, nil
}

// begin returns the cursor a subscription begins with.
func (o *Options) begin(at *cursor.Cursor, now time.Time) (*cursor.Cursor, error) {
	if at == nil {
		from := o.From
		if from == 0 {
			from = now.Unix()
		}
		at = cursor.New(from)
	}
	if ahead := at.Low() - now.Unix(); ahead > aheadSeconds {
		return nil, object.Errorf(object.CodeTooFarAhead, object.NotDone,
			"the tail would begin at second %d, %d s ahead of this node's clock; at most %d s are taken", at.Low(), ahead, aheadSeconds)
	}
	return at, nil
}
