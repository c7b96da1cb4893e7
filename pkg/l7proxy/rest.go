package l7proxy

import "github.com/underlane/underlane/pkg/rawio"

// restBelow is a read after which the kernel may put off its acknowledgement:
// of more than two full segments it does not.
const restBelow = 4 << 10

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
