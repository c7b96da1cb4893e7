package http2

// Role says which end of the connection a Conn is.
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
	FirstStreamWindow     = 64 << 10 // of streams that are widened to DefaultStreamWindow when that pays
	DefaultConnWindow     = 1 << 20
	DefaultMaxStreams     = 250
	DefaultMaxHeaderList  = 64 << 10
	DefaultMaxHeaderCount = 256
	DefaultOutputLimit    = 64 << 10
)

// Fixed bounds.
const (
	maxFrameIn       = 16 << 10  // largest frame that is accepted: the protocol's default and minimum
	maxFrameOut      = 16 << 10  // largest frame that is sent, even if the peer allows more: keeps streams interleaved
	maxContinuations = 64        // CONTINUATION frames in one field section (flood: CVE-2024-27316)
	maxControlOut    = 128 << 10 // bytes of replies (PING, SETTINGS, RST_STREAM) that were not taken yet
	maxUnread        = 2 << 20   // bytes of output that were not taken yet, with which a further stream begins
	initialWindow    = 65535     // RFC 9113 §6.9.2
	maxWindow        = 1<<31 - 1 // RFC 9113 §6.9.1
	maxStreamID      = 1<<31 - 1
	headerTableSize  = 4096 // table of our HPACK decoder and encoder
	maxFree          = 256  // stream states that are kept for the next streams
	earlyStreams     = 100  // streams that are opened at once before the peer's SETTINGS arrive; §6.5.2 recommends no lower limit
	noLimit          = 1<<32 - 1
)

// Config sets limits. The zero value of a field selects its default.
type Config struct {
	Role Role
	// StreamWindow and ConnWindow are the receive windows in bytes: the unconsumed bytes
	// that one stream, and all streams together, may have.
	StreamWindow int
	ConnWindow   int
	// MaxStreams is the number of streams that the peer may have open at once.
	MaxStreams int
	// MaxHeaderList is the largest size of a received field section in bytes, counted as
	// in RFC 9113 §6.5.2 (32 extra for each field). MaxHeaderCount is the most fields.
	MaxHeaderList  int
	MaxHeaderCount int
	// OutputLimit is the length of the output in bytes at which WriteData stops taking
	// bytes.
	OutputLimit int
	// FrameFits is the size in bytes that a full DATA frame has, with its header: that of a
	// record of TLS, if the output is encrypted, so that each record has a frame. Default: the
	// protocol's largest, whose payload is 16 KiB.
	FrameFits int
	// Resets limits the streams that the peer makes this end reset or refuse. Server role.
	Resets ResetLimit
	// ConnectProtocol allows the peer to bootstrap other protocols with extended CONNECT
	// (RFC 8441). Server role.
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
	def(&c.FrameFits, maxFrameOut+frameHeaderLen)
	c.Resets = c.Resets.withDefaults()
	c.StreamWindow = min(c.StreamWindow, maxWindow)
	c.ConnWindow = min(max(c.ConnWindow, initialWindow), maxWindow)
	return c
}
