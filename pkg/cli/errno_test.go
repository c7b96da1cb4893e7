package cli

import (
	"net"
	"testing"
)

// The errors are those of real sockets.
func TestErrno(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if _, err := net.Listen("tcp", at); !InUse(err) || Refused(err) {
		t.Errorf("listen twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", at); !Refused(err) || InUse(err) {
		t.Errorf("dial where nothing listens: %v", err)
	}
}
