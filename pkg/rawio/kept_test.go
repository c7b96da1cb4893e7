package rawio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keptPair is two connected Conns, the second of which is watched, and so kept.
func keptPair(t *testing.T) (client, server *Conn) {
	t.Helper()
	client, server = pair(t, "127.0.0.1:0")
	h := new(Hangups)
	t.Cleanup(func() { h.Close() })
	if err := server.OnHangup(h, func() {}); err != nil {
		t.Fatal(err)
	}
	if !server.kept.Load() {
		t.Fatal("the version of Go has no netpoller that package rawio knows: see netpoll.go")
	}
	return client, server
}

func mustWrite(t *testing.T, c *Conn, p string) {
	t.Helper()
	if _, err := c.Write([]byte(p)); err != nil {
		t.Fatal(err)
	}
}

// mustRead reads once, into room for many bytes.
func mustRead(t *testing.T, c *Conn, want string) {
	t.Helper()
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("read %q, %v, want %q", buf[:n], err, want)
	}
}

// TestKeptExchange: messages arrive, whether the read begins before them or after.
func TestKeptExchange(t *testing.T) {
	client, server := keptPair(t)
	answered := make(chan error, 1)
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := server.Read(buf)
			if err == nil {
				_, err = server.Write(buf[:n])
			}
			if err != nil {
				answered <- err
				return
			}
		}
	}()
	for range 2000 {
		mustWrite(t, client, "ping")
		mustRead(t, client, "ping")
	}
	client.Close()
	if err := <-answered; err != io.EOF {
		t.Errorf("the end: got %v, want io.EOF", err)
	}
}

// TestKeptStream: reads of all sizes get every byte, in order.
func TestKeptStream(t *testing.T) {
	client, server := keptPair(t)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	go func() {
		for i, rest := 1, want; len(rest) > 0; i++ {
			n := min(len(rest), i*37%5000+1)
			if _, err := client.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		client.Close()
	}()
	var got []byte
	for i := 1; ; i++ {
		buf := make([]byte, i*101%9000+1)
		n, err := server.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, want %d, or others", len(got), len(want))
	}
}

// TestKeptWaits: after a read that has emptied the socket, the next one makes no system call
// before it waits.
func TestKeptWaits(t *testing.T) {
	client, server := keptPair(t)
	mustWrite(t, client, "some")
	mustRead(t, server, "some")
	if !server.emptied {
		t.Error("the socket is not known to be empty after a read that has emptied it")
	}
	mustWrite(t, client, "1234")
	if _, err := io.ReadFull(server, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if server.emptied {
		t.Error("the socket is thought to be empty after a read that has filled its buffer")
	}
}

// TestKeptEnd: an end that has arrived together with the last bytes is seen, although nothing
// else arrives.
func TestKeptEnd(t *testing.T) {
	ends := map[string]struct {
		end  func(c *Conn)
		want func(err error) bool
	}{
		"close": {func(c *Conn) { c.Close() }, func(err error) bool { return err == io.EOF }},
		"shut":  {func(c *Conn) { _ = c.CloseWrite() }, func(err error) bool { return err == io.EOF }},
		"reset": {func(c *Conn) { _ = c.Reset(); c.Close() }, func(err error) bool { return errors.Is(err, unix.ECONNRESET) }},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			client, server := keptPair(t)
			mustWrite(t, client, "first")
			mustRead(t, server, "first")
			mustWrite(t, client, "last")
			end.end(client)
			eventually(t, "the end arrives", server.HungUp)
			_ = server.SetReadDeadline(time.Now().Add(time.Minute))
			if name != "reset" || server.Pending() > 0 {
				mustRead(t, server, "last")
			}
			if _, err := server.Read(make([]byte, 100)); !end.want(err) {
				t.Errorf("the end: got %v", err)
			}
		})
	}
}

// TestKeptEndTold: the Hangups wake a read that has begun to wait before they told the end.
func TestKeptEndTold(t *testing.T) {
	for name, end := range map[string]func(c *Conn){
		"close": func(c *Conn) { c.Close() },
		"reset": func(c *Conn) { _ = c.Reset(); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t, "127.0.0.1:0")
			server.kept.Store(true) // and not watched: the test tells the end
			mustWrite(t, client, "first")
			mustRead(t, server, "first")
			end(client)
			eventually(t, "the end arrives", server.HungUp)
			if _, err := server.Read(make([]byte, 100)); err == nil {
				t.Fatal("read something behind the end")
			}
			_ = server.SetReadDeadline(time.Now().Add(time.Minute))
			read := make(chan error, 1)
			for waits := false; !waits; {
				server.emptied = true // as if the end had come with the first bytes
				go func() {
					_, err := server.Read(make([]byte, 100))
					read <- err
				}()
				eventually(t, "the read begins", func() bool { return server.reading.Load() || len(read) > 0 })
				// The netpoller may only now have heard of the end, which ends the read. It hears
				// of it once.
				if waits = len(read) == 0; !waits {
					<-read
				}
			}
			peerEnded(&server.tcpSocket)
			if err := <-read; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want the end", err)
			}
			peerEnded(&server.tcpSocket) // again, as the kernel may tell it
		})
	}
}

// TestKeptDeadline: a deadline ends a wait, and no byte is lost by it.
func TestKeptDeadline(t *testing.T) {
	client, server := keptPair(t)
	for range 100 {
		mustWrite(t, client, "one")
		mustRead(t, server, "one")
		_ = server.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := server.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after the deadline: got %v", err)
		}
		mustWrite(t, client, "two")
		_ = server.SetReadDeadline(time.Time{})
		mustRead(t, server, "two")
	}
}

// TestKeptClose: Close ends a read that waits, and fails those that come after.
func TestKeptClose(t *testing.T) {
	client, server := keptPair(t)
	mustWrite(t, client, "some")
	mustRead(t, server, "some")
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 100))
		read <- err
	}()
	eventually(t, "the read begins", server.reading.Load)
	server.Close()
	if err := <-read; err == nil || err == io.EOF {
		t.Errorf("the read that waited: got %v", err)
	}
	if _, err := server.Read(make([]byte, 100)); err == nil || err == io.EOF {
		t.Errorf("a read after Close: got %v", err)
	}
}

// TestTwoReaders: a second reader gets an error. The runtime would end the program.
func TestTwoReaders(t *testing.T) {
	client, server := keptPair(t)
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 100))
		read <- err
	}()
	eventually(t, "the read begins", server.reading.Load)
	if err := server.Await(); !errors.Is(err, errTwoReaders) {
		t.Errorf("Await: got %v", err)
	}
	if _, err := server.Read(make([]byte, 100)); !errors.Is(err, errTwoReaders) {
		t.Errorf("Read: got %v", err)
	}
	mustWrite(t, client, "some")
	if err := <-read; err != nil {
		t.Errorf("the first reader: got %v", err)
	}
}
