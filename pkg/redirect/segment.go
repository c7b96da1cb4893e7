package redirect

import "golang.org/x/sys/unix"

// A program's socket takes what the program writes before its receiver has read anything: at
// first as much as 20 segments occupy (tcp_sndbuf_expand in the kernel), and soon twice that.
// Segments have up to 65,483 bytes on the loopback interface, over which the agent connects to the
// programs of a pod, so that is 4 MB, where it is 0.2 MB for a client of another pod without a
// mesh. Hundreds of clients that do not read would make a program fill gigabytes, and the kernel
// copies and sends all the while.
//
// So where a pod has many connections, those beyond the first ones have smaller segments, the
// agent's sockets take less of them, and programs' sockets do, too: bound_sndbuf in
// bpf/sockops.c, which tells these connections by their segments. That costs bulk transfers up to
// half of the rate of a connection on loopback, because both sides wait more often.
const (
	// largeSegments is how many connections of the agent to a pod's programs are as the kernel
	// has them.
	largeSegments = 64
	// smallSegment is the largest segment of others in bytes (TCP_MAXSEG). It occupies 8 KiB.
	// Less than some four segments in a program's socket would wait for delayed ACKs.
	smallSegment = 7500
	// smallReceive is the receive buffer of others in bytes (SO_RCVBUF, which the kernel doubles).
	smallReceive = 64 << 10
)

// setSmallSegments sets the largest segment of a socket that is not connected yet, and its
// receive buffer.
func setSmallSegments(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, smallSegment) // at worst more waits
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, smallReceive)
}
