package l7proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestSlowHeadsAreCounted: a head that is under way takes a buffer for what there is of
// it, which is charged to the pod until the head is complete; over the limit the pod's next
// slow head is refused, and whole ones are not.
func TestSlowHeadsAreCounted(t *testing.T) {
	e, b := newEnvWith(t, Limits{PodBuffer: 25 << 10}), newBackend(t)
	to := e.to(b.addr)
	held := func() int64 {
		_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return held
	}
	few, much := dialTCP(t, to), dialTCP(t, to)
	pad := "X: " + strings.Repeat("x", 2000) + "\r\n" // a small head needs no buffer
	few.send("GET / HTTP/1.1\r\n" + pad)
	proxytest.Eventually(t, "4 KiB are charged", func() bool { return held() == 4<<10 })
	value := strings.Repeat("a", 20_000)
	much.send("GET / HTTP/1.1\r\nA: " + value)
	proxytest.Eventually(t, "20 KiB more are charged", func() bool { return held() == 24<<10 })
	over := dialTCP(t, to)
	over.send("GET / HTTP/1.1\r\n" + pad)
	if resp, _ := over.response("GET"); resp.StatusCode != 503 || resp.Header.Get("underlane-reason") != "overload" {
		t.Errorf("a slow head over the limit: got %v, want 503, overload", resp)
	}
	stop := time.Now().Add(5 * time.Second)
	for err := error(nil); err == nil; _, err = over.Write([]byte("a")) {
		if time.Sleep(100 * time.Millisecond); time.Now().After(stop) {
			t.Error("a client that was refused and sends on keeps its connection for 5 s, want about 1 s")
			break
		}
	}
	if hits := e.proxy.LimitHits()["pod-buffer"]; hits != 1 {
		t.Errorf("%d hits are counted, want 1", hits)
	}
	for name, c := range map[string]struct {
		*client
		rest, want string
	}{
		"whole": {dialTCP(t, to), get, get},
		"few":   {few, "Host: x\r\n\r\n", "GET / HTTP/1.1\r\n" + pad + "Host: x\r\n\r\n"},
		"much":  {much, "\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nA: " + value + "\r\nHost: x\r\n\r\n"},
	} {
		c.send(c.rest)
		srv := b.request()
		srv.expect(c.want)
		srv.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if resp, _ := c.response("GET"); resp.StatusCode != 200 {
			t.Errorf("%s: got %v, want 200", name, resp.Status)
		}
	}
	proxytest.Eventually(t, "nothing is charged", func() bool { return held() == 0 })
}

// TestBodyAfterSlowHead: what follows a head that came slowly is read with a whole buffer.
func TestBodyAfterSlowHead(t *testing.T) {
	const size = 300_000
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
	c.send(head[:20])
	proxytest.Eventually(t, "the head waits", func() bool {
		_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return held > 0
	})
	body := strings.Repeat("0123456789", size/10)
	c.send(head[20:] + body)
	srv := b.request()
	srv.expect(head + body)
	srv.send(okAnswer)
	c.expect(okAnswer)
}

// TestLargeHeadsAreForgotten: the buffer of a large head is charged to the pod until the
// response begins, and not while that goes on, nor in the tunnel that it has opened.
func TestLargeHeadsAreForgotten(t *testing.T) {
	for name, test := range map[string]struct{ fields, answer string }{
		"a response that goes on": {"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"},
		"a tunnel":                {"Connection: upgrade\r\nUpgrade: x\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			held := func() int64 {
				_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
				return held
			}
			c := e.dial(b.addr)
			head := headOf(t, "GET", test.fields, 5000)
			c.send(head)
			srv := b.request()
			srv.expect(head)
			proxytest.Eventually(t, "the head is charged", func() bool { return held() > 0 })
			srv.send(test.answer)
			c.expect(test.answer)
			proxytest.Eventually(t, "nothing is charged", func() bool { return held() == 0 })
		})
	}
}

// TestLargeRequestIsChargedWhole: while the response to a large request is waited for, its
// pod is charged with what the client has sent and with what was sent on. When the
// response begins, neither is held.
func TestLargeRequestIsChargedWhole(t *testing.T) {
	const size = 20 << 10
	e, b := newEnvWith(t, Limits{PodBuffer: 1 << 20}), newBackend(t)
	c := e.dial(b.addr)
	held := func() int64 {
		_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return held
	}
	request := "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", size) + "\r\n\r\n"
	c.send(request)
	srv := b.request()
	srv.expect(request)
	if got := held(); got < 2*size {
		t.Errorf("while the response is waited for %d bytes are charged, want at least %d", got, 2*size)
	}
	srv.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
	c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
	if got := held(); got != 0 {
		t.Errorf("while the response arrives %d bytes are charged, want 0", got)
	}
}
