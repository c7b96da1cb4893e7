package handover

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve listens at the returned path until the test ends.
func serve(t *testing.T) (path string, server *Server, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	server = NewServer(slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return path, server, stop
}

func find(t *testing.T, path string) *Predecessor {
	t.Helper()
	p, err := Find(path)
	if err != nil || p == nil {
		t.Fatalf("Find = %v, %v", p, err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestHandover(t *testing.T) {
	path, server, stop := serve(t)
	p := find(t, path)
	want := State{PreMesh: map[string]uint32{"uid": 3}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	steps := make(chan string, 3)
	go func() {
		s := <-server.Asked()
		defer s.Close()
		if !s.KernelPaths() {
			t.Error("it does not say that it keeps kernel paths")
		}
		stop() // the connection outlives it
		if err := s.Released(want); err != nil {
			t.Error(err)
		}
		steps <- "released"
		if err := s.Taken(); err != nil {
			t.Error(err)
		}
		steps <- "taken"
		s.Ended()
		steps <- "ended"
	}()
	got, err := p.Release(t.Context())
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Fatalf("error %v (-want +got):\n%s", err, diff)
	}
	if !p.KernelPaths() {
		t.Error("the predecessor does not say that it keeps kernel paths")
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"released", func() error { return nil }},
		{"taken", p.Taken},
		{"ended", func() error { p.Close(); return nil }},
	} {
		select {
		case early := <-steps:
			if early != step.name {
				t.Fatalf("%s before it was", early)
			}
			steps <- early
		case <-time.After(20 * time.Millisecond):
		}
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if now := <-steps; now != step.name {
			t.Fatalf("%s, want %s", now, step.name)
		}
	}
}

// v0.1.0 says nothing of kernel paths, of which it does not know, at either end.
func TestKernelPathsOfV010(t *testing.T) {
	path, server, _ := serve(t)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"kind":"hello"}` + "\n" + `{"kind":"release"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	s := <-server.Asked()
	defer s.Close()
	if s.KernelPaths() {
		t.Error("it keeps kernel paths")
	}

	path = filepath.Join(t.TempDir(), "old")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := find(t, path)
	old, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if _, err := old.Write([]byte(`{"kind":"released","legacy":{"preMesh":{"a":1}}}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if last, err := p.Release(t.Context()); err != nil || last.PreMesh["a"] != 1 || p.KernelPaths() {
		t.Errorf("%+v, %v, kernel paths: %v", last, err, p.KernelPaths())
	}
}

func TestSuccessorDies(t *testing.T) {
	path, server, _ := serve(t)
	p := find(t, path)
	go func() { _, _ = p.Release(t.Context()) }()
	s := <-server.Asked()
	defer s.Close()
	if err := s.Released(State{}); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := s.Taken(); err == nil {
		t.Error("taken by somebody who is dead")
	}
}

func TestPredecessorIsGone(t *testing.T) {
	path, _, stop := serve(t)
	p := find(t, path)
	if p.Gone() {
		t.Error("gone, and it is not")
	}
	stop()
	for limit := time.Now().Add(5 * time.Second); !p.Gone(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it has hung up, and counts as there")
		}
	}
}

func TestPredecessorHangs(t *testing.T) {
	path, server, _ := serve(t)
	p := find(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Release(ctx); err == nil {
		t.Error("released by somebody who says nothing")
	}
	(<-server.Asked()).Close()
}

func TestNobodyThere(t *testing.T) {
	if p, err := Find(filepath.Join(t.TempDir(), "none")); p != nil || err != nil {
		t.Errorf("no socket: %v, %v", p, err)
	}
	path := filepath.Join(t.TempDir(), "dead")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if p, err := Find(path); p != nil || err != nil {
		t.Errorf("a dead socket: %v, %v", p, err)
	}
}

// Who connects and says nothing, or nonsense, is no successor, and keeps nobody
// else from being one.
func TestStrangers(t *testing.T) {
	path, server, _ := serve(t)
	for _, text := range []string{"", "nonsense\n", `{"kind":"taken"}` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	p := find(t, path)
	go func() { _, _ = p.Release(t.Context()) }()
	(<-server.Asked()).Close()
}

// An agent that is stopped waits for a successor that is on its way, and for
// nobody else.
func TestAwait(t *testing.T) {
	path, server, _ := serve(t)
	if s := server.Await(time.Minute); s != nil {
		t.Error("nobody came, and somebody asked")
	}
	expected := func(n int) {
		t.Helper()
		for range 1000 {
			server.mu.Lock()
			have := len(server.expected)
			server.mu.Unlock()
			if have == n {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("%d expected never", n)
	}
	gone := find(t, path)
	expected(1)
	if s := server.Await(10 * time.Millisecond); s != nil {
		t.Error("asked by one who only said hello")
	}
	time.AfterFunc(20*time.Millisecond, gone.Close)
	if s := server.Await(time.Minute); s != nil {
		t.Error("asked by one who has gone")
	}
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	expected(1) // who has come may be about to say hello
	silent.Close()
	expected(0)
	p := find(t, path)
	expected(1)
	go func() { _, _ = p.Release(t.Context()) }()
	if s := server.Await(time.Minute); s == nil {
		t.Error("it did not wait for one who asked")
	} else {
		s.Close()
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"kind":"released","legacy":{"preMesh":{"a":1}}}` + "\n"))
	f.Add([]byte("\n"))
	f.Add([]byte(strings.Repeat("x", 5000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := read(bufio.NewReaderSize(bytes.NewReader(data), 4096))
		if err == nil && !bytes.Contains(data, []byte("\n")) {
			t.Errorf("a message without an end: %+v", m)
		}
	})
}
