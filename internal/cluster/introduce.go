package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayflydb/mayfly/internal/agreed"
	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/vfs"
	"github.com/mayflydb/mayfly/ring"
)

// A Genesis is what a node has to know before it opens its disks.
type Genesis struct {
	Cluster  agreed.ClusterID
	Name     string // of the cluster
	Settings agreed.Settings
	Node     ring.NodeID
	// Disks are the ids that the directories of Config.Disks, in that order, become
	// disks with, if they are none yet; those of a node that has data are as given.
	Disks    []agreed.DiskID
	Document *agreed.Document // the newest one at hand
	Founded  bool             // this node has made it, just now
}

// Introduce tells a node which cluster it belongs to, before it opens its disks. A
// node that has the agreed document on one of them learns nothing new. A fresh one
// asks the seeds for theirs and takes the document of their cluster; without seeds,
// or with all those it expects, it founds one. It returns when there is a document
// on disk, or when ctx ends, with a sentence; begun again, it goes on where it was.
//
// A node whose directories belong to a cluster (Config.Bound) never founds one.
func Introduce(ctx context.Context, cfg Config) (Genesis, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return Genesis{}, err
	}
	dirs, disks, err := openDirs(cfg)
	if err != nil {
		return Genesis{}, err
	}
	all := cfg.Disks
	cfg.Disks = disks
	defer closeDirs(dirs)
	release, err := lockDirs(dirs)
	if err != nil {
		return Genesis{}, err
	}
	defer release()
	g, err := (&introduction{cfg: cfg, dirs: dirs}).run(ctx)
	if err != nil {
		return Genesis{}, err
	}
	g.Disks = withOthers(all, disks, g.Disks)
	return g, nil
}

// withOthers returns the ids of all disks: of those in use as they are now, of the
// others as they were given.
func withOthers(all, inUse []Disk, ids []agreed.DiskID) (merged []agreed.DiskID) {
	for _, d := range all {
		id := d.ID
		if i := slices.IndexFunc(inUse, func(u Disk) bool { return u.Path == d.Path }); i >= 0 {
			id = ids[i]
		}
		merged = append(merged, id)
	}
	return merged
}

// An introduction is a call of Introduce. It answers others while it asks them.
type introduction struct {
	cfg       Config
	dirs      []*vfs.Dir
	advertise string
	streamC   streamCounters

	mu     sync.Mutex
	seeker *seeker
	doc    held // made or learned: it is over
}

func (i *introduction) run(ctx context.Context) (Genesis, error) {
	doc, faults := readDocument(i.dirs)
	for _, fault := range faults {
		i.cfg.Log.Error("a copy of the agreed document is damaged", "error", fault)
	}
	if doc.doc != nil {
		return i.known(doc)
	}
	if err := i.prepare(); err != nil {
		return Genesis{}, err
	}
	if i.cfg.Bound == ([16]byte{}) && len(i.cfg.Seeds) == 0 && i.cfg.Expect < 2 {
		return i.foundAlone()
	}
	door := serveStreams(i.cfg.Mux, i, i.cfg.Timing.Ask, i.cfg.Log, &i.streamC)
	defer door.close()
	return i.seek(ctx)
}

// known is the genesis of a node that has a document.
func (i *introduction) known(doc held) (Genesis, error) {
	if i.cfg.Bound != ([16]byte{}) && i.cfg.Bound != doc.doc.Cluster {
		return Genesis{}, fmt.Errorf("the data directories belong to cluster %x, their agreed document to %x: name the directories of one node", i.cfg.Bound, doc.doc.Cluster)
	}
	if doc.doc.Name != i.cfg.Cluster {
		return Genesis{}, fmt.Errorf("this node belongs to cluster %q, the configuration says %q: set it back, or name empty data directories", doc.doc.Name, i.cfg.Cluster)
	}
	files, err := readFounding(i.dirs)
	if err != nil {
		return Genesis{}, err
	}
	return i.genesis(doc, files, false), nil
}

func (i *introduction) genesis(doc held, files []foundingFile, founded bool) Genesis {
	g := Genesis{Cluster: doc.doc.Cluster, Name: doc.doc.Name, Settings: doc.doc.Settings, Node: i.cfg.Node, Document: doc.doc, Founded: founded}
	for j, d := range i.cfg.Disks {
		id := d.ID
		if files[j].Node != (ring.NodeID{}) {
			g.Node = files[j].Node
			if id == (agreed.DiskID{}) {
				id = files[j].Disk
			}
		}
		g.Disks = append(g.Disks, id)
	}
	return g
}

