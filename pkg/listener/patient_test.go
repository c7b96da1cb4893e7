package listener

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// scarce fails with errs, as the net package would, then accepts conn once, and
// then waits to be closed.
type scarce struct {
	errs   []error
	conn   net.Conn
	closed chan struct{}
}

func (s *scarce) Accept() (net.Conn, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	if c := s.conn; c != nil {
		s.conn = nil
		return c, nil
	}
	<-s.closed
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
}

func (s *scarce) Close() error   { close(s.closed); return nil }
func (s *scarce) Addr() net.Addr { return &net.TCPAddr{} }

func TestPatient(t *testing.T) {
	for _, errno := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPROTO} {
		synctest.Test(t, func(t *testing.T) {
			g := &Group{Log: slog.New(slog.DiscardHandler)}
			ours, theirs := net.Pipe()
			defer ours.Close()
			defer theirs.Close()
			inner := &scarce{errs: make([]error, 500), conn: ours, closed: make(chan struct{})}
			for i := range inner.errs {
				inner.errs[i] = errno
			}
			ln := g.Patient(inner)
			begun := time.Now()
			if conn, err := ln.Accept(); err != nil || conn != ours {
				t.Fatalf("%v: %v", errno, err)
			}
			if took := time.Since(begun); took < 500*exhaustedPause {
				t.Errorf("%v: it does not wait: %s", errno, took)
			}
			want := uint64(500)
			if errno == unix.ECONNABORTED || errno == unix.EPROTO {
				want = 0 // one connection, and no lack
			}
			if got := g.Exhausted(); got != want {
				t.Errorf("%v: counted %d, want %d", errno, got, want)
			}
			go func() { _ = ln.Close() }()
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		})
	}
}

// A server that stops is not held up by a wait, nor served after it.
func TestPatientIsClosedWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &scarce{errs: []error{unix.EMFILE, unix.EMFILE}, closed: make(chan struct{})}
		ln := (&Group{Log: slog.New(slog.DiscardHandler)}).Patient(inner)
		done := make(chan error, 1)
		go func() {
			_, err := ln.Accept()
			done <- err
		}()
		synctest.Wait()
		begun := time.Now()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(begun) != 0 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}
