// Package proxytest has helpers for the tests of the proxy's packages: a network on
// loopback, pairs of connections, and a recorder of tap events.
package proxytest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
)

// Listen returns a listener on loopback, which is closed when the test ends.
func Listen(t testing.TB) *rawio.Listener {
	t.Helper()
	return ListenAt(t, netip.MustParseAddr("127.0.0.1"))
}

// ListenAt is Listen at another address of loopback.
func ListenAt(t testing.TB, addr netip.Addr) *rawio.Listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(addr, 0)))
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := rawio.NewListener(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Network makes connections on loopback. It implements l7proxy.Network.
type Network struct {
	mu    sync.Mutex
	conns []*rawio.Conn
	gone  map[netip.Addr]bool
}

// errGone is what a dial to a pod that has ended fails with.
var errGone = mesh.Fail(mesh.ReasonPodGone, errors.New("the pod has ended"))

// Dial implements l7proxy.Network.
func (n *Network) Dial(ctx context.Context, _ string, dst netip.AddrPort) (*rawio.Conn, error) {
	if n.Gone(dst.Addr()) {
		return nil, errGone
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// As netns.Socket does: with Nagle's algorithm a small message would wait for
	// the other side's delayed ACK.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c, err := rawio.Connect(ctx, fd, dst)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone[dst.Addr()] { // meanwhile
		c.Close()
		return nil, errGone
	}
	n.conns = append(n.conns, c)
	return c, nil
}

// DialApp implements l7proxy.Network.
func (n *Network) DialApp(ctx context.Context, into string, dst, _ netip.AddrPort) (*rawio.Conn, error) {
	return n.Dial(ctx, into, dst)
}

// Enrolled implements l7proxy.Network.
func (*Network) Enrolled(string) bool { return true }

// Shared implements l7proxy.Network.
func (*Network) Shared() bool { return false }

// Gone implements l7proxy.Network.
func (n *Network) Gone(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gone[addr]
}

// End ends the pod at addr, as the Network of an agent does: its connections are reset,
// and it cannot be dialled any more.
func (n *Network) End(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone == nil {
		n.gone = make(map[netip.Addr]bool)
	}
	n.gone[addr] = true
	for _, c := range n.conns {
		if c.Remote().Addr() == addr {
			_ = c.Reset()
			c.Close()
		}
	}
}

// Dials counts the connections that were made.
func (n *Network) Dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// Open counts the connections that are not closed.
func (n *Network) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := 0
	for _, c := range n.conns {
		if raw, _ := c.SyscallConn(); raw.Control(func(uintptr) {}) == nil {
			open++
		}
	}
	return open
}

// AllHungUp reports whether the other ends of all connections have ended them.
func (n *Network) AllHungUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.conns, func(c *rawio.Conn) bool { return !c.HungUp() })
}

// Unread reports whether one of the connections has bytes that were not read.
func (n *Network) Unread() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.conns, func(c *rawio.Conn) bool { return c.Pending() > 0 })
}

// Pair returns the two ends of a connection, with deadlines in a minute.
func Pair(t testing.TB) (a, b *rawio.Conn) {
	t.Helper()
	l := Listen(t)
	a, err := (&Network{}).Dial(t.Context(), "", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// State implements l7proxy.State with a store only, which stands for a controller that
// has answered about every address.
type State struct {
	Store *state.Store
	// Answer is a controller that answers when it is waited for. nil: see above.
	Answer atomic.Pointer[func(context.Context) error]
}

// View implements l7proxy.State.
func (s *State) View() *state.View { return s.Store.View() }

// Resolve implements l7proxy.State.
func (s *State) Resolve(ctx context.Context, _ netip.Addr) error {
	if answer := s.Answer.Load(); answer != nil {
		return (*answer)(ctx)
	}
	return nil
}

// Await implements l7proxy.State. It waits for changes of the store.
func (s *State) Await(ctx context.Context, _ netip.Addr, known func(*state.View) bool) error {
	changes, cancel := s.Store.Watch()
	defer cancel()
	for !known(s.View()) {
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Connected implements l7proxy.State.
func (*State) Connected() bool { return true }

// Subscribe implements l7proxy.State.
func (*State) Subscribe(netip.Addr) {}

// IsNode implements l7proxy.State.
func (*State) IsNode(netip.Addr) bool { return false }

// Eventually waits until ok returns true, for at most 30 s. what describes the condition.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}
