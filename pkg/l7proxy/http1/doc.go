// Package http1 is the HTTP/1 engine of the proxy (RFC 9110, RFC 9112). It parses
// heads, delimits bodies and rewrites heads for forwarding. It is sans-I/O: it takes
// and returns bytes, and has no socket, clock or goroutine.
//
// # How a driver uses it
//
// The driver keeps the received bytes of a connection in one buffer, which begins with
// the first byte of a message.
//
//	n, err := http1.ParseRequest(buf, &head) // n == 0, err == nil: read more, call again
//	out = http1.AppendRequestHead(out, &head, &edits)
//	kind := head.Kind()                      // what the response's framing depends on
//	body := head.Body()
//	buf = buf[n:]                            // head's slices lie in these bytes
//	for !body.Done() {
//		n, _, err := body.Next(buf)      // the first n bytes belong to the message
//		out = append(out, buf[:n]...)    // unchanged, with chunk framing and trailers
//		…
//	}
//
// A response is read likewise with ParseResponse(buf, &head, kind), which is called
// again after each interim (1xx) response. A message is forwarded byte for byte, except
// for the fields that belong to one connection.
//
// # What is refused
//
// The engine refuses every message that two parsers could read in different ways: both
// Content-Length and Transfer-Encoding, different lengths, codings other than chunked,
// line folding, bare CR or LF, control bytes, white space around names, a missing or
// ambiguous Host. The error is a *SyntaxError, or ErrHeaderTooLarge. After it nothing
// more can be read from the connection.
//
// # What is corrected
//
// Some harmless errors of servers, which clients accept, are corrected in the forwarded
// message: framing fields in a response that has no body, and white space between a
// response's field name and its colon.
package http1
