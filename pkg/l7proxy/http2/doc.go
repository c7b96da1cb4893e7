// Package http2 is the HTTP/2 connection state machine (RFC 9113) with HPACK (RFC 7541)
// for both ends of a connection. It is sans-I/O. [Conn.Feed] takes the bytes that have
// arrived and returns their meaning as events. The bytes to send accumulate in an output
// buffer, which the caller takes with [Conn.TakeOutput]. The engine has no socket, clock,
// goroutine or lock; [Conn.Tick] tells it the time. One goroutine at a time may use a
// Conn.
//
// The engine is strict: an EventHeaders or EventData never contains a part of a
// malformed message. So what a proxy copies from one Conn to another is well-formed.
//
// Flow control is the caller's back-pressure. Received bytes stay charged to the sender's
// window until [Conn.Consume], and [Conn.WriteData] takes no more than the peer's windows
// and the output buffer allow. So a caller holds at most one receive window of unsent
// bytes.
//
// From golang.org/x/net/http2 the engine uses only the Framer, its constants, and hpack.
// DATA frames, which are most of the bytes, are read and written in place without the
// Framer.
package http2
