package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/rawio"
)

// A program with CAP_NET_ADMIN can destroy the sockets of its network namespace (ss -K).
// A listener that was destroyed still has its descriptor, and its port if that was given to
// bind. Each accept then fails with EINVAL, until the socket listens again.

// revival makes listeners listen again, of one accept loop.
type revival struct {
	last  time.Time
	pause time.Duration
}

const (
	backlog = 4096
	// maxRevivalPause is how long a listener that is destroyed again and again waits to
	// listen again, at most. The pause is exhaustedPause if it was not destroyed for
	// revivalMemory, and doubles otherwise.
	maxRevivalPause = time.Second
	revivalMemory   = 10 * time.Second
	// warnEvery is how often the same kind of failure is logged, at most.
	warnEvery = 10 * time.Second
)

// destroyed reports whether an error of accept means that the listener was destroyed.
func destroyed(err error) bool { return errors.Is(err, unix.EINVAL) }

// wait returns how long to wait before the listener listens again.
func (r *revival) wait(now time.Time) time.Duration {
	if now.Sub(r.last) > revivalMemory {
		r.pause = exhaustedPause
	} else {
		r.pause = min(2*r.pause, maxRevivalPause)
	}
	r.last = now
	return r.pause
}

// revive makes a listener of the address addr listen again. control calls a function with
// the descriptor.
func (g *Group) revive(addr netip.AddrPort, control func(func(fd int) error) error) {
	err := control(func(fd int) error { return relisten(fd, addr) })
	if err != nil {
		g.warn("accept: a listener was destroyed and cannot listen again", addr, err)
		return
	}
	g.revived.Add(1)
	g.warn("accept: another program destroyed a listener, which listens again", addr, nil)
	if g.OnRevived != nil {
		g.OnRevived()
	}
}

func relisten(fd int, addr netip.AddrPort) error {
	// This resets the state of the destroyed socket: the connections that it accepts
	// would otherwise be shut down like it.
	if err := disconnect(fd); err != nil {
		return fmt.Errorf("connect to nothing: %w", err)
	}
	if err := unix.Bind(fd, rawio.Sockaddr(addr)); err != nil && err != unix.EINVAL { // EINVAL: it still has its port
		return fmt.Errorf("bind %s: %w", addr, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// warn logs a failure, unless one was logged a moment ago.
func (g *Group) warn(text string, listener any, err error) {
	now := time.Now().UnixNano()
	last := g.warned.Load()
	if now-last < int64(warnEvery) && last != 0 || !g.warned.CompareAndSwap(last, now) {
		g.quiet.Add(1)
		return
	}
	g.Log.Warn(text, "listener", listener, "err", err, "like it since then", g.quiet.Swap(0))
}

// Revived counts listeners that another program had destroyed and that listen again.
func (g *Group) Revived() uint64 { return g.revived.Load() }
