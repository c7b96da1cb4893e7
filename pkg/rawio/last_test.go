package rawio

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"
)

// TestLast: the facts of a connection are those of its end, whoever closes it, and stay.
func TestLast(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	for range 10 {
		exchange(t, client, server)
	}
	var closers sync.WaitGroup
	for range 4 {
		closers.Go(func() { client.Close() })
	}
	closers.Wait()
	got := client.Last()
	if got.MinRTT <= 0 || got.MinRTT > got.SRTT {
		t.Errorf("lowest round-trip time %v, want more than 0 and at most %v", got.MinRTT, got.SRTT)
	}
	if got.SRTT <= 0 || got.SRTT > time.Second {
		t.Errorf("round-trip time %v, want more than 0 and less than a second", got.SRTT)
	}
	if got.Read != 10 || got.Written != 10 || got.Unread != 0 {
		t.Errorf("got %+v, want 10 bytes each way, and nothing unread", got)
	}
	if again := client.Last(); again != got {
		t.Errorf("later: %+v, want %+v", again, got)
	}
	if open := server.Last(); open.Read != 10 || open.SRTT <= 0 {
		t.Errorf("the open end: %+v, want 10 bytes read and a round-trip time", open)
	}
	exchanged := server.Last()
	server.Close()
	if closed := server.Last(); closed != exchanged {
		t.Errorf("closed after its facts were asked for: %+v, want %+v", closed, exchanged)
	}
}

func exchange(t *testing.T, client, server *Conn) {
	t.Helper()
	b := make([]byte, 1)
	for _, from := range []*Conn{client, server} {
		to := map[*Conn]*Conn{client: server, server: client}[from]
		if _, err := from.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLastOfReset: the kernel keeps the facts of a connection that the peer has reset.
func TestLastOfReset(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	exchange(t, client, server)
	_ = server.Reset()
	server.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Fatalf("read after the reset: %v, want a reset", err)
	}
	client.Close()
	if got := client.Last(); got.SRTT <= 0 {
		t.Errorf("got %+v, want a round-trip time", got)
	}
}

// TestUnread: the time in which the peer did not read is known.
func TestUnread(t *testing.T) {
	const wait = 200 * time.Millisecond
	client, server := pair(t, "127.0.0.1:0")
	much := bytes.Repeat([]byte("x"), 16<<20) // more than both sockets take
	var writer sync.WaitGroup
	writer.Go(func() {
		if _, err := client.Write(much); err != nil {
			t.Error(err)
		}
		_ = client.CloseWrite()
	})
	time.Sleep(wait) // the server does something else
	if n, err := io.Copy(io.Discard, server); n != int64(len(much)) || err != nil {
		t.Errorf("read %d bytes, then %v; want %d", n, err, len(much))
	}
	writer.Wait()
	client.Close()
	if got := client.Last().Unread; got < wait/2 {
		t.Errorf("unread for %v, want at least half of %v", got, wait)
	}
}

// BenchmarkLast is what the facts cost of each connection.
func BenchmarkLast(b *testing.B) {
	client, _ := pair(b, "127.0.0.1:0")
	b.ReportAllocs()
	for b.Loop() {
		client.last.Store(nil)
		client.Last()
	}
}
