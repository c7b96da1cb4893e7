package redirect

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// TestSegments: a program's socket takes less for each of a pod's many connections, and as much as
// ever when there are few again.
func TestSegments(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.pod, pod4, 8080)
	client := netip.AddrPortFrom(peer4, 40000)
	var open []*rawio.Conn
	// segment is the largest one that the program sends to a new connection.
	segment := func() int {
		c, err := r.enrolled.DialApp(t.Context(), app.Addr(), client)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		raw, err := accept(t, app).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		if err := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return size
	}
	closeAll := func() {
		for _, c := range open {
			c.Close()
		}
		open = nil
	}
	defer closeAll()
	for n := range largeSegments + 3 {
		got := segment()
		if small := got <= smallSegment; small != (n >= largeSegments) {
			t.Errorf("connection %d: got segments of %d bytes; want %d at most for each beyond the first %d, and more for these", n+1, got, smallSegment, largeSegments)
		}
	}
	closeAll()
	if got := segment(); got <= smallSegment {
		t.Errorf("got segments of %d bytes with one connection, want more than %d", got, smallSegment)
	}
}
