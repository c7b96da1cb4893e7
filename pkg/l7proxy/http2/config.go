package http2

// Role is which end of the connection a Conn is.
type Role uint8

const (
	// Server accepts streams.
	Server Role = iota
	// Client opens streams.
	Client
)

// Defaults of Config.
const (
	DefaultStreamWindow   = 256 << 10
	DefaultConnWindow     = 1 << 20
	DefaultMaxStreams     = 250
	DefaultMaxHeaderList  = 64 << 10
	DefaultMaxHeaderCount = 256
	DefaultOutputLimit    = 64 << 10
)

// Bounds that are not worth a setting.
const (
	maxFrameIn       = 16 << 10  // largest frame accepted: the protocol's default and minimum
	maxFrameOut      = 16 << 10  // largest frame sent, whatever the peer allows: keeps streams interleaved
	maxContinuations = 64        // CONTINUATION frames of one field section (the flood of CVE-2024-27316)
	maxControlOut    = 128 << 10 // bytes of unsolicited replies (PING, SETTINGS, RST_STREAM) not yet taken
	initialWindow    = 65535     // RFC 9113 §6.9.2
	maxWindow        = 1<<31 - 1 // RFC 9113 §6.9.1
	maxStreamID      = 1<<31 - 1
	headerTableSize  = 4096 // our HPACK decoder's and encoder's table
)

// Config sets limits; the zero value of a field means its default.
type Config struct {
	Role Role
	// StreamWindow and ConnWindow are the receive windows in bytes: what one
	// stream and all streams together may have in flight and unconsumed.
	StreamWindow int
	ConnWindow   int
	// MaxStreams bounds the streams that the peer may have open at once.
	MaxStreams int
	// MaxHeaderList bounds a received field section in bytes as RFC 9113
	// §6.5.2 counts them (32 extra per field); MaxHeaderCount its fields.
	MaxHeaderList  int
	MaxHeaderCount int
	// OutputLimit is the length of output in bytes above which WriteData takes
	// nothing more.
	OutputLimit int
	// Resets bounds the streams that the peer opens in vain. Server role.
	Resets ResetLimit
	// ConnectProtocol lets the peer bootstrap other protocols by extended
	// CONNECT (RFC 8441). Server role.
	ConnectProtocol bool
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.StreamWindow, DefaultStreamWindow)
	def(&c.ConnWindow, DefaultConnWindow)
	def(&c.MaxStreams, DefaultMaxStreams)
	def(&c.MaxHeaderList, DefaultMaxHeaderList)
	def(&c.MaxHeaderCount, DefaultMaxHeaderCount)
	def(&c.OutputLimit, DefaultOutputLimit)
	c.Resets = c.Resets.withDefaults()
	c.StreamWindow = min(c.StreamWindow, maxWindow)
	c.ConnWindow = min(max(c.ConnWindow, initialWindow), maxWindow)
	return c
}
