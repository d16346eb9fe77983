package config

import "time"

// Config holds every setting of every program. Each program reads the sections
// it needs; one file serves them all. [DefaultConfig] returns a Config that is
// valid; [Load] one that was checked.
type Config struct {
	Log       Log       `toml:"log" doc:"What the long-running programs write to standard error."`
	Metrics   Metrics   `toml:"metrics" doc:"Where the long-running programs answer over HTTP: /metrics for Prometheus, /livez, /readyz, /debug/pprof.\nWhoever reaches these addresses can read profiles: keep them on the loopback interface or a private network."`
	Node      Node      `toml:"node" doc:"mayfly serve: one node."`
	Aggregate Aggregate `toml:"aggregate" doc:"mayfly aggregate: events by UDP in, one blob a second for each kind of event out."`
	Client    Client    `toml:"client" doc:"How mayfly aggregate, tail, put, get, del and keys reach the nodes."`
	Buckets   []Bucket  `toml:"-"` // declared buckets: the built-in ones, and those of the file; in order of type and name
}

// Log says how much is logged and in which form.
type Log struct {
	Level  string `toml:"level" doc:"The least important lines to write: \"debug\", \"info\", \"warn\" or \"error\"."`
	Format string `toml:"format" doc:"\"text\" for people, \"json\" for machines: one object a line."`
}

// Metrics holds the address of each program's HTTP listener; "" is off.
type Metrics struct {
	Node      string `toml:"node" doc:"Address of mayfly serve's listener; \"\" turns it off."`
	Aggregate string `toml:"aggregate" doc:"Address of mayfly aggregate's listener; \"\" turns it off."`
	Tail      string `toml:"tail" doc:"Address of mayfly tail's listener; \"\" turns it off. Example: \"127.0.0.1:7077\"."`
}

// Node configures one node.
type Node struct {
	Name           string   `toml:"name" doc:"The node's name in messages and metrics; \"\" is the host's name."`
	Cluster        string   `toml:"cluster" doc:"The cluster's name. Nodes and data directories of differently named clusters refuse each other."`
	Listen         string   `toml:"listen" doc:"TCP address for clients and other nodes. Use \"0.0.0.0:7070\" to be reached from other hosts."`
	Advertise      string   `toml:"advertise" doc:"Where clients and other nodes reach this one, host:port; \"\" is the address it listens on,\nor if that is \"0.0.0.0\" one of the machine's. It may change at any start."`
	Join           []string `toml:"join" doc:"Addresses of nodes of the cluster this one belongs to, host:port; some of them are enough, its own may be among them.\nA node with a data directory finds the others without. Empty: a new node is a cluster of its own."`
	Expect         int      `toml:"expect" doc:"How many new nodes found the cluster together: the same number and the same join on each. \"1\": a new node with join waits for\na cluster that is there. Of no meaning once the data directory is made."`
	Zone           string   `toml:"zone" doc:"What fails together with this node, a rack or a room. Copies of one thing are put into different zones, where there are enough. Counts when the node joins; later \"mayfly cluster zone\" changes it."`
	Weight         int      `toml:"weight" doc:"Capacity of this node, in any unit, the same on all nodes: a node of twice the weight gets twice the data. Counts when the node joins; later \"mayfly cluster weight\" changes it."`
	Data           []string `toml:"data" doc:"Data directories, one for each disk. They are made if need be."`
	Slot           Duration `toml:"slot" doc:"Length of a slot, whole seconds: records of one slot share their files and expire with them.\nFixed when the cluster is founded."`
	Partitions     int      `toml:"partitions" doc:"Partitions of the ring: a power of two, 1 to 4096. Fixed when the cluster is founded."`
	Ahead          Duration `toml:"ahead" doc:"How far ahead of the node's clock the second of an event may be, whole seconds."`
	Lateness       Duration `toml:"lateness" doc:"How long writers are waited for before a second is called incomplete, whole seconds."`
	SealAfter      Duration `toml:"seal_after" doc:"How long after a slot's end, or its last late record, its files are sealed, whole seconds."`
	SyncInterval   Duration `toml:"sync_interval" doc:"How often buckets whose sync is \"interval\" are synced to disk: what a power cut may cost."`
	MinFree        Size     `toml:"min_free" doc:"Free space below which a disk refuses writes; \"0\" is 1 GiB or 2 % of the disk, the lesser.\nExpiry goes on, and writes with it when there is space again."`
	MergeRate      Size     `toml:"merge_rate" doc:"Bytes a second that giving back the space of overwritten plain objects may read and write, per disk; \"0\": none is given back."`
	TombstoneGrace Duration `toml:"tombstone_grace" doc:"How long a deleted plain object is remembered as deleted, whole seconds. A replica that misses the delete for longer may bring it back."`
	MaxHandles     int      `toml:"max_handles" doc:"Data files open at once."`
	HintCache      Size     `toml:"hint_cache" doc:"Memory, over all disks, for those parts of the lists of sealed slots' records that are looked into most; \"0\": none."`
	MaxInFlight    Size     `toml:"max_in_flight" doc:"Bytes of requests being worked on at once, over all connections; more wait in the network."`
	TailBuffer     Size     `toml:"tail_buffer" doc:"Bytes held for tails that have not read them yet; slower tails read from disk."`
}

