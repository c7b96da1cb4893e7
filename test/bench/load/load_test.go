package load

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/test/bench/serve"
	"github.com/underlane/underlane/test/bench/work"
)

// serverEnv makes the test binary an HTTP/1 server that prints its address.
const serverEnv = "UNDERLANE_TEST_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	l, err := serve.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	serve.Accept(context.Background(), l, work.HTTP1)
}

// ownProcess starts a server in a process that does nothing else, so that its
// memory grows only by its connections.
func ownProcess(t *testing.T) (addr netip.AddrPort, pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var text string
	if _, err := fmt.Fscanln(out, &text); err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(text), cmd.Process.Pid
}

// server starts a server of one mode on loopback.
func server(t *testing.T, mode work.Mode) netip.AddrPort {
	t.Helper()
	l, err := serve.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); serve.Accept(ctx, l, mode) }()
	t.Cleanup(func() { cancel(); <-done })
	return l.Addr()
}

func TestClosedLoop(t *testing.T) {
	for _, w := range work.Works {
		t.Run(w.Name, func(t *testing.T) {
			w.Conns = min(w.Conns, 8)
			r, err := Run(t.Context(), Options{
				Target: server(t, w.Port().Mode), Work: w,
				Warm: 20 * time.Millisecond, For: 150 * time.Millisecond, Watch: []int{os.Getpid()},
			})
			if err != nil || r.Errors > 0 {
				t.Fatalf("got %v, %d errors (%s); want none", err, r.Errors, r.Error)
			}
			if r.Requests < 10 || r.Seconds < 0.15 || r.Usage.CPU == 0 || r.Usage.RSS == 0 {
				t.Errorf("%d requests in %v s, usage %+v; want all above 0", r.Requests, r.Seconds, r.Usage)
			}
			if !w.Volume() && r.Latency.Count() != r.Requests {
				t.Errorf("%d latencies, want one for each of %d requests", r.Latency.Count(), r.Requests)
			}
		})
	}
}

func TestOpenLoop(t *testing.T) {
	for _, w := range work.Works {
		if !w.Paced() {
			continue
		}
		t.Run(w.Name, func(t *testing.T) {
			w.Conns = min(w.Conns, 8)
			r, err := Run(t.Context(), Options{Target: server(t, w.Port().Mode), Work: w, Rate: 500, For: 400 * time.Millisecond})
			if err != nil || r.Errors > 0 {
				t.Fatalf("got %v, %d errors (%s); want none", err, r.Errors, r.Error)
			}
			if r.Requests < 80 || r.Requests > 320 { // about 200
				t.Errorf("%d requests at 500/s in %v s, want 80 to 320", r.Requests, r.Seconds)
			}
			if r.Late.Count() == 0 || r.Latency.Max() == 0 {
				t.Errorf("%d times late, longest latency %v; want both measured", r.Late.Count(), r.Latency.Max())
			}
		})
	}
}

// TestNoCoordinatedOmission checks that requests stay due while a server is
// stalled, and that their wait counts.
func TestNoCoordinatedOmission(t *testing.T) {
	l, err := serve.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", work.Body, make([]byte, work.Body))
		for n := range 1000 {
			if n == 10 {
				time.Sleep(200 * time.Millisecond)
			}
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	r, err := Run(t.Context(), Options{
		Target: l.Addr(), Work: work.Work{Mode: work.HTTP1, Conns: 1, Streams: 1}, Rate: 1000, For: 400 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors > 0 {
		t.Fatalf("%d errors, %s; want none", r.Errors, r.Error)
	}
	// About half of all requests were due in these 200 ms, evenly spread.
	if p75 := r.Latency.Quantile(0.75); p75 < 50*time.Millisecond {
		t.Errorf("a quarter of the requests waited %v or more, want 50ms or more", p75)
	}
}

func TestIdle(t *testing.T) {
	// Enough connections that pages which the kernel has not yet added to the
	// process's count (a batch for each CPU) do not matter.
	const conns = 500
	addr, pid := ownProcess(t)
	r, err := Run(t.Context(), Options{
		Target: addr, Work: work.Works[0], Idle: conns, For: 50 * time.Millisecond, Watch: []int{pid},
	})
	if err != nil || r.Errors > 0 || r.Requests != conns || r.Growth < conns*1024 {
		t.Errorf("got %v, %+v; want %d requests without an error and a growth of 1 KiB or more each", err, r, conns)
	}
}

// TestErrorsAreCounted has a server that answers once and then closes the
// connection.
func TestErrorsAreCounted(t *testing.T) {
	l, err := serve.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", work.Body)
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			t.Error(err)
		}
		_, _ = c.Write(append([]byte(head), make([]byte, work.Body)...))
		_, _ = c.Read(make([]byte, 4096))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	r, err := Run(t.Context(), Options{Target: l.Addr(), Work: work.Work{Mode: work.HTTP1, Conns: 1, Streams: 1}, For: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors == 0 || r.Error == "" || r.All != 1 || r.Requests != 0 {
		t.Errorf("%d errors (%s), %d requests, %d of them measured; want errors and no measured request", r.Errors, r.Error, r.All, r.Requests)
	}
}

func TestWhatCannotBeMeasured(t *testing.T) {
	gone := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := Run(t.Context(), Options{Target: gone, Work: work.Works[0], For: time.Millisecond}); err == nil {
		t.Error("a server that does not listen: got no error, want one")
	}
	// An echo of the request is not a response.
	if _, err := Run(t.Context(), Options{Target: server(t, work.Echo), Work: work.Works[0], For: time.Millisecond}); err == nil {
		t.Error("a server with wrong responses: got no error, want one")
	}
}

func TestWhole(t *testing.T) {
	full := "HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH: 1024 \r\n\r\n" + string(make([]byte, work.Body))
	for _, c := range []struct {
		text string
		n    int
		ok   bool
	}{
		{full, len(full), true},
		{full + "HTTP", len(full), true},
		{full[:len(full)-1], 0, true},
		{"HTTP/1.1 200 OK\r\n", 0, true},
		{"HTTP/1.1 200 OK\r\n\r\n", 0, false},
		{"HTTP/1.1 503 Unavailable\r\nContent-Length: 1024\r\n\r\n", 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 0, false},
	} {
		if n, err := whole([]byte(c.text)); n != c.n || (err == nil) != c.ok {
			t.Errorf("%.60q: got %d, %v; want %d, without error: %v", c.text, n, err, c.n, c.ok)
		}
	}
}
