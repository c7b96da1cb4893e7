// Package http1 is the HTTP/1 engine of the proxy (RFC 9110, RFC 9112): it
// parses heads, delimits bodies and rewrites heads for forwarding. It is
// sans-I/O: fed with bytes it gives facts and bytes, and has no socket, clock
// or goroutine.
//
// # How a driver uses it
//
// A connection's received bytes lie in one buffer whose first byte is the
// first byte of a message.
//
//	n, err := http1.ParseRequest(buf, &head) // n == 0, err == nil: read more, call again
//	out = http1.AppendRequestHead(out, &head, &edits)
//	kind := head.Kind()                      // what the response's framing depends on
//	body := head.Body()
//	buf = buf[n:]                            // head's slices stay valid while these bytes do
//	for !body.Done() {
//		n, _, err := body.Next(buf)      // the first n bytes belong to the message
//		out = append(out, buf[:n]...)    // as they came: chunk framing and trailers too
//		…
//	}
//
// and the same with ParseResponse(buf, &head, kind), which is called again
// after each interim (1xx) response. What is forwarded is byte for byte what
// came, except for the fields that belong to one connection only.
//
// # What is refused
//
// Every message that two parsers could read in two ways: both Content-Length
// and Transfer-Encoding, differing lengths, codings other than chunked, line
// folding, bare CR or LF, control bytes, space around names, a missing or
// doubtful Host. A refusal is a *SyntaxError, or ErrHeaderTooLarge; after it
// nothing more can be read from the connection.
//
// # What is mended
//
// What servers do wrong without harm, and clients accept, is put right where the
// message is forwarded: framing fields in a response that has no body, white space
// between a response's field name and its colon.
package http1
