// Package demo runs all of mayfly and checks it: a sender, an aggregator, nodes
// and a tailer, with real UDP and TCP between them on loopback ports of their own
// and data directories of their own. What the tailer gets is compared, event by
// event and blob by blob, with what the sender sent and what the nodes
// acknowledged.
//
// All of it is in one process, unless a node is to be killed: then the nodes are
// processes, and one of them ends with no goodbye and comes back.
package demo
