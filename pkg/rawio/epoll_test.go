package rawio

import (
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTakeEventsYields: goroutines that events make ready run soon, and not after all events that
// came with them.
func TestTakeEventsYields(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	const many = 4 * eventsAtOnce
	for range many {
		fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)}); err != nil {
			t.Fatal(err)
		}
	}
	var begun, most int64
	var ran atomic.Int64
	all := make(chan struct{})
	takeEvents(epoll, func(int32) {
		begun++
		most = max(most, begun-ran.Load())
		go func() {
			if ran.Add(1) == many {
				close(all)
			}
		}()
	})
	<-all
	// Go takes a goroutine of the queue that all processors share before its own now and then.
	if most > 2*readyInRow {
		t.Errorf("%d goroutines were ready at once, want %d", most, readyInRow)
	}
}
