package rawio

import (
	"errors"
	"io"
	"testing"
	"time"
)

// TestCut: whether the end that Read returns was a reset, although a write has got the
// error of the connection.
func TestCut(t *testing.T) {
	fails := func(t *testing.T, c *Conn) {
		t.Helper()
		eventually(t, "a write fails", func() bool {
			_, err := c.writeNow([]byte("x"))
			return err != nil
		})
	}
	for name, test := range map[string]struct {
		end  func(t *testing.T, client, server *Conn)
		want bool
	}{
		"a FIN": {func(_ *testing.T, _, server *Conn) { _ = server.CloseWrite() }, false},
		"FINs of both sides": {func(_ *testing.T, client, server *Conn) {
			_ = server.CloseWrite()
			_ = client.CloseWrite()
		}, false},
		"a FIN, then a reset": {func(t *testing.T, client, server *Conn) {
			server.Close()
			fails(t, client)
		}, false},
		"a reset, seen by a write": {func(t *testing.T, client, server *Conn) {
			_ = server.Reset()
			server.Close()
			fails(t, client)
		}, true},
		"a reset, seen by an impatient write": {func(t *testing.T, client, server *Conn) {
			client.Impatient()
			_ = server.Reset()
			server.Close()
			eventually(t, "a write fails", func() bool {
				_, err := client.Write([]byte("x"))
				return err != nil
			})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t, "127.0.0.1:0")
			test.end(t, client, server)
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("got %d bytes and %v, want %v", n, err, io.EOF)
			}
			if got := client.Cut(); got != test.want {
				t.Errorf("got cut %v, want %v", got, test.want)
			}
		})
	}
}

// TestCutWaitsForNoWrite: a write that waits for the peer does not keep Cut waiting.
func TestCutWaitsForNoWrite(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	_ = server.CloseWrite()
	written := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, 64<<20))
		written <- err
	}()
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("got %d bytes and %v, want %v", n, err, io.EOF)
	}
	if client.Cut() {
		t.Error("got cut after a FIN")
	}
	select {
	case err := <-written:
		t.Fatalf("the write has ended before: %v", err)
	default:
	}
	client.Close()
	if err := <-written; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the write after Close: got %v, want an error", err)
	}
}
