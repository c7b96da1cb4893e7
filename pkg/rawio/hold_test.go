package rawio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ask holds a request back and reads the answer.
func ask(c *Conn, request []byte, answer []byte) (int, error) {
	c.Hold(nil)
	if n, err := c.Write(request); n != len(request) || err != nil {
		return n, err
	}
	return c.Read(answer)
}

func TestHeldGoesOutWithTheRead(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Hold(nil)
	for _, part := range []string{"he", "llo"} {
		if _, err := client.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if !client.Held() || !server.Idle() {
		t.Error("what is held was sent")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 10)
		n, err := server.Read(buf)
		if string(buf[:n]) != "hello" || err != nil {
			t.Errorf("the peer got %q, %v", buf[:n], err)
		}
		_, _ = server.Write([]byte("answer"))
	})
	buf := make([]byte, 10)
	n, err := client.Read(buf)
	if string(buf[:n]) != "answer" || err != nil || client.Held() {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	wg.Wait()
	if r, w := client.Bytes(); r != 6 || w != 5 {
		t.Errorf("counted %d read and %d written", r, w)
	}
	// The Hold has ended.
	if _, err := client.Write([]byte("now")); err != nil || client.Held() {
		t.Errorf("after the read writes are held still: %v", err)
	}
	eventually(t, "the bytes of an ordinary write", func() bool { return server.Pending() == 3 })
}

func TestHeldMoreThanTheSocketTakes(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	for _, size := range []int{heldAtMost, 5 * heldAtMost} {
		raw, _ := client.SyscallConn()
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
		sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(20 * time.Millisecond) // let the socket fill
			got := make([]byte, size)
			if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("the peer got something else: %v", err)
			}
			_, _ = server.Write([]byte("x"))
		})
		n, err := ask(client, sent, make([]byte, 10))
		if n != 1 || err != nil {
			t.Errorf("%d bytes: %d, %v", size, n, err)
		}
		wg.Wait()
	}
}

// TestHeldIsNotSent: bytes that are held for a peer that has ended its side, or has said
// something, before the read that sends them are not sent, and the read does not wait,
// although the event of the peer's act is over by then.
func TestHeldIsNotSent(t *testing.T) {
	for name, act := range map[string]func(server *Conn){
		"reset":                 func(server *Conn) { _ = server.Reset(); server.Close() },
		"closed":                func(server *Conn) { server.Close() },
		"ended, and reads on":   func(server *Conn) { _ = server.CloseWrite() },
		"spoke":                 func(server *Conn) { _, _ = server.Write([]byte("alert")) },
		"spoke, and was closed": func(server *Conn) { _, _ = server.Write([]byte("alert")); server.Close() },
	} {
		for _, awaits := range []bool{false, true} {
			client, server := pair(t, "127.0.0.1:0")
			act(server)
			eventually(t, "the act arrives", func() bool { return !client.Idle() })
			_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
			client.Hold(func() { t.Errorf("%s, awaits %v: held bytes were sent", name, awaits) })
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			var n int
			var err error
			if awaits {
				err = client.Await()
			} else {
				n, err = client.Read(make([]byte, 10))
			}
			if n != 0 || !errors.Is(err, ErrUnsent) {
				t.Errorf("%s, awaits %v: got %d bytes and %v, want %v", name, awaits, n, err, ErrUnsent)
			}
			if _, sent := client.Bytes(); sent != 0 || client.Held() {
				t.Errorf("%s, awaits %v: %d bytes were sent, held %v; want 0, false", name, awaits, sent, client.Held())
			}
		}
	}
}

// TestHeldByAClosedConn: held bytes of a connection that was closed meanwhile, for example
// because the pod at its end has ended, were not sent either.
func TestHeldByAClosedConn(t *testing.T) {
	for _, awaits := range []bool{false, true} {
		client, _ := pair(t, "127.0.0.1:0")
		client.Hold(func() { t.Errorf("awaits %v: held bytes were sent", awaits) })
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		client.Close()
		var err error
		if awaits {
			err = client.Await()
		} else {
			_, err = client.Read(make([]byte, 10))
		}
		if !errors.Is(err, ErrUnsent) || client.Held() {
			t.Errorf("awaits %v: got %v, held %v; want %v, false", awaits, err, client.Held(), ErrUnsent)
		}
	}
}

func TestHeldIsDroppedWithTheDeadline(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	_ = client.SetReadDeadline(time.Unix(1, 0))
	if _, err := ask(client, []byte("never"), make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	_ = client.SetReadDeadline(time.Time{})
	if client.Held() {
		t.Error("it is held still")
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, _ := server.Read(buf); string(buf[:n]) != "x" {
		t.Errorf("the peer got %q", buf[:n])
	}
}

func TestRelease(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Hold(nil)
	_, _ = client.Write([]byte("abc"))
	if err := client.Release(); err != nil || client.Held() {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := server.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestHoldDoesNotAllocate(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 200)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	out, in := make([]byte, 100), make([]byte, 200)
	if n := testing.AllocsPerRun(500, func() {
		if n, err := ask(client, out, in); n != len(out) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each exchange", n)
	}
	client.Close()
	<-done
}
