package l7proxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/rawio"
)

// deaf is a listener whose queue is full: the kernel drops every further SYN,
// as if nobody was there.
func deaf(t *testing.T) *net.TCPListener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, rawio.Sockaddr(netip.MustParseAddrPort("127.0.0.1:0")))
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	failed := 0
	for range 10 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { c.Close() })
		} else if failed++; failed == 3 { // one may fail because the machine is busy
			return l.(*net.TCPListener)
		}
	}
	t.Fatal("the queue does not fill up")
	return nil
}

// TestDeadEndpoint: one endpoint of three swallows every SYN. That costs one
// request a timeout; the next hundred know, and the proxy notices by itself when
// the endpoint is back.
func TestDeadEndpoint(t *testing.T) {
	for _, name := range []string{"HTTP/1", "HTTP/2", "opaque"} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.proxy.upstream.Limits.Failover = 2 * time.Second // no busy machine keeps a request so long
			dead := deaf(t)
			endpoints := []string{dead.Addr().String()}
			for range 2 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				answer(t, name, l)
				endpoints = append(endpoints, l.Addr().String())
			}
			request := asker(t, name, e.to(e.serviceOf(endpoints...)))
			slow := 0
			for i := range 400 {
				began := time.Now()
				request()
				if time.Since(began) >= e.proxy.upstream.Limits.Failover {
					slow++
				}
				if slow > 0 && i > 100 {
					break
				}
			}
			if slow != 1 {
				t.Errorf("%d requests waited for the dead endpoint, want 1", slow)
			}
			if got := e.proxy.Ejections()["unreachable"]; got != 1 {
				t.Errorf("%d ejections", got)
			}
			served := answer(t, name, dead)
			for deadline := time.Now().Add(30 * time.Second); served.Load() == 0; {
				if request(); time.Now().After(deadline) {
					t.Fatal("the endpoint did not come back")
				}
			}
		})
	}
}

// answer serves what asker asks, and counts.
func answer(t *testing.T, protocol string, l net.Listener) *atomic.Int32 {
	var served atomic.Int32
	t.Cleanup(func() { l.Close() })
	if protocol != "opaque" {
		var both http.Protocols
		both.SetHTTP1(true)
		both.SetUnencryptedHTTP2(true)
		s := &http.Server{Protocols: &both, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			served.Add(1)
			io.WriteString(w, "hello")
		})}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		return &served
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if n, _ := c.Read(make([]byte, 16)); n > 0 {
					served.Add(1)
					io.WriteString(c, "hello")
				}
			}()
		}
	}()
	return &served
}

// asker gives a function that makes one request, on a connection of its own
// where the proxy chooses by connections.
func asker(t *testing.T, protocol, addr string) func() {
	var protocols http.Protocols
	protocols.SetHTTP1(protocol != "HTTP/2")
	protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	if protocol != "opaque" {
		return func() {
			resp, err := client.Get("http://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || string(body) != "hello" || err != nil {
				t.Fatalf("%s: %q, %v", resp.Status, body, err)
			}
		}
	}
	return func() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, "\x00hello"); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
