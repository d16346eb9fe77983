// Package cluster keeps the agreed document the same on all nodes, and tells who
// is there: Raft among up to five voters, gossip among all, one port for both and
// for the native protocol.
//
// [Introduce] finds the cluster a fresh node is to join, or founds one. [Start]
// runs a node's part; [Cluster.Propose] changes the document, wherever the leader
// is; [Cluster.Document] is the newest one known here. [Recover] makes one node
// the only voter when a majority of them is lost.
package cluster
