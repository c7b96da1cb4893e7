package rawio

import "golang.org/x/sys/unix"

// A socket takes a bounded number of bytes that it has not sent yet (TCP_NOTSENT_LOWAT).
// Without a bound the socket of a receiver that does not read takes up to 4 MB (tcp_wmem),
// and as many are in the sockets before it. What is on its way to the receiver does not
// count, so the bound does not limit the rate by itself; but with a low one the writer
// waits more often, which costs bulk transfers up to a tenth of their rate. The bound is
// therefore low until the receiver has read some MB.
const (
	unsentAtFirst = 128 << 10
	unsentLater   = 1 << 20
	unsentProven  = 4 << 20 // bytes that were taken until then
)

func boundUnsent(fd, most int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, most)
}

// wrote counts bytes that the socket took.
func (c *writer) wrote(n int) {
	all := c.write.Add(uint64(n))
	if all >= unsentProven && all-uint64(n) < unsentProven {
		_ = c.raw.Control(func(fd uintptr) { boundUnsent(int(fd), unsentLater) })
	}
}
