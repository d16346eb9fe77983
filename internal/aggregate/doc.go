// Package aggregate makes blobs of events. Producers send events as UDP
// datagrams; once a second the aggregator stores what came for each dc, type and
// subtype as one blob, or a few chunks of under 500 KB.
//
// It follows the rules for writers that make "second T is complete" possible:
// it says hello before its first second, sends a final (count and digest of its
// blobs) after each second, empty ones included, and goodbye when it stops. In a
// second in which readers cannot expect it (index.Standing), as after an outage,
// its blobs bear no name and there is no final; it says hello again. Its
// blobs are named <incarnation>-<n>, so that no two aggregators, and no two
// starts of one, can claim the same key. An object is stamped once: trying again
// sends the same bytes.
//
// How a second goes, with the default grace of half a second:
//
//	T .. T+1        events of T are collected, in one builder per dc, type, subtype
//	T+1.5           T is closed: its builders are sealed into blobs
//	                the blobs are stored, tried again until they are
//	all stored      the final of T is appended to the index
//	after T+1.5     events of T still come: they go in further chunks half a second
//	                later, which the final does not count
//
// Memory is bounded. When half of it is full of events, builders are sealed
// early; when all of it is, the newest events are dropped and counted: what was
// taken in is never given up for something newer.
//
// The decisions are a step function, core, which knows no clock, socket or
// goroutine; Aggregator is the thin driver around it.
package aggregate
