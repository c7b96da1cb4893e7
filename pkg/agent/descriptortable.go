package agent

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mostTable is the largest table of descriptors that is made at once. It takes a megabyte of
// the kernel's memory.
const mostTable = 1 << 17

// growDescriptorTable makes the kernel's table of this process's descriptors large enough for
// n of them. The kernel doubles the table when it is full, and waits for all processors to
// have left their RCU sections each time (fs/file.c, expand_fdtable): some 5 to 15 ms, in
// which the call of accept4 or socket keeps one of Go's processors, and other threads' calls
// wait as well. In a burst of new connections that would be felt by every pod of the node.
// The table never shrinks.
func growDescriptorTable(n int) error {
	last := min(n, mostTable) - 1
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("table of descriptors: %w", err)
	}
	defer null.Close()
	if last <= int(null.Fd()) {
		return nil
	}
	high, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, last)
	if err != nil {
		return fmt.Errorf("table of descriptors for %d: %w", n, err)
	}
	return unix.Close(high)
}
