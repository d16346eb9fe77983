package object

// Values that pin the formats: a change here is a new format number.
const (
	goldenCRC   = 0x1a8b7690
	goldenShort = 0x59b3bc97
)

var goldenDigest = Digest{Hi: 0x69a911c2acb4b31f, Lo: 0xf4ba40f0dacd450e}
