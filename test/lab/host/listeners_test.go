package host

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestListeners checks that Listeners finds sockets of both families, only those
// of its namespace, and no connections.
func TestListeners(t *testing.T) {
	_, path := scratch(t)
	if err := NewNetns(path); err != nil {
		t.Fatal(err)
	}
	l, err := OpenListeners(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := func(ports ...uint16) {
		t.Helper()
		all := map[uint16]bool{}
		for _, p := range ports {
			all[p] = true
		}
		got, err := l.Ports()
		if diff := cmp.Diff(all, got); err != nil || diff != "" {
			t.Errorf("error %v, ports (-want +got):\n%s", err, diff)
		}
	}
	want()
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	var listeners []net.Listener
	for _, addr := range []string{"0.0.0.0:8080", "[::]:8081"} {
		err := InNetns(path, func() error {
			s, err := net.Listen("tcp", addr)
			if err == nil {
				listeners = append(listeners, s)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want(8080, 8081)
	listeners[0].Close()
	want(8081)
	listeners[1].Close()
	want()
}
