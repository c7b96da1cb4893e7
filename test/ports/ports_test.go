package ports

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReserve(t *testing.T) {
	addr := Reserve(t)
	refused := func() {
		t.Helper()
		if c, err := net.Dial("tcp", addr.String()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dial: got %v, %v; want %v", c, err, unix.ECONNREFUSED)
		}
	}
	refused()
	for range 3 {
		l, err := net.Listen("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// The side that closes first keeps the port in TIME_WAIT.
		s.Close()
		c.Close()
		l.Close()
		refused()
	}
}

func TestNobodyIsGivenAReservedPort(t *testing.T) {
	reserved := map[string]bool{}
	for range 300 {
		reserved[Reserve(t).String()] = true
	}
	for range 2000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if reserved[l.Addr().String()] {
			t.Errorf("another listener got %s, want it reserved", l.Addr())
		}
		l.Close()
	}
}
