package rawio

import (
	"bytes"
	"io"
	"slices"
	"sync"
	"testing"
)

// turns notes what it was told, and by whom.
type turns struct {
	mu   sync.Mutex
	said []string
}

func (r *turns) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, what)
}

func (r *turns) Pause()  { r.say("pause") }
func (r *turns) Resume() { r.say("resume") }

func (r *turns) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := r.said
	r.said = nil
	return said
}

// TestReadsInTurn: a read that waits says so once, and each one takes its turn before it
// returns, also where it fails. Without turns nothing is said.
func TestReadsInTurn(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	var r turns
	server.ReadsInTurn(&r)
	read := func(want ...string) {
		t.Helper()
		if _, err := server.Read(make([]byte, 1)); err != nil && err != io.EOF {
			t.Error(err)
		}
		if got := r.took(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	later := make(chan struct{})
	go func() {
		<-later
		eventually(t, "the read waits", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.said) == 1 })
		_, _ = client.Write([]byte("ab"))
	}()
	close(later)
	read("pause", "resume") // "a"
	read("resume")          // "b" is there
	client.Close()
	eventually(t, "the end arrives", func() bool { return server.HungUp() })
	read("resume")
	server.ReadsInTurn(nil)
	read()
}

// TestWritesInTurn: a write says that it waits, and takes its turn, only where the socket
// was full.
func TestWritesInTurn(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	var r turns
	client.WritesInTurn(&r)
	if _, err := client.Write([]byte("few")); err != nil {
		t.Fatal(err)
	}
	if got := r.took(); len(got) != 0 {
		t.Errorf("a write that did not wait: got %v, want nothing", got)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		eventually(t, "the write waits", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.said) > 0 })
		_, _ = io.Copy(io.Discard, server)
	})
	if _, err := client.Write(bytes.Repeat([]byte("many"), 4<<20)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	reader.Wait()
	got := r.took()
	for i, said := range got {
		if want := []string{"pause", "resume"}[i%2]; said != want {
			t.Fatalf("number %d of %d: got %s, want %s", i, len(got), said, want)
		}
	}
	if len(got) < 2 || len(got)%2 != 0 {
		t.Errorf("got %d calls, want as many of each", len(got))
	}
}
