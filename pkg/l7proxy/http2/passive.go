package http2

import (
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Preface is what a client sends first (RFC 9113 §3.4).
const Preface = xhttp2.ClientPreface

// What a reader needs that is no end of the connection (pkg/observe), and sees only parts of
// what the ends send: it cannot use a Conn.
type (
	Decoder   = hpack.Decoder // of field blocks (RFC 7541)
	FrameType = xhttp2.FrameType
	Flags     = xhttp2.Flags
)

// NewDecoder returns a Decoder with a table of so many bytes.
func NewDecoder(table uint32, emit func(Field)) *Decoder { return hpack.NewDecoder(table, emit) }

// Types of frames (RFC 9113 §6).
const (
	FrameData         = xhttp2.FrameData
	FrameHeaders      = xhttp2.FrameHeaders
	FramePriority     = xhttp2.FramePriority
	FrameRSTStream    = xhttp2.FrameRSTStream
	FrameSettings     = xhttp2.FrameSettings
	FramePushPromise  = xhttp2.FramePushPromise
	FramePing         = xhttp2.FramePing
	FrameGoAway       = xhttp2.FrameGoAway
	FrameWindowUpdate = xhttp2.FrameWindowUpdate
	FrameContinuation = xhttp2.FrameContinuation
)

// Flags of frames. The same bits are used by several types: FlagEndStream by DATA and HEADERS,
// FlagAck by SETTINGS and PING, FlagEndHeaders by all that carry a field block.
const (
	FlagEndStream  = xhttp2.FlagDataEndStream
	FlagAck        = xhttp2.FlagSettingsAck
	FlagEndHeaders = xhttp2.FlagHeadersEndHeaders
	FlagPadded     = xhttp2.FlagDataPadded
	FlagPriority   = xhttp2.FlagHeadersPriority
)

// SettingHeaderTableSize is SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2).
const SettingHeaderTableSize = uint16(xhttp2.SettingHeaderTableSize)
