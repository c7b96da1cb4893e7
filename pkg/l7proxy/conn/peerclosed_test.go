package conn_test

import (
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestPeerClosedAfterAllIsRead: an mTLS peer has ended its side when all of its bytes were
// read and only its close_notify is left, and not while as little as one byte waits.
func TestPeerClosedAfterAllIsRead(t *testing.T) {
	for _, data := range []string{"", "x"} {
		client, server, _ := proxytest.TLSPair(t)
		if _, err := server.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		proxytest.Eventually(t, "the end has arrived", client.Raw().HungUp)
		ended := func(want bool) {
			t.Helper()
			if ended, gone := client.PeerClosed(); ended != want || gone {
				t.Errorf("%q was sent, %d bytes wait: ended %v, gone %v; want %v, false", data, client.Raw().Pending(), ended, gone, want)
			}
		}
		ended(data == "")
		if data != "" {
			if _, err := client.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			ended(true)
		}
	}
}