// prepare makes the ids of a fresh node, or reads those it made before, and writes
// them down: what it says of itself from now on must stay true.
func (i *introduction) prepare() error {
	files, err := readFounding(i.dirs)
	if err != nil {
		return err
	}
	node := i.cfg.Node
	for _, f := range files {
		if f.Node.IsZero() {
			continue
		}
		if i.cfg.Bound == ([16]byte{}) {
			node = f.Node
		}
	}
	if node.IsZero() {
		rand.Read(node[:])
	}
	v, at := vowOf(files)
	i.cfg.Node = node
	for j := range files {
		disk := i.cfg.Disks[j].ID
		if disk == (agreed.DiskID{}) {
			disk = files[j].Disk
		}
		if disk == (agreed.DiskID{}) {
			rand.Read(disk[:])
		}
		files[j] = foundingFile{Node: node, Disk: disk, Vow: v, At: at}
		i.cfg.Disks = slices.Clone(i.cfg.Disks)
		i.cfg.Disks[j].ID = disk
	}
	if err := writeFounding(i.dirs, files); err != nil {
		return err
	}
	if i.advertise, err = i.cfg.advertised(); err != nil {
		return err
	}
	me := candidate{Member: i.cfg.me(i.advertise), Expect: i.cfg.Expect}
	i.seeker = newSeeker(me, i.cfg.Cluster, len(i.cfg.Seeds), v, at)
	return nil
}

// foundAlone founds a cluster of this node.
func (i *introduction) foundAlone() (Genesis, error) {
	v := vow{Founder: i.cfg.Node}
	rand.Read(v.Cluster[:])
	if old := i.seeker.vow; old.Founder == v.Founder {
		v = old // it was about to, before
	}
	if err := i.swearLocked(v, i.advertise); err != nil {
		return Genesis{}, err
	}
	return i.found(founding{Vow: v, Set: []candidate{i.seeker.me}})
}

// swearLocked makes a vow durable.
func (i *introduction) swearLocked(v vow, at string) error {
	files := make([]foundingFile, len(i.dirs))
	for j, d := range i.cfg.Disks {
		files[j] = foundingFile{Node: i.cfg.Node, Disk: d.ID, Vow: v, At: at}
	}
	if err := writeFounding(i.dirs, files); err != nil {
		return err
	}
	i.seeker.sworn(v, at)
	return nil
}

// found makes the first document of a cluster, all having vowed.
func (i *introduction) found(f founding) (Genesis, error) {
	first := agreed.Founding{Cluster: f.Vow.Cluster, Name: i.cfg.Cluster, Settings: i.cfg.Settings, Bits: i.cfg.Bits, Buckets: i.cfg.Buckets}
	for _, c := range f.Set {
		first.Members = append(first.Members, c.Member)
	}
	doc, err := agreed.Found(first)
	if err != nil {
		return Genesis{}, fmt.Errorf("cluster %q cannot be founded: %w", i.cfg.Cluster, err)
	}
	return i.keep(held{doc, i.cfg.Node}, true)
}

// keep puts the document on disk: the node has a cluster.
func (i *introduction) keep(h held, founded bool) (Genesis, error) {
	b, err := appendEnvelope(nil, h)
	if err != nil {
		return Genesis{}, err
	}
	if _, err := publish(i.dirs, agreedName, b); err != nil {
		return Genesis{}, err
	}
	i.doc = h
	files, err := readFounding(i.dirs)
	if err != nil {
		return Genesis{}, err
	}
	i.cfg.Log.Info("the node has a cluster", "cluster", h.doc.Name, "id", fmt.Sprintf("%x", h.doc.Cluster), "founded", founded, "members", len(h.doc.Members))
	return i.genesis(h, files, founded), nil
}

// seekPause is between two rounds of asking, in times of Timing.Gossip.
const seekPause = 1

