package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/underlane/underlane/test/lab"
)

// arrivals are what an application got.
type arrivals struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (a *arrivals) add(b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got.Write(b)
}

func (a *arrivals) take() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.got.String()
	a.got.Reset()
	return out
}

// slipped reports whether something is there that must not have arrived.
func slipped(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "admin") || strings.Contains(text, "secret")
}

// serveRaw writes down all bytes, and answers each head. The path /public/ws is a WebSocket.
func (a *arrivals) serveRaw(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				a.add(buf[:n])
				answer := strings.Repeat("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", bytes.Count(buf[:n], []byte("\r\n\r\n")))
				if bytes.Contains(buf[:n], []byte(" /public/ws ")) {
					answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
				}
				if _, err := io.WriteString(c, answer); err != nil {
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// serveH2 writes down the requests.
func (a *arrivals) serveH2(l net.Listener) {
	s := &http.Server{
		Protocols: new(http.Protocols),
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			a.add(fmt.Appendf(nil, "%s %s %s %v\n", r.Method, r.Host, r.RequestURI, r.Header))
		}),
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
}

// attack makes one, and waits until all is said.
func (d *podDialer) attack(addr string, pieces []string) (answer string, err error) {
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return "", nil // refused
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	for i, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			break // it is refused already
		}
		if i+1 < len(pieces) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	_ = c.(*podConn).CloseWrite()
	got, err := io.ReadAll(c)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		err = nil
	}
	return string(got), err
}

// attackH2 makes requests on one connection, and waits until each is answered or refused. With
// inTwo their heads are in two frames.
func (d *podDialer) attackH2(addr string, inTwo bool, heads ...head) error {
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	w := http2.NewFramer(&out, c)
	w.AllowIllegalWrites = true
	_ = w.WriteSettings()
	e := hpack.NewEncoder(&block)
	for i, head := range heads {
		block.Reset()
		for _, f := range head {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		id, first := uint32(2*i+1), block.Bytes()
		if inTwo {
			first = first[:len(first)/2]
		}
		_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: !inTwo, EndStream: true})
		if inTwo {
			_ = w.WriteContinuation(id, true, block.Bytes()[len(first):])
		}
	}
	if _, err := c.Write(out.Bytes()); err != nil {
		return nil
	}
	for left := len(heads); left > 0; {
		f, err := w.ReadFrame()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return err
		}
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return nil
		case *http2.RSTStreamFrame:
			left--
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				left--
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				left--
			}
		}
	}
	return nil
}

