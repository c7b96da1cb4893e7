// Package http2 is the HTTP/2 connection state machine (RFC 9113) with HPACK
// (RFC 7541), for both ends of a connection, sans-I/O: bytes that arrived go
// in by [Conn.Feed], which returns what they mean as events; what must be sent
// accumulates in an output buffer that the caller takes with
// [Conn.TakeOutput]. There is no socket, clock, goroutine or lock inside; a
// Conn is used by one goroutine at a time.
//
// The engine is strict in what it accepts: nothing of a malformed message is ever
// in an EventHeaders or EventData, so what a proxy copies from one Conn to
// another is well-formed.
//
// Flow control is the caller's back-pressure. Received bytes stay charged to
// the sender until [Conn.Consume] says where they went, and [Conn.WriteData]
// takes no more than the peer's windows and the output buffer allow. So
// whoever holds unsent bytes holds at most one receive window of them.
//
// Of golang.org/x/net/http2 only the Framer (control frames; DATA is read and
// written in place, it is the volume), its constants, and hpack are used.
package http2
