package rawio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"
)

func TestImpatientWritesDoNotWait(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Impatient()
	var sent []byte
	for client.Backlog() == 0 { // nobody reads: the socket is full at some time
		part := bytes.Repeat([]byte{byte(len(sent) >> 16)}, 1<<16)
		if n, err := client.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
		sent = append(sent, part...)
		if len(sent) > 64<<20 {
			t.Fatal("the socket takes everything")
		}
	}
	more := []byte("and more, behind it")
	if n, err := client.Write(more); n != len(more) || err != nil {
		t.Fatal(n, err)
	}
	sent = append(sent, more...)
	if _, written := client.Bytes(); int(written)+client.Backlog() != len(sent) {
		t.Errorf("%d written and %d kept of %d", written, client.Backlog(), len(sent))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, append(sent, "patient, impatient"...)) {
			t.Errorf("%d bytes of %d arrived, or others: %v", len(got), len(sent), err)
		}
	})
	if err := client.Flush(); err != nil || client.Backlog() != 0 {
		t.Errorf("flush: %v, %d left", err, client.Backlog())
	}
	client.SetPatient(true)
	_, _ = client.Write([]byte("patient, "))
	client.SetPatient(false)
	_, _ = client.Write([]byte("impatient"))
	_ = client.CloseWrite()
	wg.Wait()
}

// TestPatientWriteGoesBehindTheBacklog: also when nobody flushed.
func TestPatientWriteGoesBehindTheBacklog(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Impatient()
	n := 0
	for ; client.Backlog() == 0; n += 1 << 16 {
		_, _ = client.Write(bytes.Repeat([]byte{'a'}, 1<<16))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := io.ReadAll(server)
		if err != nil || len(got) != n+1 || got[n] != 'z' {
			t.Errorf("%d bytes, %v, want %d and z last", len(got), err, n)
		}
	})
	client.SetPatient(true)
	if _, err := client.Write([]byte("z")); err != nil {
		t.Error(err)
	}
	_ = client.CloseWrite()
	wg.Wait()
}

func TestImpatientErrors(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Impatient()
	for client.Backlog() == 0 {
		_, _ = client.Write(make([]byte, 1<<16))
	}
	kept := client.Backlog()
	_ = client.SetWriteDeadline(time.Unix(1, 0))
	if err := client.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) || client.Backlog() != kept {
		t.Errorf("flush with a past deadline: %v, %d kept of %d", err, client.Backlog(), kept)
	}
	_ = client.SetWriteDeadline(time.Time{})
	_ = server.Reset()
	server.Close()
	eventually(t, "the reset", client.HungUp)
	if err := client.Flush(); err == nil {
		t.Error("no error after the reset")
	}
	other, peer := pair(t, "127.0.0.1:0")
	other.Impatient()
	_ = peer.Reset()
	peer.Close()
	eventually(t, "the reset", other.HungUp)
	if _, err := other.Write([]byte("x")); err == nil {
		t.Error("no error of a write after the reset")
	}
}

func TestImpatientWritesDoNotAllocate(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	client.Impatient()
	out, in := make([]byte, 100), make([]byte, 200)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := client.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each write", n)
	}
}
