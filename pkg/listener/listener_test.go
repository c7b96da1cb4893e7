package listener

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) *rawio.Listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, rawio.Sockaddr(netip.MustParseAddrPort("127.0.0.1:0"))), unix.Listen(fd, 64)); err != nil {
		t.Fatal(err)
	}
	l, err := rawio.NewListener(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l *rawio.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

// echo sends back what comes until the client ends.
func echo(c *rawio.Conn) { _, _ = io.Copy(c, c) }

func TestServeAndDrain(t *testing.T) {
	g := &Group{Log: slog.New(slog.DiscardHandler)}
	l := listen(t)
	g.Serve(l, echo)
	clients := []*net.TCPConn{dial(t, l), dial(t, l), dial(t, l)}
	for _, c := range clients {
		if _, err := c.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if g.Open() != 3 {
		t.Errorf("%d open, want 3", g.Open())
	}
	l.Close()
	drained := make(chan int)
	go func() { drained <- g.Drain(context.Background()) }()
	for _, c := range clients {
		select {
		case <-drained:
			t.Fatal("drained with connections open")
		default:
		}
		c.Close()
	}
	if cut := <-drained; cut != 0 || g.Open() != 0 {
		t.Errorf("cut %d, open %d", cut, g.Open())
	}
}

func TestDrainCutsWhatStays(t *testing.T) {
	g := &Group{Log: slog.New(slog.DiscardHandler)}
	l := listen(t)
	g.Serve(l, echo)
	c := dial(t, l)
	eventually(t, "accepted", func() bool { return g.Open() == 1 })
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if cut := g.Drain(ctx); cut != 1 {
		t.Errorf("cut %d, want 1", cut)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	eventually(t, "handler gone", func() bool { return g.Open() == 0 })
}

// TestDrainSeesWhatWasJustAccepted: a connection counts from the moment that
// it is accepted, not from when its goroutine first runs.
func TestDrainSeesWhatWasJustAccepted(t *testing.T) {
	for range 200 {
		g := &Group{Log: slog.New(slog.DiscardHandler)}
		l := listen(t)
		var mu sync.Mutex
		running := 0
		g.Serve(l, func(c *rawio.Conn) {
			mu.Lock()
			running++
			mu.Unlock()
			echo(c)
			mu.Lock()
			running--
			mu.Unlock()
		})
		c := dial(t, l)
		go c.Close()
		l.Close()
		g.Drain(context.Background())
		mu.Lock()
		if running != 0 {
			t.Fatal("drained while a connection was being handled")
		}
		mu.Unlock()
	}
}

// TestOutOfDescriptors: the accept loop goes on when descriptors are there
// again.
func TestOutOfDescriptors(t *testing.T) {
	var log bytes.Buffer
	g := &Group{Log: slog.New(slog.NewTextHandler(&log, nil))}
	l := listen(t)
	g.Serve(l, echo)
	c := dial(t, l)
	eventually(t, "the first is accepted", func() bool { return g.Open() == 1 })

	late, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	none := old
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err = unix.Connect(late, rawio.Sockaddr(l.Addr()))
	for range 1000 {
		if g.Exhausted() > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if g.Exhausted() == 0 {
		t.Error("the shortage was not counted")
	}
	eventually(t, "the second is accepted", func() bool { return g.Open() == 2 })
	unix.Close(late)
	c.Close()
	l.Close()
	g.Drain(context.Background())
	if !bytes.Contains(log.Bytes(), []byte("out of descriptors")) {
		t.Errorf("the log does not tell: %s", &log)
	}
}

// A defect that one connection brings out ends that connection only.
func TestPanicEndsOneConnection(t *testing.T) {
	var log bytes.Buffer
	g := &Group{Log: slog.New(slog.NewTextHandler(&log, nil))}
	l := listen(t)
	g.Serve(l, func(c *rawio.Conn) {
		var b [1]byte
		if _, err := c.Read(b[:]); err == nil && b[0] == '!' {
			panic("a defect")
		}
		_, _ = c.Write(b[:])
	})
	bad, good := dial(t, l), dial(t, l)
	if _, err := bad.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection that panicked: %v, want a reset", err)
	}
	if _, err := good.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(good); err != nil || string(answer) != "x" {
		t.Errorf("the other connection: %q, %v", answer, err)
	}
	l.Close()
	if cut := g.Drain(t.Context()); cut != 0 || g.Open() != 0 || g.Panics() != 1 {
		t.Errorf("cut %d, open %d, panics %d", cut, g.Open(), g.Panics())
	}
	if !bytes.Contains(log.Bytes(), []byte("a defect")) {
		t.Errorf("log: %s", log.String())
	}
}

// turnsSeen notes what a loop does with its turns.
type turnsSeen chan string

func (s turnsSeen) Pause()  { s <- "pause" }
func (s turnsSeen) Resume() { s <- "resume" }

func (s turnsSeen) Contended() bool { return false }

// TestAcceptsInTurn: the loop has no turn while it waits for connections, and one for each
// that it takes.
func TestAcceptsInTurn(t *testing.T) {
	g, l := &Group{Log: slog.New(slog.DiscardHandler)}, listen(t)
	seen := make(turnsSeen, 10)
	g.ServeInTurn(l, Manner{Turns: seen}, func(*rawio.Conn) Rest { return nil })
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := <-seen; got != w {
				t.Fatalf("got %s, want %s", got, w)
			}
		}
	}
	expect("pause")
	for range 2 {
		defer dial(t, l).Close()
		expect("resume", "pause")
	}
	l.Close()
	expect("resume", "pause")
}
