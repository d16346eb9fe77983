package vnode

import (
	"sync"
	"sync/atomic"

	"github.com/mayflydb/mayfly/bitcask"
	"github.com/mayflydb/mayfly/internal/bucket"
	"github.com/mayflydb/mayfly/internal/object"
)

// rules are a bucket's properties as every put and get needs them.
type rules struct {
	bucket.Properties
	engine bitcask.Bucket
}

func rulesOf(p bucket.Properties) *rules {
	return &rules{p, bitcask.Bucket{
		ID: uint64(p.ID()), Type: p.Type, Name: p.Name,
		Timed: p.Timed, KeepAll: p.Rows, Sync: syncOf(p.Sync),
	}}
}

func syncOf(s bucket.Sync) bitcask.Sync {
	switch s {
	case bucket.SyncNone:
		return bitcask.SyncNone
	case bucket.SyncAlways:
		return bitcask.SyncAlways
	}
	return bitcask.SyncInterval
}

// maxPlainRules bounds how many undeclared buckets have their rules kept ready.
// Those of others are made anew each time, at half a kilobyte.
const maxPlainRules = 1024

// A rulebook holds the rules of a node's buckets, made from the present set of
// properties, and made again when there is another set.
type rulebook struct {
	present func() *bucket.Set
	page    atomic.Pointer[rulePage]
}

// A rulePage is the rules that follow from one set.
type rulePage struct {
	set      *bucket.Set
	declared map[names]*rules  // not modified once made
	byID     map[uint64]*rules // the same

	mu    sync.RWMutex
	plain map[names]*rules
}

type names struct{ bucketType, bucket string }

// of returns the rules of a bucket, declared or not. An unfit name of an
// undeclared bucket is a bad request.
func (b *rulebook) of(bucketType, name []byte) (*rules, error) {
	page := b.current()
	if r := page.declared[names{string(bucketType), string(name)}]; r != nil {
		return r, nil
	}
	return page.undeclared(bucketType, name)
}

func (b *rulebook) current() *rulePage {
	set, page := b.present(), b.page.Load()
	if page != nil && page.set == set {
		return page
	}
	page = &rulePage{
		set: set, declared: make(map[names]*rules, set.Len()), byID: make(map[uint64]*rules, set.Len()),
		plain: make(map[names]*rules),
	}
	for p := range set.All() {
		r := rulesOf(p)
		page.declared[names{p.Type, p.Name}], page.byID[r.engine.ID] = r, r
	}
	b.page.Store(page) // two that make it at once make equal ones
	return page
}

func (p *rulePage) undeclared(bucketType, name []byte) (*rules, error) {
	p.mu.RLock()
	r := p.plain[names{string(bucketType), string(name)}]
	p.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	n := names{string(bucketType), string(name)}
	if err := bucket.CheckNames(n.bucketType, n.bucket); err != nil {
		return nil, object.Errorf(object.CodeBadRequest, object.NotDone, "%w", err)
	}
	r = rulesOf(bucket.Plain(n.bucketType, n.bucket))
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.plain) < maxPlainRules {
		p.plain[n] = r
	}
	return r, nil
}

// rows returns the rules of the bucket that holds the index.
func (b *rulebook) rows() *rules {
	r := b.current().declared[names{bucket.DefaultType, bucket.Epochs}]
	if r == nil {
		panic("vnode: BUG: a set of buckets without the index")
	}
	return r
}

// indexed returns the rules of the bucket whose puts are indexed.
func (b *rulebook) indexed() *rules {
	r := b.current().declared[names{bucket.DefaultType, bucket.Events}]
	if r == nil {
		panic("vnode: BUG: a set of buckets without events")
	}
	return r
}
