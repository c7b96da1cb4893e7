package l7proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// piecemeal writes in pieces of any size, some of which come late.
type piecemeal struct {
	io.Writer
	rand *rand.Rand
}

func (p piecemeal) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		size := len(b) - n
		if p.rand.IntN(3) > 0 {
			size = min(size, 1+p.rand.IntN(1<<(5+p.rand.IntN(12))))
		}
		var m int
		m, err = p.Writer.Write(b[n : n+size])
		n += m
		if p.rand.IntN(16) == 0 {
			time.Sleep(time.Duration(p.rand.IntN(300)) * time.Microsecond)
		}
	}
	return n, err
}

// odd serves requests correctly and in an odd way: it has interim responses, answers before
// the body has come, and sends heads of all sizes. The answer has the name of the request.
func odd(nc net.Conn, seed uint64) {
	luck := rand.New(rand.NewPCG(seed, 1))
	out := piecemeal{nc, luck}
	for r := bufio.NewReader(nc); ; {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		early := luck.IntN(4) == 0
		if !early {
			_, _ = io.Copy(io.Discard, request.Body)
		}
		name := request.Header.Get("X-Name")
		answer := ""
		for range luck.IntN(3) {
			answer += "HTTP/1.1 103 Early Hints\r\nX-Hint: " + name + "\r\n\r\n"
		}
		body := strings.Repeat(name+"\n", luck.IntN(1<<luck.IntN(12)))
		answer += "HTTP/1.1 200 OK\r\nX-Name: " + name + "\r\nX-Pad: " + strings.Repeat("p", near(luck)) + "\r\n"
		if luck.IntN(2) == 0 {
			answer += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		} else {
			answer += "Transfer-Encoding: chunked\r\n\r\n"
			if body != "" {
				answer += fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			answer += "0\r\n\r\n"
		}
		if _, err := io.WriteString(out, answer); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
	}
}

// near is a length near one of the borders.
func near(luck *rand.Rand) int {
	return max(0, borders[luck.IntN(len(borders))]-luck.IntN(120)) % 60_000
}

// TestH1Chaos: clients that write requests of all sizes ahead, in pieces, to servers that are
// as odd, get the answers to these requests, in order, while readers of tap come and go. What
// these have seen stays as it was.
func TestH1Chaos(t *testing.T) {
	const clients, requests = 4, 15
	for _, name := range []string{"plain", "routed", "streams"} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			hub := tap.NewHub(s.tap)
			s.proxy.core.Tap = hub
			s.proxy.core.Sampling = &mesh.TraceSampling{PerMillion: 500_000}
			s.proxy.core.Logged = func() bool { return true }
			var seed uint64
			var mu sync.Mutex
			serve := func(nc net.Conn) {
				mu.Lock()
				seed++
				mine := seed
				mu.Unlock()
				defer context.AfterFunc(t.Context(), func() { nc.Close() })() // the proxy keeps it for longer
				odd(nc, mine)
			}
			server := serveConns(t, serve)
			s.service("apex", server, serveConns(t, serve))
			if name == "routed" {
				s.service("shadow", serveConns(t, serve))
				s.route(mesh.RouteRule{
					Backends: []mesh.RouteBackend{to("apex", 1)},
					Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 3, Backoff: time.Millisecond, AnyMethod: true},
					Filters:  mesh.RouteFilters{Mirrors: shadows("shadow"), Rewrite: &mesh.RouteRewrite{Hostname: "new.example"}},
				})
			}
			stop := make(chan struct{})
			var readers, all sync.WaitGroup
			for range 2 {
				readers.Go(func() { watchNames(t, hub, stop) })
			}
			addr := s.to(s.services["apex"].String())
			open := func() (net.Conn, error) { return net.Dial("tcp", addr) }
			if name == "streams" { // of a connection that another agent's clients share
				client := servedMux(t, s.env, server, quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"}))
				open = func() (net.Conn, error) { return client.Open(), nil }
			}
			for i := range clients {
				nc, err := open()
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() { askOddly(t, nc, uint64(i), requests) })
			}
			all.Wait()
			close(stop)
			readers.Wait()
		})
	}
}

// askOddly sends requests on one connection, and reads the answers beside it.
func askOddly(t *testing.T, nc net.Conn, seed uint64, requests int) {
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	luck := rand.New(rand.NewPCG(seed, 2))
	methods := make(chan string, requests)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		out := bufio.NewWriterSize(piecemeal{nc, luck}, 1<<17)
		for i := range requests {
			name := fmt.Sprintf("%d-%d", seed, i)
			method := []string{"GET", "POST", "PUT"}[luck.IntN(3)]
			fields := "X-Name: " + name + "\r\nUser-Agent: agent-" + name + "\r\n"
			body := ""
			switch {
			case method == "GET":
			case luck.IntN(2) == 0:
				body = strings.Repeat("b", near(luck))
				fields += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
			default:
				fields += "Transfer-Encoding: chunked\r\n"
				for range luck.IntN(4) {
					n := 1 + near(luck)
					body += fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("c", n))
				}
				body += "0\r\n\r\n"
			}
			head := fmt.Sprintf("%s /%s HTTP/1.1\r\nHost: x\r\n%sX-Pad: %s\r\n\r\n", method, name, fields, strings.Repeat("p", near(luck)))
			methods <- method
			_, err := io.WriteString(out, head+body)
			if err == nil && luck.IntN(2) == 0 {
				err = out.Flush()
			}
			if err != nil {
				t.Errorf("write of %s: %v", name, err)
				break
			}
		}
		_ = out.Flush()
		close(methods)
	})
	in := bufio.NewReader(nc)
	for i := range requests {
		want := fmt.Sprintf("%d-%d", seed, i)
		resp, err := http.ReadResponse(in, nil)
		for err == nil && resp.StatusCode == 103 && resp.Header.Get("X-Hint") == want {
			resp, err = http.ReadResponse(in, nil)
		}
		if err != nil {
			t.Errorf("the answer to %s: %v", want, err)
			nc.Close()
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("X-Name") != want || strings.Trim(string(body), want+"\n") != "" {
			t.Errorf("the answer to %s: got %s to %q, then %v", want, resp.Status, resp.Header.Get("X-Name"), err)
			nc.Close()
			return
		}
	}
}

// watchNames subscribes again and again, keeps some events for a while, and checks that
// each has one name everywhere.
func watchNames(t *testing.T, hub *tap.Hub, stop <-chan struct{}) {
	for n := 0; ; n++ {
		subscribe := hub.SubscribeHeaders
		if n%3 == 0 {
			subscribe = hub.Subscribe
		}
		sub := subscribe(nil, 64)
		time.Sleep(time.Millisecond)
		select {
		case <-stop:
			sub.Close()
			return
		default:
		}
		sub.Close()
		events, _, err := sub.Next(t.Context())
		if err != nil {
			continue
		}
		for i := range events {
			checkName(t, &events[i])
		}
	}
}

func checkName(t *testing.T, e *tap.Event) {
	name, ok := strings.CutPrefix(e.Path, "/")
	if !ok {
		return // the exchange began before there was a reader
	}
	if e.Head != nil && e.Head.UserAgent != "agent-"+name {
		t.Errorf("the event of %s has the user agent %q", name, e.Head.UserAgent)
	}
	if e.Headers == nil {
		return
	}
	for _, f := range e.Headers.List {
		if f.Name == "x-name" && f.Value != name || f.Name == "x-pad" && strings.Trim(f.Value, "p") != "" {
			t.Errorf("the event of %s has the field %s: %.40q", name, f.Name, f.Value)
		}
	}
}
