// Package detect tells which protocol a client speaks from the first bytes it
// sends. It is pure: it never waits; the caller reads more when it is asked to.
//
// The rule where bytes are ambiguous: whatever a lenient HTTP server could
// take for a request is called HTTP/1, so that a malformed request meets the
// strict parser of the proxy and does not slip past it as opaque bytes.
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
	Mux                     // HTTP/1 connections in one between agents, which agree on it: never detected
)

// String is the protocol's name as in tap: http1, http2, tls, tcp; "unknown"
// while undecided.
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
	}
	return "unknown"
}

const (
	// MaxBytes is how many bytes Detect asks for at most: with that many it
	// always decides.
	MaxBytes = 16 << 10
	// MaxRequestLine is the longest HTTP/1 request line that is waited for. One that
	// begins with a registered method is a request all the same.
	MaxRequestLine = 9 << 10
	// maxEmptyLines is how many bytes of empty lines are no request yet.
	maxEmptyLines = 4 << 10
	// MaxMethod is the longest HTTP method that is taken for one.
	MaxMethod = 32
)

// Preface is the client connection preface of HTTP/2 (RFC 9113 §3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Result is what the bytes seen so far say. When NeedMore is true Protocol is
// Unknown and the rest is zero.
type Result struct {
	Protocol  Protocol
	NeedMore  bool
	SNI       string // TLS only: server name, "" if none or not a host name
	Underlane bool   // TLS only: the client offers an ALPN protocol of the mesh
}

var needMore = Result{NeedMore: true}

// Detect looks at buf, all bytes the client has sent so far. It allocates
// only for Result.SNI (and to join a ClientHello that spans TLS records).
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

// HTTP2Server reports whether the first bytes that a server sends begin an
// HTTP/2 connection: with SETTINGS, for which it does not wait for the client
// (RFC 9113 §3.4).
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

// detectHTTP1 wants a request line: method SP target SP HTTP/1.x, ended by LF
// (RFC 9112 §3). Only the method and the version are looked at: what stands
// between them is for the strict parser to accept or refuse. Servers ignore empty
// lines before it (RFC 9112 §2.2), so they do not decide either.
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
			return Result{Protocol: HTTP1} // some servers take it
		}
		return Result{Protocol: Opaque}
	}
	if endsInVersion(bytes.TrimRight(buf[method:end], " \t\r")) {
		return Result{Protocol: HTTP1}
	}
	return Result{Protocol: Opaque}
}

// afterEmptyLines is buf without the empty lines that it begins with.
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
