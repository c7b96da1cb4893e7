package rawio

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
)

func TestGather(t *testing.T) {
	for name, prepare := range map[string]func(*Conn){
		"":          func(*Conn) {},
		"impatient": (*Conn).Impatient,
		"holding":   func(c *Conn) { c.Hold(nil) },
	} {
		client, server := pair(t, "127.0.0.1:0")
		client.MayGather()
		prepare(client)
		pattern := []byte("0123456789abcdefghi")
		sent := bytes.Repeat(pattern, 300<<10/len(pattern)) // several times what is gathered
		go func() {
			client.Gather()
			for rest := sent; len(rest) > 0; {
				n := min(16<<10+22, len(rest))
				if _, err := client.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			if _, w := client.Bytes(); (int(w)+client.Backlog())%gatherAtMost != 0 {
				t.Errorf("%s: %d bytes went out before Send, and %d wait", name, w, client.Backlog())
			}
			if err := client.Send(); err != nil {
				t.Error(err)
			}
			_ = client.Release()
			_ = client.Flush()
			_, _ = client.Write([]byte("after"))
			_ = client.Release()
			_ = client.Flush()
			_ = client.CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, append(sent, "after"...)) {
			t.Errorf("%s: %d bytes of %d, or their content differs: %v", name, len(got), len(sent)+5, err)
		}
	}
}

// TestGatherFailure: what could not be sent is told by Send.
func TestGatherFailure(t *testing.T) {
	client, _ := pair(t, "127.0.0.1:0")
	client.MayGather()
	client.Gather()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if client.Send() == nil {
		t.Error("sent on a closed connection")
	}
}

// TestGatherBeside: somebody else writes meanwhile; nothing is lost.
func TestGatherBeside(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.MayGather()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 500 {
			_, _ = client.Write([]byte{'a'})
		}
	})
	wg.Go(func() {
		for range 500 {
			client.Gather()
			_, _ = client.Write([]byte{'b'})
			_ = client.Send()
		}
	})
	go func() { wg.Wait(); _ = client.CloseWrite() }()
	got, err := io.ReadAll(server)
	if err != nil || bytes.Count(got, []byte("a")) != 500 || bytes.Count(got, []byte("b")) != 500 {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

func TestEager(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	buf := make([]byte, 10)
	client.Eager(true)
	if n, err := client.Read(buf); n != 0 || !errors.Is(err, ErrNotNow) {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
	client.Eager(false)
	go func() { _, _ = server.Write([]byte("abc")) }()
	if n, err := client.Read(buf[:1]); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	client.Eager(true)
	if n, err := client.Read(buf); n != 2 || err != nil {
		t.Errorf("something to read: %d, %v", n, err)
	}
	_ = server.CloseWrite()
	client.Eager(false)
	if n, err := client.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	client.Eager(true)
	if n, err := client.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("past the end: %d, %v", n, err)
	}
}

// TestTryRead: it returns what is there, and does not wait.
func TestTryRead(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	buf := make([]byte, 16)
	if n, err := client.TryRead(buf); n != 0 || !errors.Is(err, ErrNotNow) {
		t.Errorf("nothing was sent: got %d, %v", n, err)
	}
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf[:1]); n != 1 || err != nil { // it waits for the bytes
		t.Fatalf("got %d, %v", n, err)
	}
	if n, err := client.TryRead(buf); string(buf[:n]) != "ello" || err != nil {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if read, _ := client.Bytes(); read != 5 {
		t.Errorf("%d bytes are counted, want 5", read)
	}
	server.Close()
	if _, err := client.Read(buf); err != io.EOF {
		t.Errorf("the end: got %v", err)
	}
	if _, err := client.TryRead(buf); err != io.EOF {
		t.Errorf("the end again: got %v", err)
	}
}
