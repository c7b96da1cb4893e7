package rawio

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Waits tells when something has arrived on connections from which no goroutine reads: one
// epoll descriptor for all of them, which one goroutine waits for under Go's netpoller. A
// connection that waits costs its place in a map. The zero value is ready; the first connection
// starts the goroutine, and Close ends it.
type Waits struct {
	mu      sync.Mutex
	file    *os.File // owns the epoll descriptor
	epoll   int
	waiters map[int32]Waiter // by descriptor
	closed  bool
}

// Waiter is what waits for a connection.
type Waiter interface {
	// Ready is called when there is something to read, or the end of the stream. It may also be
	// called without cause, and by several goroutines at once. It must not wait.
	Ready()
}

// Await has w.Ready called once, when there is something to read from c: at once, if there is
// already. The caller calls it again to wait again, with the same w. A connection that is closed
// here tells nothing: see OnClose. After an error Ready is not called. The descriptor is for
// Forget.
func (ws *Waits) Await(c *Conn, w Waiter) (fd int32, err error) {
	var failure error
	err = c.raw.Control(func(number uintptr) {
		fd = int32(number)
		failure = ws.add(fd, w)
	})
	if err = errors.Join(err, failure); err != nil {
		return fd, fmt.Errorf("wait for a connection: %w", err)
	}
	return fd, nil
}

func (ws *Waits) add(fd int32, w Waiter) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if err := ws.open(); err != nil {
		return err
	}
	op := unix.EPOLL_CTL_ADD
	if ws.waiters[fd] == w {
		op = unix.EPOLL_CTL_MOD
	}
	ws.waiters[fd] = w
	err := unix.EpollCtl(ws.epoll, op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: fd})
	if err != nil {
		delete(ws.waiters, fd)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// Forget is called when a connection on which w has waited is closed. Its descriptor may be
// another connection's already.
func (ws *Waits) Forget(fd int32, w Waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.waiters[fd] == w {
		delete(ws.waiters, fd)
	}
}

// open makes the descriptor and starts the goroutine. mu is held.
func (ws *Waits) open() error {
	if ws.closed {
		return os.ErrClosed
	}
	if ws.file != nil {
		return nil
	}
	file, fd, err := openEpoll("waits", ws.ready)
	if err == nil {
		ws.file, ws.epoll, ws.waiters = file, fd, make(map[int32]Waiter)
	}
	return err
}

func (ws *Waits) ready(fd int32) {
	ws.mu.Lock()
	w := ws.waiters[fd]
	ws.mu.Unlock()
	if w != nil {
		w.Ready()
	}
}

// Close ends the goroutine. Ready is called of all that wait.
func (ws *Waits) Close() error {
	ws.mu.Lock()
	file, left := ws.file, ws.waiters
	ws.closed, ws.waiters = true, nil
	ws.mu.Unlock()
	if file == nil {
		return nil
	}
	err := file.Close()
	for _, w := range left {
		w.Ready()
	}
	return err
}
