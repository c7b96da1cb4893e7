package redirect

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// program listens as a program of the pod does: with an ordinary socket.
func program(t *testing.T, ns *netns.NS, at netip.AddrPort) *net.TCPListener {
	t.Helper()
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// connected returns both ends of a connection of the agent to the program.
func (r *rig) connected(t *testing.T, l *net.TCPListener) (client *rawio.Conn, server *net.TCPConn) {
	t.Helper()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	from := netip.AddrPortFrom(peer4, 40000)
	if at.Addr().Is6() {
		from = netip.AddrPortFrom(peer6, 40000)
	}
	client, err := r.enrolled.DialApp(t.Context(), at, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	_ = l.SetDeadline(time.Now().Add(20 * time.Second))
	server, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// untaken is how many bytes a server can write to a client that has stopped reading after it
// took so many.
func untaken(t *testing.T, client io.Reader, server *net.TCPConn, after int) int {
	t.Helper()
	var wrote atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for b := make([]byte, 16<<10); ; {
			n, err := server.Write(b)
			wrote.Add(int64(n))
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, client, int64(after)); err != nil {
		t.Fatal(err)
	}
	for last := int64(-1); wrote.Load() != last; time.Sleep(300 * time.Millisecond) {
		last = wrote.Load()
	}
	_ = server.SetWriteDeadline(time.Now())
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return int(wrote.Load()) - after
}

func sendBuffer(t *testing.T, c *net.TCPConn) (size int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return size
}

// TestUntaken: a program can write about as much to a client that does not read as it could
// without the mesh, however much the client has read before, where its pod has many connections.
func TestUntaken(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	l4, l6 := program(t, r.pod, netip.AddrPortFrom(pod4, 8080)), program(t, r.pod, netip.AddrPortFrom(pod6, 8080))
	for range largeSegments {
		r.connected(t, l4)
	}
	for _, l := range []*net.TCPListener{l4, l6} {
		for _, after := range []int{0, 256 << 10, 1 << 20, 4 << 20} {
			client, server := r.connected(t, l)
			const most = 400 << 10
			if got := untaken(t, client, server, after); got > most {
				t.Errorf("%s: %d bytes after %d were read, want at most %d", l.Addr(), got, after, most)
			}
		}
	}
}

// TestSendBufferOfPrograms: what a program asks for it has.
func TestSendBufferOfPrograms(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	l := program(t, r.pod, netip.AddrPortFrom(pod4, 8080))
	for range largeSegments {
		r.connected(t, l)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, asks := range []int{8 << 10, 200_000} {
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, asks) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		_, server := r.connected(t, l)
		if got := sendBuffer(t, server); got != 2*asks {
			t.Errorf("a program that asks for %d bytes has %d, want %d", asks, got, 2*asks)
		}
	}
}
