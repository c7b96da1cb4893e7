package listener

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// destroy does to a listener what ss -K does: it ends its state and keeps its descriptor.
// A port that bind has chosen is lost.
func destroy(t *testing.T, control func(func(fd int) error) error) {
	t.Helper()
	if err := control(disconnect); err != nil {
		t.Fatal(err)
	}
}

// TestListenerIsRevived: a destroyed listener soon listens again at its port, each time,
// and the log does not grow with it.
func TestListenerIsRevived(t *testing.T) {
	var log bytes.Buffer
	var told atomic.Int32
	g := &Group{Log: slog.New(slog.NewTextHandler(&log, nil)), OnRevived: func() { told.Add(1) }}
	l := listen(t)
	g.Serve(l, echo)
	for i := range uint64(4) {
		destroy(t, l.Control)
		eventually(t, "revived", func() bool { return g.Revived() > i })
		c := dial(t, l)
		if _, err := c.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Fatalf("after it was destroyed %d times: %v", i+1, err)
		}
		c.Close()
	}
	l.Close()
	g.Drain(context.Background())
	if g.Revived() != 4 || told.Load() != 4 {
		t.Errorf("revived %d times and told of %d, want 4", g.Revived(), told.Load())
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, &log)
	}
}

// TestPatientIsRevived is the same for a listener of package net.
func TestPatientIsRevived(t *testing.T) {
	g := &Group{Log: slog.New(slog.DiscardHandler)}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := g.Patient(inner)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	destroy(t, ln.(*patient).control)
	eventually(t, "revived", func() bool { return g.Revived() == 1 })
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Error(err)
	}
	c.Close()
	ln.Close()
	<-done
}

// TestTakenPort: somebody else has the port meanwhile. The loop goes on, and does not
// work or log all the time.
func TestTakenPort(t *testing.T) {
	var log bytes.Buffer
	g := &Group{Log: slog.New(slog.NewTextHandler(&log, nil))}
	l := listen(t)
	destroy(t, l.Control)
	taken, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := relisten(taken, l.Addr()); err != nil {
		t.Fatal(err)
	}
	g.Serve(l, echo)
	eventually(t, "tried three times", func() bool { return g.quiet.Load() >= 2 })
	if g.Revived() != 0 {
		t.Error("it listens beside another program")
	}
	unix.Close(taken)
	eventually(t, "revived", func() bool { return g.Revived() == 1 })
	l.Close()
	g.Drain(context.Background())
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, &log)
	}
}

// TestRevivalPause: the pause grows while a listener is destroyed again and again.
func TestRevivalPause(t *testing.T) {
	var r revival
	now := time.Now()
	var last time.Duration
	for range 20 {
		pause := r.wait(now)
		if pause < last || pause < exhaustedPause || pause > maxRevivalPause {
			t.Errorf("a pause of %s after one of %s", pause, last)
		}
		last = pause
		now = now.Add(pause)
	}
	if last != maxRevivalPause {
		t.Errorf("at last it pauses %s, want %s", last, maxRevivalPause)
	}
	if pause := r.wait(now.Add(revivalMemory + 1)); pause != exhaustedPause {
		t.Errorf("later it pauses %s, want %s", pause, exhaustedPause)
	}
}