// Aggregate configures the aggregator.
type Aggregate struct {
	Name          string   `toml:"name" doc:"The writer's name in the index; \"\" is the host's name. Two aggregators must not share one."`
	Listen        []string `toml:"listen" doc:"UDP addresses the events are sent to. Use \"0.0.0.0:7071\" to be reached from other hosts."`
	DC            string   `toml:"dc" doc:"Data centre of events that do not name theirs: 1 to 64 of A-Z a-z 0-9 _ . -"`
	Grace         Duration `toml:"grace" doc:"How long after the end of a second its events are waited for. Later ones go into a late blob."`
	ReceiveBuffer Size     `toml:"receive_buffer" doc:"Socket buffer asked of the kernel: what arrives while the program is busy waits there."`
	MaxMemory     Size     `toml:"max_memory" doc:"Bytes of events held, waiting to be stored; beyond it new events are dropped and counted."`
	StopTimeout   Duration `toml:"stop_timeout" doc:"How long, when it is told to stop, it tries to store what it has."`
}

// Client configures how programs reach the nodes.
type Client struct {
	Nodes       []string `toml:"nodes" doc:"TCP addresses of nodes to ask, in any order."`
	Pinned      bool     `toml:"pinned" doc:"Ask these nodes and no others. Otherwise the other members are learnt from them,\nand requests go to the nodes that own what is asked for."`
	User        string   `toml:"user" doc:"The name this program gives to the nodes; \"\" is none."`
	Timeout     Duration `toml:"timeout" doc:"How long one request may take, retries included."`
	MaxInFlight Size     `toml:"max_in_flight" doc:"Bytes of requests and answers under way at once."`
}

// DefaultConfig returns the settings of a single node and everything around it
// on one machine, reachable from that machine only.
func DefaultConfig() Config {
	return Config{
		Log:     Log{Level: "info", Format: "text"},
		Metrics: Metrics{Node: "127.0.0.1:7079", Aggregate: "127.0.0.1:7078", Tail: ""},
		Node: Node{
			Cluster:        "mayfly",
			Listen:         "127.0.0.1:7070",
			Join:           []string{},
			Expect:         1,
			Weight:         100,
			Data:           []string{"./mayfly-data"},
			Slot:           Duration(time.Hour),
			Partitions:     64,
			Ahead:          Duration(10 * time.Second),
			Lateness:       Duration(5 * time.Second),
			SealAfter:      Duration(2 * time.Minute),
			SyncInterval:   Duration(time.Second),
			MinFree:        0,
			MergeRate:      16 << 20,
			TombstoneGrace: Duration(10 * day),
			MaxHandles:     1024,
			HintCache:      4 << 20,
			MaxInFlight:    256 << 20,
			TailBuffer:     256 << 20,
		},
		Aggregate: Aggregate{
			Listen:        []string{"127.0.0.1:7071"},
			DC:            "dc1",
			Grace:         Duration(500 * time.Millisecond),
			ReceiveBuffer: 16 << 20,
			MaxMemory:     256 << 20,
			StopTimeout:   Duration(10 * time.Second),
		},
		Client: Client{
			Nodes:       []string{"127.0.0.1:7070"},
			Timeout:     Duration(5 * time.Second),
			MaxInFlight: 64 << 20,
		},
		Buckets: defaultBuckets(),
	}
}
