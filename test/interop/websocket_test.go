package interop

import (
	"net/netip"
	"testing"
)

// TestWebSocket: handshake, echo in frames of every length form and up to
// 16 MiB, fragments, ping, silence, and the close handshake from both sides.
func TestWebSocket(t *testing.T) {
	l := upPods(t, 9090, "wstest", "--listen", ":9090")
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			url := "ws://" + netip.AddrPortFrom(l.Pod(w.server).IP(), 9090).String()
			l.Exec("client", "wstest", "--idle", "3s", url)
			throughMesh(t, l, w.server)
		})
	}
}
