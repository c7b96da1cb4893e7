// Package detect tells which protocol a client speaks from the first bytes that it
// sends. It is pure and never waits: the caller reads more when Detect asks for it.
//
// Ambiguous bytes are HTTP/1 if a lenient HTTP server could take them for a request.
// So a malformed request reaches the strict parser of the proxy, and does not pass as
// opaque bytes.
package detect

import "bytes"

// Protocol is what a connection carries.
type Protocol uint8

const (
	Unknown Protocol = iota // not decided yet
	HTTP1                   // HTTP/1.0 or HTTP/1.1
	HTTP2                   // HTTP/2 with prior knowledge: the client preface was seen
	TLS                     // a TLS ClientHello
	Opaque                  // anything else
	Mux                     // HTTP/1 connections multiplexed between agents; agreed by ALPN, never detected
	Streams                 // opaque connections multiplexed between agents; likewise
	Move                    // the rest of one of these, which carries much; likewise
)

// String returns the protocol's name in tap: http1, http2, tls, tcp, mux, streams or move; "unknown"
// while it is not decided.
func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "http1"
	case HTTP2:
		return "http2"
	case TLS:
		return "tls"
	case Opaque:
		return "tcp"
	case Mux:
		return "mux"
	case Streams:
		return "streams"
	case Move:
		return "move"
	}
	return "unknown"
}

const (
	// MaxBytes is the most bytes that Detect asks for: with that many it always
	// decides.
	MaxBytes = 16 << 10
	// MaxRequestLine is the longest HTTP/1 request line that Detect waits for. A longer
	// line is a request if it begins with a registered method.
	MaxRequestLine = 9 << 10
	// maxEmptyLines is the number of bytes of empty lines that do not decide yet.
	maxEmptyLines = 4 << 10
	// MaxMethod is the length of the longest HTTP method, in bytes.
	MaxMethod = 32
)

// Preface is the client connection preface of HTTP/2 (RFC 9113 §3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Result is what the bytes so far say. If NeedMore is true, Protocol is Unknown and the
// other fields are zero.
type Result struct {
	Protocol   Protocol
	NeedMore   bool
	SNI        string // TLS only: server name, "" if none or not a host name
	OffersMesh bool   // TLS only: the client offers an ALPN protocol of the mesh
}

var needMore = Result{NeedMore: true}

// Detect examines buf, all bytes that the client has sent so far. It allocates only for
// Result.SNI, and to join a ClientHello that spans TLS records.
func Detect(buf []byte) Result {
	if len(buf) == 0 {
		return needMore
	}
	if buf[0] == recordHandshake {
		return detectTLS(buf)
	}
	if n := min(len(buf), len(Preface)); string(buf[:n]) == Preface[:n] {
		if n < len(Preface) {
			return needMore
		}
		return Result{Protocol: HTTP2}
	}
	return detectHTTP1(buf)
}

// HTTP2Server reports whether the first bytes of a server begin an HTTP/2 connection.
// They do if they are a SETTINGS frame, which a server sends without waiting for the
// client (RFC 9113 §3.4).
func HTTP2Server(buf []byte) bool {
	const (
		header   = 9
		settings = 4
		each     = 6 // bytes of a setting
		most     = 100
	)
	if len(buf) < header || buf[0] != 0 {
		return false
	}
	length := int(buf[1])<<8 | int(buf[2])
	return length%each == 0 && length <= each*most && bytes.Equal(buf[3:header], []byte{settings, 0, 0, 0, 0, 0})
}

// detectHTTP1 looks for a request line: method SP target SP HTTP/1.x, ended by LF (RFC
// 9112 §3). It examines only the method and the version; the strict parser accepts or
// refuses the target. Empty lines before the request line do not decide, because
// servers ignore them (RFC 9112 §2.2).
func detectHTTP1(buf []byte) Result {
	all := len(buf)
	buf = afterEmptyLines(buf)
	if all-len(buf) >= maxEmptyLines {
		return Result{Protocol: HTTP1} // the parser refuses it
	}
	method := 0
	for method < len(buf) && isToken(buf[method]) {
		if method++; method > MaxMethod {
			return Result{Protocol: Opaque}
		}
	}
	if method == len(buf) {
		return needMore
	}
	if method == 0 || buf[method] != ' ' {
		return Result{Protocol: Opaque}
	}
	end := bytes.IndexByte(buf[:min(len(buf), MaxRequestLine)], '\n')
	if end < 0 {
		switch {
		case len(buf) < MaxRequestLine:
			return needMore
		case registered[string(buf[:method])]:
			return Result{Protocol: HTTP1} // some servers accept it
		}
		return Result{Protocol: Opaque}
	}
	if endsInVersion(bytes.TrimRight(buf[method:end], " \t\r")) {
		return Result{Protocol: HTTP1}
	}
	return Result{Protocol: Opaque}
}

// afterEmptyLines returns buf without its leading empty lines.
func afterEmptyLines(buf []byte) []byte { return bytes.TrimLeft(buf, "\r\n") }

// endsInVersion reports whether line ends in " HTTP/1.<digit>".
func endsInVersion(line []byte) bool {
	const version = " HTTP/1."
	n := len(line) - len(version) - 1
	return n >= 0 && string(line[n:n+len(version)]) == version &&
		'0' <= line[len(line)-1] && line[len(line)-1] <= '9'
}

// isToken reports whether c is a tchar (RFC 9110 §5.6.2).
func isToken(c byte) bool { return tokenTable[c] }

var tokenTable = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789" +
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}()
