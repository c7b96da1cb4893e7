package rawio

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCloseWaitsForUsers: the number of a descriptor is not given to another socket while a call
// uses it, and no call begins after Close.
func TestCloseWaitsForUsers(t *testing.T) {
	c, _ := pair(t, "127.0.0.1:0")
	inside, goOn, closed := make(chan int), make(chan struct{}), make(chan error, 1)
	go func() {
		_ = c.raw.Control(func(fd uintptr) {
			inside <- int(fd)
			<-goOn
		})
	}()
	fd := <-inside
	go func() { closed <- c.raw.Close() }()
	for c.raw.Control(func(uintptr) {}) == nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("while a call uses the socket: %v, want it open", err)
	}
	select {
	case err := <-closed:
		t.Errorf("Close has returned %v while a call uses the socket", err)
	default:
	}
	close(goOn)
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := c.raw.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a second Close: got %v, want os.ErrClosed", err)
	}
	for name, err := range map[string]error{
		"Read":    c.raw.Read(func(uintptr) bool { return true }),
		"Write":   c.raw.Write(func(uintptr) bool { return true }),
		"Control": c.raw.Control(func(uintptr) {}),
	} {
		if err == nil {
			t.Errorf("%s after Close: got nil, want an error", name)
		}
	}
	if err := c.SetDeadline(time.Now()); err == nil {
		t.Error("a deadline after Close: got nil, want an error")
	}
}

// TestCloseEndsWaits: reads and writes that wait, and those that wait behind them, end with
// Close, and so do concurrent calls of Close.
func TestCloseEndsWaits(t *testing.T) {
	for range 50 {
		c, _ := pair(t, "127.0.0.1:0")
		var waits, closers sync.WaitGroup
		for range 2 {
			waits.Go(func() {
				if err := c.raw.Read(func(uintptr) bool { return false }); err == nil {
					t.Error("Read: got nil, want an error")
				}
			})
			waits.Go(func() {
				if err := c.raw.Write(func(uintptr) bool { return false }); err == nil {
					t.Error("Write: got nil, want an error")
				}
			})
			closers.Go(func() { _ = c.Close() })
		}
		closers.Wait()
		waits.Wait()
	}
}

// TestConnAllocations is the budget of what a connection allocates: itself, its descriptor, and
// two callbacks.
func TestConnAllocations(t *testing.T) {
	const budget = 4
	got := testing.AllocsPerRun(200, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewConn(fd, netip.AddrPort{}, netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.raw.Close()
	})
	if got > budget {
		t.Errorf("got %v allocations, want at most %d", got, budget)
	}
}
