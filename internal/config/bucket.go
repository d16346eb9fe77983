package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mayflydb/mayfly/internal/bucket"
)

// Bucket declares a bucket. What the file, the environment and flags leave
// unsaid is as in a plain bucket; the quorums are then the majority of n.
type Bucket struct {
	Type      string   `toml:"type" doc:"The bucket's type."`
	Name      string   `toml:"name" doc:"The bucket's name."`
	Timed     bool     `toml:"timed" doc:"Keys begin with <epoch>: and objects live and expire by that second. Fixed before the first put."`
	WriteOnce bool     `toml:"write_once" doc:"A key takes one value, ever. Fixed before the first put."`
	TTL       Duration `toml:"ttl" doc:"How long an object lives, whole seconds; \"0s\" is for ever. May change at any time. The index, epochs, follows events."`
	N         int      `toml:"n" doc:"Copies of each object. With fewer nodes than that, each node has one."`
	R         int      `toml:"r" doc:"Copies asked before a read is answered."`
	W         int      `toml:"w" doc:"Copies stored before a write is acknowledged."`
	Sync      string   `toml:"sync" doc:"When records are synced to disk: \"none\" (at sealing), \"interval\" (each second) or \"always\" (before the answer)."`
	MaxValue  Size     `toml:"max_value" doc:"The largest value taken."`
}

func bucketOf(p bucket.Properties) Bucket {
	return Bucket{
		Type: p.Type, Name: p.Name, Timed: p.Timed, WriteOnce: p.WriteOnce, TTL: Duration(p.TTLSeconds) * Duration(time.Second),
		N: p.N, R: p.R, W: p.W, Sync: string(p.Sync), MaxValue: Size(p.MaxValueBytes),
	}
}

func defaultBuckets() (list []Bucket) {
	for p := range bucket.DefaultSet().All() {
		list = append(list, bucketOf(p))
	}
	return list
}

// declaration returns b as a declaration that leaves nothing unsaid.
func (b *Bucket) declaration() bucket.Declaration {
	d := bucket.Declaration{
		Type: b.Type, Name: b.Name, Timed: &b.Timed, WriteOnce: &b.WriteOnce,
		N: &b.N, R: &b.R, W: &b.W, Sync: new(bucket.Sync(b.Sync)), MaxValueBytes: new(int64(b.MaxValue)),
	}
	if !b.isIndex() { // the index has no TTL of its own
		d.TTLSeconds = new(int64(time.Duration(b.TTL) / time.Second))
	}
	return d
}

func (b *Bucket) isIndex() bool { return b.Type == bucket.DefaultType && b.Name == bucket.Epochs }

// BucketSet returns the declared buckets as the store takes them. The error
// joins what is wrong with them.
func (c *Config) BucketSet() (*bucket.Set, error) {
	var all []bucket.Declaration
	for i := range c.Buckets {
		all = append(all, c.Buckets[i].declaration())
	}
	return bucket.DefaultSet().Declare(all...)
}

// bucketFields lists the properties of a bucket as "bucket.<property>".
func bucketFields() []setting { return fieldsOf(reflect.ValueOf(&Bucket{}).Elem(), "bucket") }

// path returns the prefix of the bucket's settings.
func (b *Bucket) path() string {
	if b.Type == bucket.DefaultType {
		return "bucket." + b.Name
	}
	return "bucket." + b.Type + "/" + b.Name
}

// settings lists the bucket's properties, without its name.
func (b *Bucket) settings() []setting {
	return fieldsOf(reflect.ValueOf(b).Elem(), b.path())[2:]
}

// declare adds the n-th [[bucket]] of the file to the built-in buckets, or
// changes the one of these it names. What it does not say stays as it is.
func (e *Effective) declare(f file, n int, entries []entry) (all faults) {
	var read Bucket // collects type and name, the rest is taken below
	read.Type = bucket.DefaultType
	fields := fieldsOf(reflect.ValueOf(&read).Elem(), "bucket")
	head := entries[0]
	for _, en := range entries[1:] {
		s, ok := find(fields, en.path)
		if !ok {
			all = append(all, f.fault(en.row, en.column, "", e.unknown(en)))
		} else if reason := s.setNode(en.value); reason != "" {
			all = append(all, f.fault(en.valueRow, en.valueColumn, en.path, reason))
		}
	}
	if len(all) > 0 {
		return all
	}
	if read.Name == "" {
		return faults{f.fault(head.row, head.column, "", fmt.Sprintf("the %s [[bucket]] has no name; write name = \"…\" in it", ordinal(n)))}
	}
	b := e.bucket(read.Type, read.Name)
	if first := e.origins[b.path()]; first != "" {
		return faults{f.fault(head.row, head.column, b.path(), "is declared twice, first at "+first+"; keep one [[bucket]] for it")}
	}
	e.origins[b.path()] = fmt.Sprintf("%s:%d", f.name, head.row)
	for _, en := range entries[1:] {
		property := strings.TrimPrefix(en.path, "bucket.")
		if property == "type" || property == "name" {
			continue
		}
		en.path = b.path() + "." + property
		all = append(all, e.take(f, b.settings(), en)...)
	}
	slices.SortFunc(e.Buckets, func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// bucket returns the declared bucket of that name, declaring it if need be. It
// is valid until the next call.
func (c *Config) bucket(typ, name string) *Bucket {
	for i := range c.Buckets {
		if b := &c.Buckets[i]; b.Type == typ && b.Name == name {
			return b
		}
	}
	c.Buckets = append(c.Buckets, bucketOf(bucket.Plain(typ, name)))
	return &c.Buckets[len(c.Buckets)-1]
}

// settle fills in what depends on other properties, where nobody said it: the
// quorums follow n, the index follows events.
func (e *Effective) settle() {
	events := e.bucket(bucket.DefaultType, bucket.Events).TTL
	for i := range e.Buckets {
		b := &e.Buckets[i]
		if e.origins[b.path()+".n"] != "" {
			for key, quorum := range map[string]*int{".r": &b.R, ".w": &b.W} {
				if e.origins[b.path()+key] == "" {
					*quorum = b.N/2 + 1
				}
			}
		}
		if b.isIndex() && e.origins[b.path()+".ttl"] == "" {
			b.TTL = events
		}
	}
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
