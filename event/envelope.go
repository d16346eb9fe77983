package event

// An envelopeError is why an envelope is refused. Being constants, these cost
// nothing to return: a datagram may hold thousands of envelopes to refuse.
type envelopeError string

// Error gives the reason.
func (e envelopeError) Error() string { return ErrEnvelope.Error() + ": " + string(e) }

// Is makes every envelopeError an ErrEnvelope.
func (e envelopeError) Is(target error) bool { return target == ErrEnvelope }

const (
	errNoMap     = envelopeError("want msgpack maps, or JSON objects on lines that begin with {")
	errNoType    = envelopeError("it has no type")
	errNoSubtype = envelopeError("it has no subtype")
	errNoEvent   = envelopeError("it has no event")
	errTwice     = envelopeError("type, subtype, event, epoch or dc is there twice")
	errType      = envelopeError("type must be a string of " + nameGrammar)
	errSubtype   = envelopeError("subtype must be a string of " + nameGrammar)
	errDC        = envelopeError("dc must be a string of " + nameGrammar + ", or null")
	errEvent     = envelopeError("event must be a map")
	errEpoch     = envelopeError("epoch must be an integer, seconds from 1 to 2^53, or null")
)

// parseEnvelope reads the map that b begins with, in one walk. n is its length;
// err is an ErrEnvelope that says why it is refused, or nil. If it is malformed,
// reason is not empty, n is where, and nothing else counts.
func parseEnvelope(b []byte) (env Envelope, n int, reason string, err error) {
	at, count, reason := longShape(b, shapes[b[0]])
	if reason != "" {
		return env, 0, reason, nil
	}
	var seen members
	for range count / 2 {
		key := b[at:]
		n, reason := walk(key, MaxDepth-1)
		if reason != "" {
			return env, at + n, reason, nil
		}
		at += n
		value := b[at:]
		m, reason := walk(value, MaxDepth-1)
		if reason != "" {
			return env, at + m, reason, nil
		}
		at += m
		if err == nil { // otherwise only the end is wanted
			err = env.member(key[:n], value[:m:m], &seen)
		}
	}
	if err == nil {
		err = env.missing()
	}
	return env, at, "", err
}

// missing says which required member an envelope has not had.
func (env *Envelope) missing() error {
	switch {
	case env.Type == nil:
		return errNoType
	case env.Subtype == nil:
		return errNoSubtype
	case env.Event == nil:
		return errNoEvent
	}
	return nil
}

// members says which members an envelope has had, a bit each.
type members uint8

// member takes one member of an envelope.
func (env *Envelope) member(key, value []byte, seen *members) error {
	name, _ := text(key)
	var bit members
	ok := true
	var fault error
	switch string(name) {
	case "type":
		bit, fault = 1, errType
		env.Type, ok = nameMember(value)
	case "subtype":
		bit, fault = 2, errSubtype
		env.Subtype, ok = nameMember(value)
	case "event":
		bit, fault = 4, errEvent
		env.Event, ok = value, isMap(value[0])
	case "epoch":
		bit, fault = 8, errEpoch
		env.Epoch, ok = epochMember(value)
	case "dc":
		bit, fault = 16, errDC
		if value[0] != codeNil {
			env.DC, ok = nameMember(value)
		}
	default:
		env.Unknown++
		return nil
	}
	if !ok {
		return fault
	}
	if *seen&bit != 0 {
		return errTwice
	}
	*seen |= bit
	return nil
}

const codeNil = 0xc0

func nameMember(value []byte) (name []byte, ok bool) {
	name, ok = text(value)
	return name, ok && ValidName(name)
}

func epochMember(value []byte) (epoch int64, ok bool) {
	c := value[0]
	if c == codeNil {
		return 0, true
	}
	if c >= 0x80 && c < 0xe0 && (c < 0xcc || c > 0xd3) { // not an integer
		return 0, false
	}
	n, _ := integer(value) // a negative one is a great one here
	return int64(n), n >= 1 && n <= MaxEpoch
}

// text is the bytes of a str or bin; producers' libraries write either.
func text(value []byte) (s []byte, ok bool) {
	if c := value[0]; isStr(c) || isBin(c) {
		n, body := scalar(value)
		return value[body:n:n], true
	}
	return nil, false
}
