package conn_test

import (
	"errors"
	"io"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestTruncationIsNoEnd: a FIN ends an mTLS stream only after close_notify.
// Without, anybody on the way could end a response early and nobody would know.
func TestTruncationIsNoEnd(t *testing.T) {
	for _, proper := range []bool{true, false} {
		client, server, raw := proxytest.TLSPair(t)
		if _, err := server.Write([]byte("half of")); err != nil {
			t.Fatal(err)
		}
		if proper {
			_ = server.Close()
		} else {
			_ = raw.CloseWrite()
		}
		got, err := io.ReadAll(client)
		if string(got) != "half of" || (err == nil) != proper {
			t.Errorf("proper end %v: %q, %v", proper, got, err)
		}
		if !proper && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
		}
	}
}

// TestHalfCloseOfTLS: one direction's end leaves the other open.
func TestHalfCloseOfTLS(t *testing.T) {
	client, server, _ := proxytest.TLSPair(t)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := server.Write([]byte("later")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got, err := io.ReadAll(client); string(got) != "later" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
