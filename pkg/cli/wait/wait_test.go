package wait

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/underlane/underlane/test/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers each connection in a goroutine; the port of address may be 0: a free one.
func server(t *testing.T, address string, answer func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { answer(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return ln.Addr().String()
}

// Servers, as a client sees them without a mesh or through an agent that reaches
// them.
func speaksFirst(c *net.TCPConn) { _, _ = c.Write([]byte("220 hello\r\n")); _ = c.Close() }
func endsAfter(c *net.TCPConn)   { _, _ = io.Copy(io.Discard, c); _ = c.Close() }

// respond answers a request.
func respond(status, fields string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\n"+fields+"\r\n\r\n")
		endsAfter(c)
	}
}

// agent accepts and resets: it does not reach the server.
func agent(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }

// standsFor is a server that lets a half-closed connection stand.
func standsFor(ctx context.Context) func(*net.TCPConn) {
	return func(c *net.TCPConn) { <-ctx.Done(); _ = c.Close() }
}

func quick(progress io.Writer) *waiter {
	return &waiter{settle: 50 * time.Millisecond, every: time.Millisecond, dial: 10 * time.Second, progress: progress}
}

func TestAnswers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, answer := range map[string]func(*net.TCPConn){
		"speaks first": speaksFirst, "ends": endsAfter, "stands": standsFor(ctx),
	} {
		t.Run(name, func(t *testing.T) {
			address := server(t, "127.0.0.1:0", answer)
			if name == "stands" {
				t.Cleanup(cancel) // before the server's end
			}
			var progress bytes.Buffer
			if err := quick(&progress).wait(t.Context(), address); err != nil || !strings.HasPrefix(progress.String(), address+" answers, after ") {
				t.Errorf("got %v, %q", err, progress.String())
			}
		})
	}
}

// told calls done when something is written.
type told struct {
	bytes.Buffer
	done func()
}

func (w *told) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	w.done()
	return n, err
}

func TestAbsentAndLate(t *testing.T) {
	ok := respond("404 Not Found", "content-length: 0")
	refusal := respond("502 Bad Gateway", "underlane-reason: connect-refused\r\ncontent-length: 0")
	for name, tc := range map[string]struct {
		scheme string
		absent func(*net.TCPConn) // nil: nobody listens
		there  func(*net.TCPConn)
		why    string
	}{
		"refused":       {"", nil, endsAfter, "connection refused"},
		"agent":         {"", agent, endsAfter, "reset"},
		"HTTP, refused": {"http://", nil, ok, "connection refused"},
		"HTTP, agent":   {"http://", refusal, ok, "an agent answers 502 Bad Gateway, connect-refused"},
		"HTTP, reset":   {"http://", agent, ok, "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			var there sync.Once
			var mu sync.Mutex
			answer := tc.absent
			address := ports.Reserve(t).String()
			if tc.absent != nil {
				address = server(t, "127.0.0.1:0", func(c *net.TCPConn) {
					mu.Lock()
					now := answer
					mu.Unlock()
					now(c)
				})
			}
			// Absent: the time passes, and the last failure is told.
			ctx, cancel := context.WithCancelCause(t.Context())
			never := quick(&told{done: func() { cancel(context.DeadlineExceeded) }})
			if err := never.wait(ctx, tc.scheme+address); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it is interrupted", err)
			}
			// Late: it is there after the first attempt.
			progress := &told{}
			progress.done = func() {
				there.Do(func() {
					if tc.absent == nil {
						server(t, address, tc.there)
						return
					}
					mu.Lock()
					answer = tc.there
					mu.Unlock()
				})
			}
			if err := quick(progress).wait(t.Context(), tc.scheme+address); err != nil {
				t.Fatal(err)
			}
			if out := progress.String(); !strings.Contains(out, "waiting for "+tc.scheme+address+": ") || !strings.Contains(out, tc.why) || !strings.Contains(out, address+" answers, after ") {
				t.Errorf("got %q, want %q", out, tc.why)
			}
		})
	}
}

func TestTimeIsOver(t *testing.T) {
	root := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Command("x"))
	var progress bytes.Buffer
	root.SetErr(&progress)
	address := ports.Reserve(t).String()
	root.SetArgs([]string{"wait", address, "--timeout", "1s"})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), address+" does not answer after 1s: connection refused") {
		t.Errorf("got %v, want that it does not answer, and why", err)
	}
	root.SetArgs([]string{"wait", address, "https://x", "--timeout", "10s"})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), `"https://x": want HOST:PORT or http://`) {
		t.Errorf("got %v, want that the second is no target, before the first is waited for", err)
	}
}

// A server may be gone without a trace once it has the request.
func TestSilentHTTPServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := server(t, "127.0.0.1:0", standsFor(ctx))
	t.Cleanup(cancel)
	limit, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if err := quick(io.Discard).wait(limit, "http://"+address); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v, want that it does not answer", err)
	}
}
