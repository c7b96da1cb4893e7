package l7proxy

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// TestTell: what first bytes are taken for, and exactly when.
func TestTell(t *testing.T) {
	const ms = time.Millisecond
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	type piece struct {
		after time.Duration // the piece before
		text  string
	}
	says := func(first string, more ...piece) []piece { return append([]piece{{0, first}}, more...) }
	byByte := func(text string, each time.Duration) (all []piece) {
		for _, c := range text {
			all = append(all, piece{each, string(c)})
		}
		return all
	}
	for _, test := range []struct {
		name                 string
		said                 []piece
		inbound              bool
		ruled, known, opaque bool
		want                 detect.Protocol
		late, watch, noDial  bool
		at                   time.Duration
		end                  bool // after the last piece
		wantHead             string
	}{
		{name: "four words", said: says("ruok"), want: detect.Opaque, at: 50 * ms},
		{name: "four words, usual there", said: says("ruok"), known: true, want: detect.Opaque, noDial: true},
		{name: "four words and the end", said: says("ruok"), end: true, want: detect.Opaque, noDial: true},
		{name: "four words, in two pieces", said: says("ru", piece{20 * ms, "ok"}), want: detect.Opaque, at: 50 * ms, wantHead: "ruok"},
		{name: "four words where there are rules", said: says("ruok"), ruled: true, want: detect.Opaque, watch: true, at: 50 * ms},
		{name: "four words at an opaque port", said: says("ruok"), opaque: true, ruled: true, want: detect.Opaque, noDial: true},
		{name: "git", said: says("0032git-upload-pack /x.git\x00host=h\x00"), want: detect.Opaque, at: 50 * ms},
		{name: "a byte that may be anything", said: says("G"), want: detect.Opaque, at: 50 * ms},
		{name: "the same, where words are usual", said: says("G"), known: true, want: detect.Opaque, at: 50 * ms},
		{name: "a request in two segments", said: says("GET /a", piece{ms, " HTTP/1.1\r\n"}), want: detect.HTTP1, at: ms, noDial: true},
		{name: "a request, slow", said: says("GET /a", piece{40 * ms, " HTTP/1.1\r\n"}), want: detect.HTTP1, at: 40 * ms},
		{name: "a request, too slow", said: says("GET /a", piece{60 * ms, " HTTP/1.1\r\n"}), want: detect.Opaque, at: 50 * ms},
		{name: "a request, byte by byte", said: byByte("GET / HTTP/1.1\r\n", ms), want: detect.HTTP1, at: 15 * ms},
		{name: "a request, byte by byte, slow", said: byByte("GET / HTTP/1.1\r\n", 20*ms), want: detect.Opaque, at: 50 * ms},
		{name: "a request of a method that nobody knows", said: says("PURGE /a", piece{40 * ms, " HTTP/1.1\r\n"}), want: detect.HTTP1, at: 40 * ms},
		{name: "a slow request where there are rules", said: says("GE", piece{time.Second, "T / HTTP/1.1\r\n"}), ruled: true, want: detect.HTTP1, at: time.Second, noDial: true},
		{name: "too slow there", said: says("GET /a", piece{time.Minute, " HTTP/1.1\r\n"}), ruled: true, want: detect.Opaque, late: true, at: 10 * time.Second, noDial: true},
		{name: "half the preface there", said: says(detect.Preface[:16]), ruled: true, want: detect.Opaque, late: true, at: 10 * time.Second, noDial: true},
		{name: "half a request and the end there", said: says("GET /a"), ruled: true, end: true, want: detect.Opaque, noDial: true},
		{name: "no request after all, there", said: says("GE", piece{time.Second, "TS /\r\n"}), ruled: true, want: detect.Opaque, at: time.Second, noDial: true},
		{name: "the preface in two pieces", said: says(detect.Preface[:16], piece{40 * ms, detect.Preface[16:]}), want: detect.HTTP2, at: 40 * ms},
		{name: "half a hello", said: says(hello), want: detect.TLS, at: 50 * ms},
		{name: "half a hello, inbound", said: says(hello), inbound: true, want: detect.TLS, at: 3 * time.Second, noDial: true},
		{name: "the same, at an opaque port", said: says(hello), inbound: true, opaque: true, want: detect.TLS, at: 3 * time.Second, noDial: true},
		{name: "what looks like a hello at first, inbound", said: says(hello[:6], piece{ms, "\x00\x00\x01"}), inbound: true, want: detect.Opaque, at: ms, noDial: true},
		{name: "the type of a hello", said: says(hello[:1]), inbound: true, want: detect.Opaque, at: 50 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, c := net.Pipe()
				defer c.Close()
				s := &session{opaque: test.opaque, proxy: &Proxy{}}
				s.Direction = mesh.Outbound
				s.proxy.Limits = s.proxy.Limits.withDefaults()
				if test.inbound {
					s.Direction = mesh.Inbound
				}
				var saying sync.WaitGroup
				saying.Go(func() {
					for i, p := range test.said {
						if i > 0 {
							time.Sleep(p.after)
							_, _ = client.Write([]byte(p.text))
						}
					}
					if test.end {
						client.Close()
					}
				})
				var dialledAt time.Duration
				began := time.Now()
				tell := detection{
					s: s, began: began,
					ruled: func() bool { return test.ruled }, known: func() bool { return test.known },
					dial: func() *ahead { dialledAt = time.Since(began); return &ahead{} },
				}
				buf := make([]byte, conn.BufferSize)
				head, got := tell.read(memoryConn{c}, buf, buf[:copy(buf, test.said[0].text)])
				if took := time.Since(began); took != test.at || got.Protocol != test.want || got.late != test.late || got.watch != test.watch {
					t.Errorf("after %s: %v, late %t, watch %t; want %v, %t, %t after %s", took, got.Protocol, got.late, got.watch, test.want, test.late, test.watch, test.at)
				}
				if test.noDial != (dialledAt == 0) || dialledAt > dialAfter {
					t.Errorf("the endpoint was dialled at %s", dialledAt)
				}
				if test.wantHead != "" && string(head) != test.wantHead {
					t.Errorf("read %q", head)
				}
				client.Close()
				saying.Wait()
			})
		})
	}
}

