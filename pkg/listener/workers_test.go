package listener

import (
	"io"
	"log/slog"
	"testing"

	"github.com/underlane/underlane/pkg/rawio"
)

// TestWorkers: a connection that follows another is served by the same goroutine, more than
// idleWorkers at once are served too, a defect costs a worker only its connection, and no
// worker is left when the listeners are closed (TestMain).
func TestWorkers(t *testing.T) {
	g := &Group{Log: slog.New(slog.DiscardHandler)}
	l := listen(t)
	g.Serve(l, func(c *rawio.Conn) {
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			if b[0] == '!' {
				panic("as asked")
			}
			if _, err := c.Write(b[:]); err != nil {
				return
			}
		}
	})
	ask := func(c io.ReadWriter, say string) error {
		if _, err := c.Write([]byte(say)); err != nil {
			return err
		}
		var b [1]byte
		_, err := io.ReadFull(c, b[:])
		return err
	}
	for round := range 3 {
		var conns []io.ReadWriteCloser
		for range idleWorkers + 8 {
			c := dial(t, l)
			conns = append(conns, c)
			if err := ask(c, "a"); err != nil {
				t.Fatalf("round %d, connection %d: %v", round, len(conns), err)
			}
		}
		if err := ask(conns[0], "!"); err == nil {
			t.Error("got an answer of a connection whose handler panics, want its end")
		}
		for _, c := range conns {
			c.Close()
		}
		eventually(t, "as many idle workers as may be", func() bool {
			g.workers.mu.Lock()
			defer g.workers.mu.Unlock()
			return g.Open() == 0 && len(g.workers.idle) == idleWorkers
		})
	}
	l.Close()
	g.Drain(t.Context())
	if g.workers.idle != nil {
		t.Errorf("got %d idle workers without a listener, want none", len(g.workers.idle))
	}
}