// seek asks around until there is a cluster.
func (i *introduction) seek(ctx context.Context) (Genesis, error) {
	var last error
	told := time.Now()
	for {
		g, done, err := i.round(ctx)
		if done {
			return g, err
		}
		if last == nil || ctx.Err() == nil { // a round that was cut off says less
			last = err
		}
		if time.Since(told) > quiet {
			told = time.Now()
			i.cfg.Log.Info("still looking for the cluster", "reason", err)
		}
		select {
		case <-ctx.Done():
			return Genesis{}, fmt.Errorf("node %q has found no cluster %q: %w", i.cfg.Name, i.cfg.Cluster, last)
		case <-time.After(seekPause * i.cfg.Timing.Gossip):
		}
	}
}

// A reply is what somebody at an address said.
type reply struct {
	address string
	seed    bool
	g       greeting
	itself  bool
	err     error
}

// there returns which fresh node, other than this one, answered; zero if none did.
func (r reply) there() ring.NodeID {
	if r.err != nil || r.itself {
		return ring.NodeID{}
	}
	return r.g.Self.Member.ID
}

// round asks all addresses known once, and does what follows. done: with the genesis,
// or for good with the error.
func (i *introduction) round(ctx context.Context) (g Genesis, done bool, err error) {
	i.mu.Lock()
	vows := i.seeker.vows
	i.mu.Unlock()
	replies := i.askAll(ctx)
	if target, err := i.clusterOf(replies); err != nil {
		return g, true, err
	} else if target != nil {
		return i.join(ctx, *target)
	}
	f, leads, err := i.consider(replies, vows)
	if err != nil {
		return g, true, err
	}
	if !leads {
		return g, false, i.why(replies)
	}
	return i.lead(ctx, f)
}

// askAll greets the seeds, and the candidates they have told of.
func (i *introduction) askAll(ctx context.Context) []reply {
	var asked []reply
	seeds := expand(ctx, i.cfg.Seeds)
	for _, a := range seeds {
		asked = append(asked, reply{address: a, seed: true})
	}
	i.mu.Lock()
	i.seeker.seeds = len(seeds)
	clear(i.seeker.behind)
	for _, at := range i.seeker.addresses() {
		if !slices.ContainsFunc(asked, func(r reply) bool { return r.address == at }) && len(asked) < maxSeeds+maxCandidates {
			asked = append(asked, reply{address: at})
		}
	}
	mine := i.greetingLocked()
	i.mu.Unlock()
	var wg sync.WaitGroup
	for j := range asked {
		r := &asked[j]
		wg.Go(func() {
			a, _, err := askNode(ctx, &i.streamC, r.address, preface{From: i.identity()}, message{Op: opHello, Body: appendGreeting(nil, mine)}, i.cfg.Timing.Ask)
			if refused, ok := errors.AsType[*Refusal](err); ok && refused.Verdict == Itself {
				r.itself = true
				return
			}
			if err == nil {
				r.g, err = parseGreeting(a.Body)
			}
			r.err = err
		})
	}
	wg.Wait()
	return asked
}

// expand returns the addresses behind the seeds: a name may stand for several.
func expand(ctx context.Context, seeds []string) (addresses []string) {
	for _, s := range seeds {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			continue
		}
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil || len(found) == 0 {
			addresses = append(addresses, s) // it cannot be reached, and counts as a seed
			continue
		}
		for _, ip := range found {
			if a := net.JoinHostPort(ip, port); !slices.Contains(addresses, a) && len(addresses) < maxSeeds {
				addresses = append(addresses, a)
			}
		}
	}
	return addresses
}

// clusterOf finds the cluster of this name among the replies. Two of them are an
// error: nobody can tell which one is meant.
func (i *introduction) clusterOf(replies []reply) (*reply, error) {
	var target *reply
	for j := range replies {
		r := &replies[j]
		if r.err != nil || r.itself || r.g.Cluster == ([16]byte{}) || r.g.Name != i.cfg.Cluster {
			continue
		}
		if i.cfg.Bound != ([16]byte{}) && r.g.Cluster != i.cfg.Bound {
			continue
		}
		if target != nil && target.g.Cluster != r.g.Cluster {
			return nil, fmt.Errorf("there are two clusters named %q: %x at %s and %x at %s: name seeds of the one this node shall join",
				i.cfg.Cluster, target.g.Cluster, target.address, r.g.Cluster, r.address)
		}
		if target == nil || target.g.Version.Before(r.g.Version) {
			target = r
		}
	}
	return target, nil
}

