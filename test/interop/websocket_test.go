package interop

import (
	"net/netip"
	"testing"
)

// TestWebSocket checks the handshake, the echo of frames of every length form up to
// 16 MiB, fragments, ping, silence, and the close handshake from both sides.
func TestWebSocket(t *testing.T) {
	l := upPods(t, 9090, "wstest", "--listen", ":9090")
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			url := "ws://" + netip.AddrPortFrom(l.Pod(p.server).IP(), 9090).String()
			l.Exec("client", "wstest", "--idle", "3s", url)
			throughMesh(t, l, p.server)
		})
	}
}
