package l7proxy

import "github.com/underlane/underlane/pkg/rawio"

// What fills a buffer is followed by more: only after a shorter read may the kernel
// put its acknowledgement off. Its own rule, which is not to do so for more than a
// full segment, is of no help: programs reach the agent of their node by way of the
// loopback device, whose segments have 64 KiB.
const restBelow = bufferSize

// segment is about what one of the network's takes.
const segment = 1448

// awaitRest is called where a read of got bytes ended inside a message. The
// program at the other end may have written this part of it by itself, with
// Nagle's algorithm on: then the rest leaves when this part is acknowledged, and
// the kernel puts that off for 40 ms, for on a connection that carries one
// message after the other it expects an answer to go with it. Agents write
// without that algorithm, so between them nothing is to be done.
func awaitRest(c Conn, got int) {
	if got >= restBelow {
		return
	}
	if raw, ok := c.(*rawio.Conn); ok {
		raw.QuickAck()
	}
}

// awaitMore is awaitRest where nobody knows whether a message has ended. Without a
// mesh the kernel acknowledges more than a segment at once, and it is no other
// here; what is less it puts off there as well. tail: the read is the end of what
// filled a buffer.
func awaitMore(c Conn, got int, tail bool) {
	if raw, ok := c.(*rawio.Conn); ok && (tail || got > segment) {
		raw.QuickAck()
	}
}