// TestAttacks: whatever a client sends, in HTTP/1, HTTP/2 or as bytes, nothing arrives of what the
// rules of each language refuse, of an EgressNetwork, or of an external authorizer, at an
// application of the client's node and of another. What they allow arrives: requests, gRPC calls,
// WebSockets, and opaque bytes where rules are about who connects.
func TestAttacks(t *testing.T) {
	t.Parallel()
	authorizer := clientPod("authorizer", node2)
	authorizer.Command = []string{"labtest", "authorizer"}
	pods := map[string]podSpec{"far": clientPod("far", node1), "near": clientPod("near", node2), "friend-far": clientPod("friend-far", node1), "friend-near": clientPod("friend-near", node2)}
	all := []podSpec{serverPod("server", node2), authorizer}
	for name, p := range pods {
		if p.Account = "attacker"; strings.HasPrefix(name, "friend") {
			p.Account = "friend"
		}
		all = append(all, p)
	}
	l := lab.Up(t, lab.Options{}, manifests(all...)+attackedService)
	waitEnrolled(t, l, "default/far", "default/near", "default/friend-far", "default/friend-near", "default/server", "default/authorizer")
	outsideServer(t, l)
	raw, h2 := &arrivals{}, &arrivals{}
	go raw.serveRaw(listenIn(t, l, "server", rawPort))
	h2.serveH2(listenIn(t, l, "server", h2Port))
	for port, serve := range map[int]func(net.Listener){rawPort: raw.serveRaw, h2Port: h2.serveH2} {
		out, err := inNetns(t, nodeNetns(t, l, node2), func() (net.Listener, error) {
			return net.Listen("tcp", fmt.Sprintf("203.0.113.7:%d", port))
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		go serve(out)
	}
	a := &attacking{l: l, raw: raw, h2: h2, from: map[string]*podDialer{}, http1: attacksHTTP1(), http2: attacksHTTP2()}
	for name := range pods {
		a.from[name] = dialFrom(t, l, name)
	}
	for name, rules := range attackedRules {
		t.Run(name, func(t *testing.T) {
			a.until(t, rules, false)
			l.Apply(rules.rules)
			a.until(t, rules, true)
			for _, client := range []string{"far", "near"} {
				a.attack(t, rules, client)
				if rules.friends {
					client = "friend-" + client
				}
				a.allowed(t, rules, client)
			}
			l.Delete(rules.rules)
		})
	}
}

// attacking is a lab with two applications that write down what arrives.
type attacking struct {
	l       *lab.Lab
	raw, h2 *arrivals
	from    map[string]*podDialer
	http1   map[string][]string
	http2   map[string][]head
}

func (a *attacking) at(rules attacked, port int) string {
	if rules.to != "" {
		return fmt.Sprintf("%s:%d", rules.to, port)
	}
	return addrPort(a.l.Pod("server").IP(), port)
}

// until waits until a plain attack is refused, or is not.
func (a *attacking) until(t *testing.T, rules attacked, refused bool) {
	t.Helper()
	a.l.Eventually(patience, func() error {
		for _, client := range []string{"far", "near"} {
			a.raw.take()
			if _, err := a.from[client].attack(a.at(rules, rawPort), a.http1["plain"]); err != nil {
				return err
			}
			a.h2.take()
			if err := a.from[client].attackH2(a.at(rules, h2Port), false, a.http2["plain"]...); err != nil {
				return err
			}
			if got, gotH2 := !slipped(a.raw.take()), !slipped(a.h2.take()); got != refused || gotH2 != refused {
				return fmt.Errorf("a request of %s is refused: %v, %v, want %v", client, got, gotH2, refused)
			}
		}
		return nil
	})
}

// attack makes all attacks from a client, some at once.
func (a *attacking) attack(t *testing.T, rules attacked, client string) {
	t.Helper()
	from, turns := a.from[client], make(chan struct{}, 8)
	var all sync.WaitGroup
	do := func(attack string, f func() error) {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			began := time.Now()
			if err := f(); err != nil {
				t.Errorf("%s, %s: %v", client, attack, err)
			}
			if took := time.Since(began); took > time.Second {
				t.Logf("%s, %s: takes %v", client, attack, took.Round(time.Millisecond))
			}
		})
	}
	for attack, pieces := range a.http1 {
		do(attack, func() error { _, err := from.attack(a.at(rules, rawPort), pieces); return err })
	}
	for attack, heads := range a.http2 {
		for _, inTwo := range []bool{false, true} {
			do("HTTP/2, "+attack, func() error { return from.attackH2(a.at(rules, h2Port), inTwo, heads...) })
		}
	}
	all.Wait()
	for what, got := range map[string]string{"application": a.raw.take(), "application of HTTP/2": a.h2.take()} {
		if slipped(got) || rules.friends && got != "" {
			t.Errorf("%s: the %s got %q", client, what, got)
		}
	}
}

// allowed: what the rules let in arrives, of each kind.
func (a *attacking) allowed(t *testing.T, rules attacked, client string) {
	t.Helper()
	from, field := a.from[client], ""
	if rules.token != "" {
		field = "X-Token: " + rules.token + "\r\n"
	}
	plain := "GET /public/a HTTP/1.1\r\nHost: ok.example\r\nConnection: close\r\n" + field + "\r\n"
	if answer, err := from.attack(a.at(rules, rawPort), []string{plain}); err != nil || !strings.Contains(a.raw.take(), "GET /public/a ") {
		t.Errorf("%s: what is allowed: %q, %v", client, answer, err)
	}
	ws := from.raw(t, a.at(rules, rawPort))
	ws.send("GET /public/ws HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + field + "\r\n")
	if resp, err := http.ReadResponse(ws.r, nil); err != nil || resp.StatusCode != 101 {
		t.Errorf("%s: a WebSocket that is allowed: %v, %v", client, resp, err)
	}
	ws.send("said in a WebSocket")
	_ = ws.CloseWrite()
	ws.rest()
	if got := a.raw.take(); !strings.Contains(got, "said in a WebSocket") {
		t.Errorf("%s: a WebSocket that is allowed: the application got %q", client, got)
	}
	for what, h := range map[string]head{
		"GET ok.example /public/a ":    {{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/public/a"}},
		"POST ok.example /public/Call": {{":method", "POST"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/public/Call"}, {"content-type", "application/grpc"}, {"te", "trailers"}},
	} {
		if rules.token != "" {
			h = append(h, [2]string{"x-token", rules.token})
		}
		if err := from.attackH2(a.at(rules, h2Port), false, h); err != nil || !strings.Contains(a.h2.take(), what) {
			t.Errorf("%s, HTTP/2: what is allowed, %s, does not arrive: %v", client, what, err)
		}
	}
	if rules.friends { // opaque bytes, too
		if _, err := from.attack(a.at(rules, rawPort), []string{"\x00\x01 of a friend"}); err != nil || !strings.Contains(a.raw.take(), "of a friend") {
			t.Errorf("%s: opaque bytes do not arrive: %v", client, err)
		}
	}
}