// TestWordsAreAnswered: what is no protocol that is known is passed on soon, from
// the second connection on at once, and requests at the same place are looked
// into all the same.
func TestWordsAreAnswered(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	for range 3 {
		c := dialTCP(t, to)
		c.send("ruok")
		srv := b.request()
		srv.expect("ruok")
		srv.send("imok")
		c.expect("imok")
		c.Close()
		srv.expectEnd(nil)
	}
	if !e.proxy.hints.opaque(mustAddr(b.addr)) {
		t.Error("it is not remembered")
	}
	c := dialTCP(t, to)
	c.send("GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
	srv := b.request()
	srv.send("HTTP/1.1 204 No Content\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 204 {
		t.Errorf("got %d, want 204", resp.StatusCode)
	}
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Protocol != "http1" {
		t.Errorf("%+v", ev)
	}
	if e.proxy.hints.opaque(mustAddr(b.addr)) {
		t.Error("the hint has not healed")
	}
}

// TestWordsToNobody: the failure to reach the endpoint, which is dialled ahead, is
// seen as always.
func TestWordsToNobody(t *testing.T) {
	e := newEnv(t)
	c := e.dial(nobody(t))
	c.send("ruok")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an answer")
	}
	if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Reason != mesh.ReasonConnectRefused || !ev.Reset {
		t.Errorf("%+v", ev)
	}
}

