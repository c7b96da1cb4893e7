package script

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a connection with what was read of it and not yet asked for.
type conn struct {
	*net.TCPConn
	buf  []byte
	read int   // bytes in all
	err  error // of reading, once and for all
	h2   *h2   // if it speaks HTTP/2
}

func newConn(c *net.TCPConn) *conn { return &conn{TCPConn: c} }

// more reads once. A deadline is not the end of the stream.
func (c *conn) more(deadline time.Time) error {
	if c.err != nil {
		return c.err
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	var b [16 << 10]byte
	n, err := c.Read(b[:])
	c.buf = append(c.buf, b[:n]...)
	c.read += n
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.err = err
	}
	return err
}

// until reads until enough says how much of what was read is wanted.
func (c *conn) until(deadline time.Time, enough func([]byte) int) ([]byte, error) {
	for {
		if n := enough(c.buf); n >= 0 {
			return c.take(n), nil
		}
		if err := c.more(deadline); err != nil {
			if n := enough(c.buf); n >= 0 {
				return c.take(n), nil
			}
			return c.take(len(c.buf)), err
		}
	}
}

func (c *conn) take(n int) []byte {
	out := bytes.Clone(c.buf[:n])
	c.buf = c.buf[n:]
	return out
}

// idle waits until there is something to read or the stream ends, without a
// limit. It says whether the job was over before.
func (c *conn) idle(ctx context.Context) bool {
	if len(c.buf) > 0 || c.err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Time{})
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = c.SetReadDeadline(time.Unix(1, 0))
	})
	var b [16 << 10]byte
	n, err := c.Read(b[:])
	if !stop() {
		<-ended
	}
	c.buf = append(c.buf, b[:n]...)
	c.read += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	c.err = err
	return false
}

// how names the ways in which a stream ends. Whether a write to a connection
// that was reset says ECONNRESET or EPIPE is up to the kernel's state.
func how(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "fin"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "time-out"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:4])
}

// options are of sockets that are not open yet.
type options struct {
	rcvbuf, sndbuf int
	second         bool // of a server: listen at a second port
}

func optionsOf(steps []step) (o options) {
	for _, s := range steps {
		if s.verb == "second" {
			o.second = true
			continue
		}
		n, err := s.number(0)
		if err != nil {
			continue
		}
		switch s.verb {
		case "rcvbuf":
			o.rcvbuf = n
		case "sndbuf":
			o.sndbuf = n
		}
	}
	return o
}

func (o options) control(_, _ string, rc syscall.RawConn) error {
	var err error
	set := func(fd uintptr, opt, value int) {
		if value != 0 && err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, value)
		}
	}
	if cerr := rc.Control(func(fd uintptr) {
		set(fd, unix.SO_REUSEADDR, 1)
		set(fd, unix.SO_RCVBUF, o.rcvbuf)
		set(fd, unix.SO_SNDBUF, o.sndbuf)
	}); cerr != nil {
		return cerr
	}
	return err
}
