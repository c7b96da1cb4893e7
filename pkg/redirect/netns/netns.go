// Package netns enters network namespaces and makes sockets in them.
//
// A socket always belongs to the namespace that its thread was in when the socket was
// made. So a thread is in a foreign namespace only for a short time: it is locked,
// enters, makes the socket, and comes back.
package netns

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// NS is an open network namespace. The kernel keeps the namespace while NS is open.
type NS struct {
	file   *os.File
	inode  uint64
	cookie uint64
}

// Open opens a namespace by path: /proc/<pid>/ns/net or a bind mount.
func Open(path string) (*NS, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	ns, err := identify(file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return ns, nil
}

func identify(file *os.File) (*NS, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	ns := &NS{file: file, inode: st.Ino}
	return ns, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		ns.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return os.NewSyscallError("getsockopt SO_NETNS_COOKIE (Linux 5.14)", err)
	})
}

// IsOwn reports whether ns is the process's own namespace: in an agent, the host's.
func IsOwn(ns *NS) (bool, error) {
	fd, err := home()
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Ino == ns.inode, nil
}

// Inode identifies the namespace among those that exist now.
func (ns *NS) Inode() uint64 { return ns.inode }

// Cookie identifies the namespace among all since boot. eBPF programs identify a
// namespace by it.
func (ns *NS) Cookie() uint64 { return ns.cookie }

// FD is the namespace's descriptor. It is valid while ns is open.
func (ns *NS) FD() int { return int(ns.file.Fd()) }

// Close closes the descriptor. The namespace may end then.
func (ns *NS) Close() error { return ns.file.Close() }

// home returns a descriptor of the process's own namespace. Every thread is in it,
// except inside Do.
var home = sync.OnceValues(func() (int, error) {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("own network namespace: %w", os.NewSyscallError("open", err))
	}
	return fd, nil
})

// Do runs f on a thread that is in ns. Sockets that f makes belong to ns. Goroutines
// that f starts are not in ns. Entering and leaving take two system calls.
func (ns *NS) Do(f func() error) error {
	home, err := home()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns (needs CAP_SYS_ADMIN)", err)
	}
	failure := f()
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		// The thread is still in the pod's namespace, so no other goroutine may use
		// it. It stays locked to this goroutine and ends with it.
		return fmt.Errorf("leave network namespace: %w (the thread is abandoned)", err)
	}
	runtime.UnlockOSThread()
	return failure
}

// Socket makes a non-blocking TCP socket of addr's family in ns with the given
// mark (SO_MARK; 0 for none). Nagle's algorithm is off.
func (ns *NS) Socket(addr netip.Addr, mark uint32) (fd int, err error) {
	family := unix.AF_INET6
	if addr.Unmap().Is4() {
		family = unix.AF_INET
	}
	err = ns.Do(func() error {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return -1, err
	}
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt SO_MARK (needs CAP_NET_ADMIN)", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt TCP_NODELAY", err)
	}
	return fd, nil
}

// Listen makes a non-blocking TCP listener in ns on addr. If the port is in use, it
// listens on another one, which the listener's Addr has.
func (ns *NS) Listen(addr netip.Addr, port uint16, mark uint32) (*rawio.Listener, error) {
	fd, err := ns.Socket(addr, mark)
	if err != nil {
		return nil, fmt.Errorf("listen on [%s]:%d in the pod: %w", addr, port, err)
	}
	if err := listenOn(fd, netip.AddrPortFrom(addr, port)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on [%s]:%d in the pod: %w", addr, port, err)
	}
	return rawio.NewListener(fd)
}

func listenOn(fd int, addr netip.AddrPort) error {
	// The port may still have connections of an earlier agent.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	err := unix.Bind(fd, rawio.Sockaddr(addr))
	if err == unix.EADDRINUSE {
		err = unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(addr.Addr(), 0)))
	}
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, 4096))
}
