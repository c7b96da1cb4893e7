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

func TestConnBothFamilies(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := pair(t, addr)
		if client.Local() != server.Remote() || client.Remote() != server.Local() {
			t.Errorf("addresses: client %v→%v, server %v→%v", client.Local(), client.Remote(), server.Local(), server.Remote())
		}
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: more than the socket takes at once
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, err := client.Write(sent); n != len(sent) || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
			if err := client.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		wg.Wait()
		// The other direction is still open.
		if _, err := server.Write([]byte("bye")); err != nil {
			t.Error(err)
		}
		server.Close()
		if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
			t.Errorf("after the half-close: %q, %v", got, err)
		}
		if r, w := client.Bytes(); r != 3 || w != uint64(len(sent)) {
			t.Errorf("counted %d read and %d written", r, w)
		}
	}
}

func TestDeadlinesWakeAndPass(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	done := make(chan error)
	go func() {
		_, err := client.Read(make([]byte, 1))
		done <- err
	}()
	_ = client.SetReadDeadline(time.Unix(1, 0))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read woken with %v", err)
	}
	_ = client.SetReadDeadline(time.Time{})
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("after the deadline was cleared: %d, %v", n, err)
	}
}

func TestCloseWakesReaderAndWriter(t *testing.T) {
	client, _ := pair(t, "127.0.0.1:0")
	done := make(chan error)
	go func() { _, err := client.Read(make([]byte, 1)); done <- err }()
	go func() { _, err := client.Write(make([]byte, 64<<20)); done <- err }()
	client.Close()
	for range 2 {
		if err := <-done; err == nil {
			t.Error("no error after Close")
		}
	}
}

func TestResetReachesThePeer(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	_ = client.Reset()
	client.Close()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read %v, want a reset", err)
	}
}

func TestIdleAndHungUp(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	if !server.Idle() || server.HungUp() {
		t.Errorf("fresh: idle %v, hung up %v", server.Idle(), server.HungUp())
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a byte to read", func() bool { return !server.Idle() })
	if server.HungUp() {
		t.Error("hung up with a byte to read")
	}
	_ = client.CloseWrite()
	eventually(t, "hung up behind the byte", server.HungUp)
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if server.Idle() || !server.HungUp() {
		t.Errorf("ended: idle %v, hung up %v", server.Idle(), server.HungUp())
	}
	server.Close()
	if server.Idle() || !server.HungUp() {
		t.Errorf("closed: idle %v, hung up %v", server.Idle(), server.HungUp())
	}
	eventually(t, "reset seen", client.HungUp)
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	out, in := make([]byte, 100), make([]byte, 200)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := client.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each write and read", n)
	}
}
