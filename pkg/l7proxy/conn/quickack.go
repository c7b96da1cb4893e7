package conn

// ackBelow bounds the reads after which QuickAckPartial acknowledges. A read that
// fills a buffer is followed by another read, so only after a shorter one may the
// kernel delay its acknowledgement. The kernel itself acknowledges at once what is more
// than a full segment. This does not help here: programs reach the agent of their node
// over the loopback device, whose segments have 64 KiB.
const ackBelow = BufferSize

// segment is about the number of bytes that a segment carries on a network.
const segment = 1448

// QuickAckPartial acknowledges the received bytes at once. Call it after a read of got
// bytes that ended inside a message. The program at the other end may have written this
// part of the message by itself, with Nagle's algorithm on. It then sends the rest only
// after this part is acknowledged. The kernel delays that by 40 ms: on a connection
// that carries one message after the other, it expects that an answer will carry the
// acknowledgement.
func QuickAckPartial(c Conn, got int) {
	if got < ackBelow {
		c.QuickAck()
	}
}

// QuickAckOpaque is QuickAckPartial for bytes of which it is not known whether a
// message has ended. Without a mesh the kernel acknowledges more than a segment at once
// and delays the acknowledgement of less; QuickAckOpaque does the same. tail: the read
// is the end of bytes that filled a buffer before.
func QuickAckOpaque(c Conn, got int, tail bool) {
	if tail || got > segment {
		c.QuickAck()
	}
}
