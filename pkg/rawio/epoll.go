package rawio

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// openEpoll makes an epoll descriptor, and a goroutine that waits for it under Go's netpoller and
// calls ready with the descriptor of each event. ready must not wait. To close the file ends the
// goroutine.
func openEpoll(name string, ready func(fd int32)) (file *os.File, epoll int, err error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, 0, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.File polls no other
		unix.Close(fd)
		return nil, 0, os.NewSyscallError("fcntl", err)
	}
	file = os.NewFile(uintptr(fd), name)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	// The callback never says that it is done: the netpoller then remembers what
	// becomes ready between two waits, and each wait costs one system call.
	go raw.Read(func(fd uintptr) bool { return !takeEvents(int(fd), ready) })
	return file, fd, nil
}

const (
	// eventsAtOnce is how many events one system call takes in.
	eventsAtOnce = 64
	// readyInRow is after how many of them the goroutines run that these have made ready. Where a
	// pod ends thousands of connections at once, all of them would be ready before one has run,
	// and what became ready after them would wait for all of them.
	readyInRow = 8
)

// takeEvents makes the calls of all events that are there. False: there are none to come.
func takeEvents(epoll int, ready func(fd int32)) bool {
	var events [eventsAtOnce]unix.EpollEvent
	for told := 0; ; {
		n, err := unix.EpollWait(epoll, events[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false // of a descriptor that is not epoll's: it cannot be
		}
		for i := range events[:n] {
			ready(events[i].Fd)
			if told++; told%readyInRow == 0 {
				runtime.Gosched()
			}
		}
		if n < len(events) {
			return true
		}
	}
}
