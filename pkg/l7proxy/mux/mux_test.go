package mux_test

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

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/rawio"
)

// pair is a shared connection on loopback, and what is below the client's end; serve
// is given the streams that the client opens.
func pair(t testing.TB, serve func(*mux.Stream)) (*mux.Conn, *rawio.Conn) {
	t.Helper()
	a, b := proxytest.Pair(t)
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(5 * time.Minute)) // much goes through it, on a machine that may be busy
	}
	var running, streams sync.WaitGroup
	server := mux.NewServer(mux.HTTP1, conn.Plain{Conn: b}, nil, func(s *mux.Stream) { streams.Go(func() { serve(s) }) })
	client := mux.NewClient(mux.HTTP1, conn.Plain{Conn: a}, nil, nil)
	for _, c := range []*mux.Conn{client, server} {
		running.Go(func() {
			_ = c.Run(nil)
			c.End()
		})
	}
	t.Cleanup(func() {
		a.Close()
		running.Wait()
		streams.Wait()
	})
	return client, a
}

// A stream does what net.Conn promises.
func TestStreamIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		accepted := make(chan *mux.Stream, 1)
		client, _ := pair(t, func(s *mux.Stream) { accepted <- s })
		s := client.Open()
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

func echo(s *mux.Stream) {
	_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	s.Close()
}

// Many streams at once carry far more than their windows, each its own bytes.
func TestCarriesBulk(t *testing.T) {
	client, _ := pair(t, echo)
	var all sync.WaitGroup
	for range mux.MaxStreams {
		s := client.Open()
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
	if s := client.Open(); s != nil {
		t.Error("more streams than there may be")
	}
	all.Wait()
}

// Streams that nobody reads stop no other.
func TestStalledStreams(t *testing.T) {
	stalled := make(chan struct{})
	defer close(stalled)
	client, _ := pair(t, func(s *mux.Stream) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(s, first); err != nil || first[0] == 's' {
			<-stalled
			s.Close()
			return
		}
		echo(s)
	})
	for range mux.MaxStreams - 1 {
		s := client.Open()
		defer s.Close()
		if _, err := s.Write(bytes.Repeat([]byte("s"), http2.FirstStreamWindow)); err != nil {
			t.Fatal(err)
		}
		_ = s.SetWriteDeadline(time.Now().Add(time.Millisecond))
		if n, err := s.Write(make([]byte, 2)); n > 1 || !errors.Is(err, os.ErrDeadlineExceeded) { // one byte was read
			t.Fatalf("%d bytes went into a stream that nobody reads: %v", n, err)
		}
	}
	ok := client.Open()
	defer ok.Close()
	sent := make([]byte, 2*http2.DefaultStreamWindow)
	go ok.Write(sent)
	if _, err := io.ReadFull(ok, make([]byte, len(sent)-1)); err != nil { // all but the first byte comes back
		t.Error(err)
	}
}

// A stream that is cut says so at the other end, and only there; one that is
// closed with bytes unread is cut, as a TCP connection would be.
func TestStreamEnds(t *testing.T) {
	accepted := make(chan *mux.Stream)
	client, _ := pair(t, func(s *mux.Stream) { accepted <- s })
	open := func() (here, there *mux.Stream) {
		here = client.Open()
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
		do   func(*mux.Stream) error
		want error
	}{
		"reset":  {(*mux.Stream).Reset, unix.ECONNRESET},
		"closed": {(*mux.Stream).Close, io.EOF},
		"unread": {func(s *mux.Stream) error {
			proxytest.Eventually(t, "bytes to be unread", func() bool { return s.Pending() > 0 })
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
	proxytest.Eventually(t, "no stream to be left", func() bool { return client.IdleFor() > 0 })
}

// What nobody has read of streams that the peer cuts does not stay in the
// connection's window.
func TestUnreadOfCutStreams(t *testing.T) {
	const each = http2.FirstStreamWindow / 2
	client, _ := pair(t, func(s *mux.Stream) {
		_, _ = io.ReadFull(s, make([]byte, 1))
		_, _ = s.Write(make([]byte, each))
		_ = s.Reset()
	})
	for range mux.MaxStreams*http2.DefaultStreamWindow/each + 2 { // more than the connection has room for
		s := client.Open()
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatalf("the connection stands still: %v", err)
		}
		proxytest.Eventually(t, "the stream to be cut", func() bool { return s.HungUp() })
		if s.Pending() == 0 {
			t.Fatal("nothing is left unread")
		}
		s.Close()
	}
}

// The end of the shared connection, in order as it may be, is none of its
// streams'.
func TestConnectionEnds(t *testing.T) {
	client, raw := pair(t, func(s *mux.Stream) { _, _ = io.Copy(io.Discard, s) })
	s := client.Open()
	if _, err := s.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	_ = raw.CloseWrite()
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read %v", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a write succeeds")
	}
	if client.Open() != nil {
		t.Error("a stream of a connection that is over")
	}
}
