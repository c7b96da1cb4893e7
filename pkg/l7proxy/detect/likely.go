package detect

// Likely guesses the protocol of bytes for which Detect returned NeedMore:
//   - TLS: they begin a ClientHello, as far as six bytes show it;
//   - HTTP1: they begin a request line with a registered method, or the preface of
//     HTTP/2, whose method is registered too. Only more bytes tell which of the two;
//   - Opaque: they could only be a request with a method that is not registered.
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

// methods are the registered methods (IANA, HTTP Method Registry).
var methods = [...]string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL",
	"LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS",
	"ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH",
	"TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
}

// registered contains the methods, beginnings all their prefixes and the methods
// themselves.
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
