package redirect

import "golang.org/x/sys/unix"

// A program's socket takes what the program writes before its receiver has read anything: at
// first as much as 20 segments occupy (tcp_sndbuf_expand in the kernel), and soon twice that.
// Segments have up to 65,483 bytes on the loopback interface, over which the agent connects to the
// programs of a pod, so that is 4 MB, where it is 0.2 MB for a client of another pod without a
// mesh. Hundreds of clients that do not read would make a program fill gigabytes, and the kernel
// copies and sends all the while.
//
// Smaller segments cost bulk transfers a quarter more on loopback, because the program waits
// more often. So only a pod with many connections has them, beyond the first ones.
const (
	// largeSegments is how many connections of the agent to a pod's programs have the
	// kernel's segments.
	largeSegments = 64
	// smallSegment is the largest segment of others in bytes (TCP_MAXSEG). It occupies 8 KiB, and
	// the socket takes 0.5 MB.
	smallSegment = 7500
)

// setSmallSegments sets the largest segment of a socket that is not connected yet.
func setSmallSegments(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, smallSegment) // at worst more waits
}
