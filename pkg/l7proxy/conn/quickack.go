package conn

// A read that fills a buffer is followed by more: only after a shorter read may the
// kernel delay its acknowledgement. The kernel's own rule, not to delay it for more
// than a full segment, does not help: programs reach the agent of their node over the
// loopback device, whose segments have 64 KiB.
const restBelow = BufferSize

// segment is about what a segment of the network carries.
const segment = 1448

// AwaitRest is called where a read of got bytes ended inside a message. The
// program at the other end may have written this part of it by itself, with
// Nagle's algorithm on: then the rest leaves when this part is acknowledged, and
// the kernel delays that by 40 ms, because on a connection that carries one
// message after the other it expects an answer to carry the acknowledgement.
func AwaitRest(c Conn, got int) {
	if got < restBelow {
		c.QuickAck()
	}
}

// AwaitMore is AwaitRest where it is not known whether a message has ended. Without
// a mesh the kernel acknowledges more than a segment at once, and so it is here;
// less than that it delays there as well. tail: the read is the end of what filled a
// buffer.
func AwaitMore(c Conn, got int, tail bool) {
	if tail || got > segment {
		c.QuickAck()
	}
}
