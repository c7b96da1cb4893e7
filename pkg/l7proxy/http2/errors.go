package http2

import (
	"errors"
	"fmt"

	xhttp2 "golang.org/x/net/http2"
)

// ErrCode is an HTTP/2 error code (RFC 9113 §7).
type ErrCode = xhttp2.ErrCode

// The error codes of RFC 9113 §7.
const (
	NoError            = xhttp2.ErrCodeNo
	ProtocolError      = xhttp2.ErrCodeProtocol
	InternalError      = xhttp2.ErrCodeInternal
	FlowControlError   = xhttp2.ErrCodeFlowControl
	SettingsTimeout    = xhttp2.ErrCodeSettingsTimeout
	StreamClosed       = xhttp2.ErrCodeStreamClosed
	FrameSizeError     = xhttp2.ErrCodeFrameSize
	RefusedStream      = xhttp2.ErrCodeRefusedStream
	Cancel             = xhttp2.ErrCodeCancel
	CompressionError   = xhttp2.ErrCodeCompression
	ConnectError       = xhttp2.ErrCodeConnect
	EnhanceYourCalm    = xhttp2.ErrCodeEnhanceYourCalm
	InadequateSecurity = xhttp2.ErrCodeInadequateSecurity
	HTTP11Required     = xhttp2.ErrCodeHTTP11Required
)

// ConnError is an error that ends the connection (RFC 9113 §5.4.1). When Feed returns
// one, the output already contains the GOAWAY with its code and reason.
type ConnError struct {
	Code   ErrCode
	Reason string
}

func (e *ConnError) Error() string {
	return fmt.Sprintf("http2 connection error %v: %s", e.Code, e.Reason)
}

func connErr(code ErrCode, reason string) error { return &ConnError{Code: code, Reason: reason} }

// Errors of the sending side. None of them is the peer's fault.
var (
	// ErrStreamClosed: the stream has ended, was reset, or never existed.
	ErrStreamClosed = errors.New("http2: stream is closed")
	// ErrTooManyStreams: as many streams are open as the peer's
	// SETTINGS_MAX_CONCURRENT_STREAMS allows. Try again after RoomOpened.
	ErrTooManyStreams = errors.New("http2: the peer allows no further concurrent stream")
	// ErrGoingAway: a GOAWAY was sent or received, or all stream ids are used. Use
	// another connection.
	ErrGoingAway = errors.New("http2: the connection takes no further stream")
	// ErrNoSettings: whether the peer accepts the request depends on its SETTINGS, which
	// have not arrived yet. Try again after EventSettings.
	ErrNoSettings = errors.New("http2: the peer's settings are not known yet")
	// ErrNoConnectProtocol: the peer does not support extended CONNECT (RFC 8441).
	ErrNoConnectProtocol = errors.New("http2: the peer takes no extended CONNECT")
	// ErrHeaderTooLarge: the field section exceeds the peer's
	// SETTINGS_MAX_HEADER_LIST_SIZE.
	ErrHeaderTooLarge = errors.New("http2: header section over the peer's limit")
)