// TestSlowRequestsKeepTheRules: where routes have a say, no request gets past them
// by being slow.
func TestSlowRequestsKeepTheRules(t *testing.T) {
	s, b := newShop(t), newBackend(t)
	s.service("apex", b.addr)
	s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}})
	t.Run("known method", func(t *testing.T) {
		c := s.apex()
		c.send("GE")
		time.Sleep(4 * tellTime)
		c.send("T /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		srv := b.request()
		srv.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		if resp, _ := c.response("GET"); resp.StatusCode != 204 {
			t.Errorf("got %d, want 204", resp.StatusCode)
		}
		if ev := s.tap.Wait(t, tap.RequestInit, 0); ev.Path != "/slow" || ev.Protocol != "http1" {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("empty line first", func(t *testing.T) {
		c := s.apex()
		c.send("\r\nGET /after HTTP/1.1\r\nHost: x\r\n\r\n")
		srv := b.request()
		srv.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		if resp, _ := c.response("GET"); resp.StatusCode != 204 {
			t.Errorf("got %d, want 204", resp.StatusCode)
		}
		if ev := s.tap.Wait(t, tap.RequestInit, 1); ev.Path != "/after" || ev.Protocol != "http1" {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("empty line first, slowly", func(t *testing.T) {
		c := s.apex()
		c.send("\r\n")
		srv := b.request()
		srv.expect("\r\n")
		c.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, err := srv.r.ReadString('\n'); err == nil || got != "" {
			t.Errorf("the server got %q", got)
		}
		if ev := s.tap.Wait(t, tap.ConnClose, 0); ev.Reason != mesh.ReasonRequestTimeout {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("other method", func(t *testing.T) {
		c := s.apex()
		c.send("PURGE /a")
		srv := b.request()
		srv.expect("PURGE /a")
		c.send(" HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, err := srv.r.ReadString('\n'); err == nil || got != "" {
			t.Errorf("the server got %q", got)
		}
		if ev := s.tap.Wait(t, tap.ConnClose, 1); ev.Reason != mesh.ReasonRequestTimeout {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("other protocol", func(t *testing.T) {
		c := s.apex()
		c.send("PURGE /a")
		srv := b.request()
		srv.expect("PURGE /a")
		rest := " and more\r\n" + strings.Repeat("GET / HTTP/1.1\r\n", 1000)
		c.send(rest)
		srv.expect(rest)
	})
}

// TestRuled: which destinations have rules that are about requests.
func TestRuled(t *testing.T) {
	limit := &mesh.RateLimit{Count: 1, Period: time.Second}
	limited := &mesh.Workload{UID: "limited", Settings: mesh.Settings{ClientRateLimit: limit}}
	free := &mesh.Workload{UID: "free", Settings: mesh.Settings{Policy: mesh.PolicyStrict}}
	s := newShop(t)
	for _, w := range []*mesh.Workload{limited, free} {
		if got := s.proxy.directory.Inbound(w, mustAddr("10.7.0.1:80"), false).HasRequestRules(); got != (w == limited) {
			t.Errorf("inbound, %s: %t", w.UID, got)
		}
	}
	limited.Settings = mesh.Settings{RateLimit: limit}
	limited.Addrs, free.Addrs = []netip.Addr{netip.MustParseAddr("10.7.0.1")}, []netip.Addr{netip.MustParseAddr("10.7.0.2")}
	s.apply(
		state.Resource{Name: state.WorkloadName(limited.UID), Workload: limited},
		state.Resource{Name: state.WorkloadName(free.UID), Workload: free},
	)
	service := func(name string, endpoints ...mesh.Endpoint) {
		t.Helper()
		vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(len(s.services) + 1)}), 80)
		s.services[name] = vip
		s.apply(state.Resource{Name: state.ServiceName("shop", name), Service: &mesh.Service{
			Name: name, Namespace: "shop", VIPs: []netip.Addr{vip.Addr()}, Ports: []mesh.ServicePort{{Port: 80, Endpoints: endpoints}},
		}})
	}
	service("mixed", mesh.Endpoint{Addr: mustAddr("10.7.0.2:80"), WorkloadUID: "free", Ready: true}, mesh.Endpoint{Addr: mustAddr("10.7.0.1:80"), WorkloadUID: "limited", Ready: true})
	service("plain", mesh.Endpoint{Addr: mustAddr("10.7.0.2:80"), WorkloadUID: "free", Ready: true})
	service("apex", mesh.Endpoint{Addr: mustAddr("10.7.0.2:80"), WorkloadUID: "free", Ready: true})
	s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("plain", 1)}})
	for dst, want := range map[netip.AddrPort]bool{
		mustAddr("10.7.0.1:80"): true,
		mustAddr("10.7.0.2:80"): false,
		mustAddr("10.7.0.3:80"): false, // nobody's
		s.services["mixed"]:     true,
		s.services["plain"]:     false,
		s.services["apex"]:      true, // has a route
	} {
		if got := s.proxy.directory.Outbound(s.local, dst, func(wait func()) { wait() }).HasRequestRules(); got != want {
			t.Errorf("to %s: %t", dst, got)
		}
	}
}
