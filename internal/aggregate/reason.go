package aggregate

import "fmt"

// A Reason says why events were dropped.
type Reason uint8

const (
	BadMsgpack    Reason = iota // the datagram, or what was left of it, is malformed msgpack
	BadJSON                     // a line of the datagram is malformed JSON
	BadEnvelope                 // well-formed, but not an envelope: no map, a name missing or wrong
	Empty                       // a datagram without any envelope
	Truncated                   // a datagram that was cut off
	TooOld                      // the second has expired
	TooFarAhead                 // the second is further ahead of the clock than is allowed
	TooManyDCs                  // one dc more than Options.MaxDCs
	TooManyGroups               // one blob more under way than Options.MaxGroups
	Overload                    // Options.MaxBufferedBytes are in use
	Refused                     // the store will never take the blob
	Stopped                     // not acknowledged when the aggregator stopped; may be stored nevertheless

	numReasons = iota
)

var reasonNames = [numReasons]string{
	BadMsgpack: "bad_msgpack", BadJSON: "bad_json", BadEnvelope: "bad_envelope", Empty: "empty", Truncated: "truncated",
	TooOld: "too_old", TooFarAhead: "too_far_ahead", TooManyDCs: "too_many_dcs", TooManyGroups: "too_many_groups",
	Overload: "overload", Refused: "refused", Stopped: "stopped",
}

// String is the reason as metrics have it: lower case, "_" between words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Reasons lists every Reason.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
