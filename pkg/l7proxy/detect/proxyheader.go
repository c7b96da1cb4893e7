package detect

import "bytes"

// A load balancer may send a header of the PROXY protocol before the client's bytes
// (haproxy.org/download/3.0/doc/proxy-protocol.txt). To Detect such a connection is opaque,
// because the header has to reach the application. A ClientHello that arrives together with
// the header still tells the name of the server.

const (
	proxyV1       = "PROXY "
	proxyV2       = "\r\n\r\n\x00\r\nQUIT\n" // signature
	maxProxyV1    = 107                      // bytes of the line, with CR and LF
	proxyV2Header = len(proxyV2) + 4         // with version, family and length of the rest
)

// afterProxyHeader returns what follows the PROXY header at the beginning of buf. ok is
// false if there is none, or only a part of one.
func afterProxyHeader(buf []byte) (rest []byte, ok bool) {
	if bytes.HasPrefix(buf, []byte(proxyV2)) {
		if len(buf) < proxyV2Header {
			return nil, false
		}
		end := proxyV2Header + int(buf[proxyV2Header-2])<<8 + int(buf[proxyV2Header-1])
		if len(buf) < end {
			return nil, false
		}
		return buf[end:], true
	}
	if !bytes.HasPrefix(buf, []byte(proxyV1)) {
		return nil, false
	}
	end := bytes.Index(buf[:min(len(buf), maxProxyV1)], []byte("\r\n"))
	if end < 0 || endsInVersion(buf[:end]) { // a request with the method PROXY
		return nil, false
	}
	line := buf[:end]
	switch family, _, _ := bytes.Cut(line[len(proxyV1):], []byte(" ")); string(family) {
	case "TCP4", "TCP6", "UNKNOWN":
		return buf[end+len("\r\n"):], true
	}
	return nil, false
}

// ProxiedName returns the server name of a ClientHello that follows a PROXY header, if buf
// has all of it; else "".
func ProxiedName(buf []byte) string {
	rest, ok := afterProxyHeader(buf)
	if !ok || len(rest) == 0 || rest[0] != recordHandshake {
		return ""
	}
	return detectTLS(rest).SNI
}
