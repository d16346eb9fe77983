// Package demo runs all of mayfly in one process and checks it: a sender, an
// aggregator, a node and a tailer, with real UDP and TCP between them on
// loopback ports of their own and a data directory of its own. What the tailer
// gets is compared, event by event and blob by blob, with what the sender sent
// and what the node acknowledged.
package demo
