package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// apart has each packet from a node to an address on another node arrive later by delay: a round
// trip takes that much longer. The packets pass a TUN device in the node's namespace, because not
// every kernel has netem.
func apart(t *testing.T, l *lab.Lab, node string, to netip.Addr, delay time.Duration) {
	t.Helper()
	const name, table = "afar", "4711"
	route := l.NodeExec(node, "ip", "route", "get", to.String())
	var via, dev string
	if _, err := fmt.Sscanf(route, to.String()+" via %s dev %s", &via, &dev); err != nil {
		t.Fatalf("the route %q: %v", route, err)
	}
	tun, err := inNetns(t, nodeNetns(t, l, node), func() (*os.File, error) { return openTUN(name) })
	if err != nil {
		t.Fatal(err)
	}
	ip := func(args ...string) { l.NodeExec(node, append([]string{"ip"}, args...)...) }
	ip("link", "set", name, "up")
	for _, of := range []string{"all", name} {
		l.NodeExec(node, "sysctl", "-qw", "net.ipv4.conf."+of+".rp_filter=0")
	}
	ip("route", "add", to.String(), "via", via, "dev", dev, "table", table)
	ip("rule", "add", "iif", name, "table", table)
	ip("route", "add", to.String(), "dev", name)

	type packet struct {
		due  time.Time
		data []byte
	}
	line := make(chan packet, 4096)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for p := range line {
			time.Sleep(time.Until(p.due))
			_, _ = tun.Write(p.data) // back to the node, which sends it on by the other route
		}
	}()
	go func() {
		defer close(line)
		for buf := make([]byte, 64<<10); ; {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			line <- packet{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}
		}
	}()
	t.Cleanup(func() {
		tun.Close()
		<-ended
	})
}

// openTUN makes a TUN device in the namespace of the caller.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(request))); errno != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("make the TUN device %s: %w", name, errno)
	}
	return os.NewFile(uintptr(fd), name), nil
}