// join takes the document of a cluster.
func (i *introduction) join(ctx context.Context, at reply) (g Genesis, done bool, err error) {
	h, err := askDocument(ctx, &i.streamC, at.address, preface{From: i.identity(), WantNode: at.g.Self.Member.ID}, ring.Version{}, documentSlack*i.cfg.Timing.Ask)
	switch {
	case err != nil:
		return g, false, err
	case h.doc == nil || h.doc.Cluster != at.g.Cluster:
		return g, false, fmt.Errorf("%s gave the document of another cluster than its own", at.address)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if v := i.seeker.vow; v.Founder == i.cfg.Node && i.doc.doc != nil {
		return g, false, errors.New("this node has just founded a cluster itself")
	}
	g, err = i.keep(h, false)
	return g, true, err
}

// consider takes the replies in, and decides whether this node leads a founding. A
// vow to itself is durable before it asks for those of others. Replies to what was
// asked before this node's last vow say nothing of what was given up since.
func (i *introduction) consider(replies []reply, vows int) (founding, bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if vows != i.seeker.vows {
		return founding{}, false, nil
	}
	for _, r := range replies {
		switch {
		case r.itself:
			i.seeker.meetItself(r.address, r.seed)
		case r.err == nil:
			i.seeker.meet(r.address, r.seed, r.g)
		}
	}
	for _, r := range replies { // what others told of them meanwhile is older
		i.seeker.miss(r.address, r.there())
	}
	if i.seeker.released() || i.seeker.outdone() {
		if err := i.swearLocked(vow{}, ""); err != nil {
			return founding{}, false, err
		}
	}
	if v := i.seeker.vow; i.cfg.Bound != ([16]byte{}) || i.cfg.Expect < 2 || !v.isZero() && v.Founder != i.cfg.Node {
		return founding{}, false, nil
	}
	f, leads := i.seeker.propose()
	if !leads {
		return f, false, nil
	}
	if f.Vow.Cluster == ([16]byte{}) {
		rand.Read(f.Vow.Cluster[:])
		if err := i.swearLocked(f.Vow, i.advertise); err != nil {
			return f, false, err
		}
	}
	return f, true, nil
}

// lead asks all others of a founding for their vows, and founds the cluster when it
// has them.
func (i *introduction) lead(ctx context.Context, f founding) (g Genesis, done bool, err error) {
	body := appendFounding(nil, f)
	faults := make([]error, len(f.Set))
	var wg sync.WaitGroup
	for j, c := range f.Set {
		if c.Member.ID == i.cfg.Node {
			continue
		}
		wg.Go(func() {
			_, _, faults[j] = askNode(ctx, &i.streamC, c.Member.Address, preface{From: i.identity(), WantNode: c.Member.ID}, message{Op: opVow, Body: body}, i.cfg.Timing.Ask)
		})
	}
	wg.Wait()
	if err := errors.Join(faults...); err != nil {
		return g, false, fmt.Errorf("this node leads the founding, and not all others agree yet: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seeker.vow != f.Vow {
		return g, false, errors.New("this node has given up its own founding for another one")
	}
	g, err = i.found(f)
	return g, true, err
}

// why says what is waited for.
func (i *introduction) why(replies []reply) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var faults []string
	var others []string // of other clusters
	for _, r := range replies {
		switch {
		case r.err != nil:
			faults = append(faults, r.err.Error())
		case !r.itself && r.g.Name != i.cfg.Cluster:
			others = append(others, fmt.Sprintf("%s belongs to a cluster named %q", r.address, r.g.Name))
		}
	}
	slices.Sort(others)
	slices.Sort(faults)
	faults = append(others, faults...)
	detail := ""
	if len(faults) > 0 {
		detail = "; " + strings.Join(faults[:min(len(faults), 4)], "; ")
	}
	v := i.seeker.vow
	switch {
	case i.cfg.Bound != ([16]byte{}):
		return fmt.Errorf("the data directories belong to cluster %x, and none of the seeds does: name nodes of that cluster%s", i.cfg.Bound, detail)
	case i.cfg.Expect < 2 && len(others) > 0:
		return fmt.Errorf("none of the seeds %s belongs to it: check the cluster's name and the seeds%s", strings.Join(i.cfg.Seeds, ", "), detail)
	case i.cfg.Expect < 2:
		return fmt.Errorf("none of the seeds %s belongs to it yet: start the first node without seeds (join), or the first ones all with the number they expect%s", strings.Join(i.cfg.Seeds, ", "), detail)
	case !v.isZero() && v.Founder != i.cfg.Node:
		return fmt.Errorf("it waits for node %v, which it has vowed to let found the cluster: start that one; if it will never come back, remove %s from the data directories of the nodes that are left%s", v.Founder, foundingName, detail)
	case len(i.seeker.known)+1 < i.cfg.Expect:
		return fmt.Errorf("%d of the %d nodes that are to found it have met: start the others, with the same name of the cluster and the same number%s", len(i.seeker.known)+1, i.cfg.Expect, detail)
	}
	return fmt.Errorf("the %d nodes have found each other, and wait for the least of them, or for more than half of the seeds to be among them%s", i.cfg.Expect, detail)
}

// identity implements host.
func (i *introduction) identity() identity {
	return identity{Node: i.cfg.Node, Cluster: i.cfg.Bound}
}

// judge implements host.
func (i *introduction) judge(p preface) (Verdict, string) { return judgeAll(i.identity(), p) }

// take implements host: a node without a cluster welcomes questions only.
func (i *introduction) take(_ preface, nc net.Conn) { _ = nc.Close() }

func (i *introduction) greetingLocked() greeting {
	g := greeting{Cluster: i.cfg.Bound, Name: i.cfg.Cluster, Vow: i.seeker.vow, Self: i.seeker.me, Others: i.seeker.others()}
	if i.doc.doc != nil {
		g.Cluster, g.Version = i.doc.doc.Cluster, i.doc.version()
	}
	return g
}

// answer implements host: it answers another node while this one looks for its
// cluster.
func (i *introduction) answer(_ context.Context, _ preface, q message) message {
	i.mu.Lock()
	defer i.mu.Unlock()
	refuse := func(format string, args ...any) message {
		return message{Err: object.Errorf(object.CodeUnavailable, object.NotDone, format, args...)}
	}
	switch q.Op {
	case opHello:
		g, err := parseGreeting(q.Body)
		if err != nil {
			return refuse("%w", err)
		}
		i.seeker.meet("", false, g)
		return message{Body: appendGreeting(nil, i.greetingLocked())}
	case opVow:
		f, err := parseFounding(q.Body)
		if err != nil {
			return refuse("%w", err)
		}
		if i.cfg.Bound != ([16]byte{}) {
			return refuse("node %q belongs to cluster %x, and founds none", i.cfg.Name, i.cfg.Bound)
		}
		next, why := i.seeker.swear(f, i.doc.doc != nil)
		if why == "" && next != i.seeker.vow {
			if err := i.swearLocked(next, f.leadAddress()); err != nil {
				why = err.Error()
			}
		}
		if why != "" {
			return refuse("%s", why)
		}
		return message{}
	}
	return refuse("node %q has no cluster yet", i.cfg.Name)
}

// readFounding reads the file of each directory; one that has none gives the zero
// value.
func readFounding(dirs []*vfs.Dir) ([]foundingFile, error) {
	files := make([]foundingFile, len(dirs))
	for j, d := range dirs {
		b, err := vfs.ReadFile(d, foundingName, maxFoundingBytes)
		if vfs.IsNotExist(err) {
			continue
		}
		if err == nil {
			files[j], err = parseFoundingFile(b)
		}
		if err != nil {
			return nil, fmt.Errorf("the file %s, of a node that looks for its cluster: %w", d.Path(foundingName), err)
		}
	}
	return files, nil
}

// vowOf returns the vow in the files: the same in all that have one, unless writing
// them was interrupted, before anybody was told.
func vowOf(files []foundingFile) (v vow, at string) {
	for _, f := range files {
		if !f.Vow.isZero() {
			return f.Vow, f.At
		}
	}
	return vow{}, ""
}

func writeFounding(dirs []*vfs.Dir, files []foundingFile) error {
	for j, d := range dirs {
		if err := vfs.PublishBytes(d, foundingName, appendFoundingFile(nil, files[j])); err != nil {
			return fmt.Errorf("%s cannot be written: free space, or mend the disk: %w", d.Path(foundingName), err)
		}
	}
	return nil
}

// removeFounding removes the files: the node has a cluster, and its part in it.
func removeFounding(dirs []*vfs.Dir) error {
	for _, d := range dirs {
		err := d.Remove(foundingName)
		if vfs.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = d.SyncDir(nodeDir)
		}
		if err != nil {
			return fmt.Errorf("%s cannot be removed: %w", d.Path(foundingName), err)
		}
	}
	return nil
}
