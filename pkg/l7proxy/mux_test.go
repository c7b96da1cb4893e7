package l7proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"
)

// muxPair is a shared connection on loopback; serve is given the streams that
// the client opens.
func muxPair(t testing.TB, serve func(*muxStream)) *mux {
	t.Helper()
	a, b := rawPair(t)
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(5 * time.Minute)) // much goes through it, on a machine that may be busy
	}
	var running, streams sync.WaitGroup
	server := newMux(b, http2.Server, func(s *muxStream) { streams.Go(func() { serve(s) }) })
	client := newMux(a, http2.Client, nil)
	for _, m := range []*mux{client, server} {
		running.Go(func() {
			_ = m.run(nil)
			m.end()
		})
	}
	t.Cleanup(func() {
		a.Close()
		running.Wait()
		streams.Wait()
	})
	return client
}

// A stream does what net.Conn promises.
func TestMuxStreamIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		accepted := make(chan *muxStream, 1)
		client := muxPair(t, func(s *muxStream) { accepted <- s })
		s := client.stream()
		if _, err := s.Write([]byte("x")); err != nil { // the opening goes out with it
			return nil, nil, nil, err
		}
		other := <-accepted
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			return nil, nil, nil, err
		}
		return s, other, func() { s.Close(); other.Close() }, nil
	})
}

func echo(s *muxStream) {
	_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	s.Close()
}

// Many streams at once carry far more than their windows, each its own bytes.
func TestMuxCarriesBulk(t *testing.T) {
	client := muxPair(t, echo)
	var all sync.WaitGroup
	for range muxStreams {
		s := client.stream()
		if s == nil {
			t.Fatal("no stream")
		}
		all.Go(func() {
			defer s.Close()
			sent := make([]byte, 3*http2.DefaultStreamWindow+5)
			rand.Read(sent)
			var write sync.WaitGroup
			write.Go(func() {
				if _, err := s.Write(sent); err != nil {
					t.Error(err)
				}
				if err := s.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(s)
			write.Wait()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes back of %d: %v", len(got), len(sent), err)
			}
		})
	}
	if s := client.stream(); s != nil {
		t.Error("more streams than there may be")
	}
	all.Wait()
}

// Streams that nobody reads stop no other.
func TestMuxStalledStreams(t *testing.T) {
	stalled := make(chan struct{})
	defer close(stalled)
	client := muxPair(t, func(s *muxStream) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(s, first); err != nil || first[0] == 's' {
			<-stalled
			s.Close()
			return
		}
		echo(s)
	})
	for range muxStreams - 1 {
		s := client.stream()
		defer s.Close()
		if _, err := s.Write(bytes.Repeat([]byte("s"), http2.DefaultStreamWindow)); err != nil {
			t.Fatal(err)
		}
		_ = s.SetWriteDeadline(time.Now().Add(time.Millisecond))
		if n, err := s.Write(make([]byte, 2)); n > 1 || !errors.Is(err, os.ErrDeadlineExceeded) { // one byte was read
			t.Fatalf("%d bytes went into a stream that nobody reads: %v", n, err)
		}
	}
	ok := client.stream()
	defer ok.Close()
	sent := make([]byte, 2*http2.DefaultStreamWindow)
	go ok.Write(sent)
	if _, err := io.ReadFull(ok, make([]byte, len(sent)-1)); err != nil { // all but the first byte comes back
		t.Error(err)
	}
}

// A stream that is cut says so at the other end, and only there; one that is
// closed with bytes unread is cut, as a TCP connection would be.
func TestMuxStreamEnds(t *testing.T) {
	accepted := make(chan *muxStream)
	client := muxPair(t, func(s *muxStream) { accepted <- s })
	open := func() (here, there *muxStream) {
		here = client.stream()
		if _, err := here.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		there = <-accepted
		if _, err := io.ReadFull(there, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		return here, there
	}
	other, otherThere := open()
	for name, end := range map[string]struct {
		do   func(*muxStream) error
		want error
	}{
		"reset":  {(*muxStream).Reset, unix.ECONNRESET},
		"closed": {(*muxStream).Close, io.EOF},
		"unread": {func(s *muxStream) error {
			eventually(t, "bytes to be unread", func() bool { return s.Pending() > 0 })
			return s.Close()
		}, unix.ECONNRESET},
	} {
		here, there := open()
		if name == "unread" {
			if _, err := there.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
		}
		if there.HungUp() {
			t.Errorf("%s: the other end has hung up already", name)
		}
		if err := end.do(here); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Read(make([]byte, 1)); !errors.Is(err, end.want) {
			t.Errorf("%s: the other end reads %v, want %v", name, err, end.want)
		}
		if there.Idle() || !there.HungUp() {
			t.Errorf("%s: the other end counts as alive", name)
		}
		if _, err := here.Write([]byte("x")); err == nil {
			t.Errorf("%s: writes go on", name)
		}
		there.Close()
	}
	if _, err := otherThere.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Errorf("another stream: %v", err)
	}
	other.Close()
	otherThere.Close()
	eventually(t, "no stream to be left", func() bool { return client.idleFor() > 0 })
}

// What nobody has read of streams that the peer cuts does not stay in the
// connection's window.
func TestMuxUnreadOfCutStreams(t *testing.T) {
	const each = http2.DefaultStreamWindow / 2
	client := muxPair(t, func(s *muxStream) {
		_, _ = io.ReadFull(s, make([]byte, 1))
		_, _ = s.Write(make([]byte, each))
		_ = s.Reset()
	})
	for range 2*muxStreams + 2 { // twice half a stream's window for each that the connection has room for
		s := client.stream()
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatalf("the connection stands still: %v", err)
		}
		eventually(t, "the stream to be cut", func() bool { return s.HungUp() })
		if s.Pending() == 0 {
			t.Fatal("nothing is left unread")
		}
		s.Close()
	}
}

// The end of the shared connection, in order as it may be, is none of its
// streams'.
func TestMuxConnectionEnds(t *testing.T) {
	client := muxPair(t, func(s *muxStream) { _, _ = io.Copy(io.Discard, s) })
	s := client.stream()
	if _, err := s.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	_ = client.raw.CloseWrite()
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read %v", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a write succeeds")
	}
	if client.stream() != nil {
		t.Error("a stream of a connection that is over")
	}
}
