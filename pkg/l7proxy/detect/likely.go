package detect

// Likely says what bytes may become that Detect wants more of: TLS if they are
// the beginning of a ClientHello, as far as six bytes tell; HTTP1 if they are
// that of a request line with a registered method, or of HTTP/2's preface, whose
// method is one; Opaque if they would be a request of a method that nobody has
// registered. What of the last two it is only more bytes can say.
func Likely(buf []byte) Protocol {
	buf = afterEmptyLines(buf)
	if len(buf) == 0 {
		return Opaque
	}
	if buf[0] == recordHandshake {
		if len(buf) > recordHeader {
			return TLS
		}
		return Opaque
	}
	for n, c := range buf {
		if c == ' ' {
			if registered[string(buf[:n])] {
				return HTTP1
			}
			return Opaque
		}
	}
	if beginnings[string(buf)] {
		return HTTP1
	}
	return Opaque
}

// methods are the registered ones (IANA, HTTP Method Registry).
var methods = [...]string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL",
	"LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS",
	"ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH",
	"TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
}

// registered has the methods, beginnings what they begin with, they themselves
// included.
var registered, beginnings = func() (whole, parts map[string]bool) {
	whole, parts = make(map[string]bool), make(map[string]bool)
	for _, m := range methods {
		whole[m] = true
		for n := range m {
			parts[m[:n+1]] = true
		}
	}
	return whole, parts
}()
