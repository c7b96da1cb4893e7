package rawio

import (
	"math"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Facts are what the kernel knows of a connection (TCP_INFO). Zero: it does not say.
type Facts struct {
	SRTT        time.Duration // smoothed round-trip time
	MinRTT      time.Duration // the lowest of the last minutes, without delayed acknowledgements
	Retransmits uint32        // segments that were sent again
	// Unread is how long sending was stopped because the peer's receive window was full.
	Unread        time.Duration
	Read, Written uint64 // bytes, as of Bytes
}

// Last returns the facts of the connection as they were when it was closed. If it is open,
// it returns those of now, and the same ones after that.
//
// The bytes are counted to the end: another goroutine may close the connection between a
// write and its count.
func (c *tcpSocket) Last() Facts {
	c.remember()
	f := *c.last.Load()
	f.Read, f.Written = c.Bytes()
	return f
}

// remember keeps the facts, unless they are kept already.
func (c *tcpSocket) remember() {
	if c.last.Load() != nil {
		return
	}
	f := new(Facts)
	_ = c.raw.Control(f.ask) // it fails if another goroutine has closed the connection, and kept them
	c.last.CompareAndSwap(nil, f)
}

// ask asks the kernel, by one system call.
func (f *Facts) ask(fd uintptr) {
	var info unix.TCPInfo
	size := uint32(unix.SizeofTCPInfo)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return
	}
	f.SRTT = time.Duration(info.Rtt) * time.Microsecond
	if info.Min_rtt != math.MaxUint32 { // before the first sample
		f.MinRTT = time.Duration(info.Min_rtt) * time.Microsecond
	}
	f.Retransmits = info.Total_retrans
	f.Unread = time.Duration(info.Rwnd_limited) * time.Microsecond
}
