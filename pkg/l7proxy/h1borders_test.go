package l7proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// borders are sizes of heads at which a session takes another buffer for them, and some
// between.
var borders = []int{
	100, 1<<10 - 1, 1 << 10, 1<<10 + 1, 2000, 4<<10 - 1, 4 << 10, 4<<10 + 1, 8 << 10,
	32<<10 - 1, 32 << 10, 32<<10 + 1, 60_000,
}

// headOf returns the head of a request, of size bytes.
func headOf(t *testing.T, method, fields string, size int) string {
	t.Helper()
	const line, end = " / HTTP/1.1\r\nHost: x\r\n", "\r\n\r\n"
	pad := size - len(method+line+fields+"X: "+end)
	if pad < 0 {
		t.Fatalf("a head of %d bytes has no room for its fields", size)
	}
	return method + line + fields + "X: " + strings.Repeat("x", pad) + end
}

// TestH1BodyThatStaysAway: a server answers early, and ends the connection, a request whose
// body never comes. The client's connection ends as well, whatever the size of the head.
func TestH1BodyThatStaysAway(t *testing.T) {
	const answer = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	var clients []*client
	for _, size := range borders {
		c := dialTCP(t, to)
		head := headOf(t, "POST", "Content-Length: 10\r\n", size)
		c.send(head)
		srv := b.request()
		srv.expect(head)
		srv.send(answer)
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.expect(answer)
		c.expectEnd(nil)
	}
	proxytest.Eventually(t, fmt.Sprintf("the sessions of %d clients that send no more have ended", len(clients)), func() bool {
		return e.group.Open() == 0
	})
}
