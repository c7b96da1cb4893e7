package listener

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// TestRest: a connection whose handler has returned a Rest is open until that has ended, its
// worker serves others meanwhile, and a Drain waits for it, or cuts it.
func TestRest(t *testing.T) {
	g, l := &Group{Log: slog.New(slog.DiscardHandler)}, listen(t)
	type going struct {
		c    *rawio.Conn
		over func(defect any, stack []byte)
	}
	goOn, before := make(chan going, 1), atomic.Bool{}
	g.ServeInTurn(l, Manner{}, func(c *rawio.Conn) Rest {
		rest := Rest(func(over func(any, []byte)) { goOn <- going{c, over} })
		return rest.Then(func() { before.Store(g.Open() > 0) })
	})
	open := func() (io.ReadWriter, going) {
		t.Helper()
		c := dial(t, l)
		return c, <-goOn
	}
	c, one := open()
	eventually(t, "the worker is idle", func() bool {
		g.workers.mu.Lock()
		defer g.workers.mu.Unlock()
		return len(g.workers.idle) == 1
	})
	if _, err := one.c.Write([]byte("x")); err != nil || g.Open() != 1 {
		t.Fatalf("after the handler has returned: %v, %d open", err, g.Open())
	}
	one.over(nil, nil)
	if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if !before.Load() || g.Open() != 0 || g.Panics() != 0 {
		t.Errorf("at the end: what Then was given was called before: %v; %d open, %d panics", before.Load(), g.Open(), g.Panics())
	}

	c, one = open()
	one.over("as asked", nil)
	if _, err := io.ReadAll(c); err == nil || g.Panics() != 1 || g.Open() != 0 {
		t.Errorf("after a defect: %v, %d panics, %d open; want a reset", err, g.Panics(), g.Open())
	}

	c, one = open()
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if cut := g.Drain(ctx); cut != 1 {
		t.Errorf("Drain has cut %d connections, want 1", cut)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the connection has ended in order, want a reset")
	}
	one.over(nil, nil)
	if Rest(nil).Then(func() {}) != nil {
		t.Error("a Rest of a connection that has ended")
	}
}
