package rawio

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Hangups tells when the peers of connections end their side, while nothing reads
// from the connections: one epoll descriptor for all of them, which one goroutine
// waits for under Go's netpoller. A connection costs one system call, and nothing more
// until its peer hangs up: the event that is asked for is EPOLLRDHUP, and the kernel
// passes over bytes that arrive. The zero value is ready; the first connection starts
// the goroutine, and Close ends it.
type Hangups struct {
	mu     sync.Mutex
	file   *os.File // owns the epoll descriptor
	epoll  int
	watch  map[int32]watched // by descriptor
	closed bool
}

// watched is a connection, and what it has called when its peer hangs up.
type watched struct {
	c *tcpSocket
	f func()
}

// open makes the descriptor and starts the goroutine. mu is held.
func (h *Hangups) open() error {
	if h.closed {
		return os.ErrClosed
	}
	if h.file != nil {
		return nil
	}
	file, fd, err := openEpoll("hangups", h.ended)
	if err == nil {
		h.file, h.epoll, h.watch = file, fd, make(map[int32]watched)
	}
	return err
}

// ended makes the call of a connection whose peer has ended its side.
func (h *Hangups) ended(fd int32) {
	if w := h.watched(fd); w.c != nil {
		peerEnded(w.c)
		w.f()
	}
}

func (h *Hangups) watched(fd int32) watched {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watch[fd]
}

// Close ends the goroutine. No call is made for connections that are still watched.
func (h *Hangups) Close() error {
	h.mu.Lock()
	h.closed = true
	file, left := h.file, slices.Collect(maps.Values(h.watch))
	h.mu.Unlock()
	if file == nil {
		return nil
	}
	err := file.Close() // it waits for a take under way
	for _, w := range left {
		unkeep(w.c)
	}
	return err
}

// add watches the socket fd.
func (h *Hangups) add(fd int, w watched) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return err
	}
	h.watch[int32(fd)] = w
	err := unix.EpollCtl(h.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)})
	if err != nil {
		delete(h.watch, int32(fd))
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// remove forgets the socket fd. The kernel takes it off when it is closed.
func (h *Hangups) remove(fd int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watch, int32(fd))
}

// OnHangup has f called soon after c's peer has ended its side, by a FIN or a reset; at
// once if it already has. f may be called more than once, and without cause while c is
// being closed. It must not wait: other connections' calls come after it. A connection
// is watched once.
func (c *tcpSocket) OnHangup(h *Hangups, f func()) error {
	if !c.hangups.CompareAndSwap(nil, h) {
		return errors.New("watch for a hang-up: the connection is watched already")
	}
	keep(c)
	var failure error
	err := c.raw.Control(func(fd uintptr) {
		if failure = h.add(int(fd), watched{c, f}); failure == nil && c.closing.Load() {
			h.remove(int(fd)) // Close may have looked before it was there
		}
	})
	if err = errors.Join(err, failure); err != nil {
		unkeep(c)
		return fmt.Errorf("watch for a hang-up: %w", err)
	}
	return nil
}

// unwatch is for Close: the number of the descriptor may be another connection's next.
func (c *tcpSocket) unwatch() {
	c.closing.Store(true)
	if h := c.hangups.Load(); h != nil {
		_ = c.raw.Control(func(fd uintptr) { h.remove(int(fd)) }) // an error: it was closed before
	}
}
