package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/lab"
)

// TestWireIsEncrypted: between nodes no byte of an application is in the
// clear, while addresses and ports are the applications' own.
func TestWireIsEncrypted(t *testing.T) {
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node2), outsider))
	waitEnrolled(t, l, "default/client", "default/server")
	client, server, outside := l.Pod("client"), l.Pod("server"), l.Pod("outsider")
	stop := capture(t, nodeNetns(t, l, node1), uplink)

	tap := startTap(t, l, node1)
	var markers []string
	mark := func(what string, family int) string {
		m := fmt.Sprintf("%s-%d-secret-hwbtqz", what, family) // a whole word: HPACK packs bits
		markers = append(markers, m)
		return m
	}
	for family, ip := range server.IPs {
		path, header, body := mark("/path", family), mark("header", family), mark("body", family)
		for _, http2 := range []bool{false, true} {
			args := []string{"labtest", "get", "-H", "X-Secret: " + header, "-H", "Content-Type: application/grpc", "-X", "POST"}
			if http2 {
				args = append(args, "--http2")
			}
			out := l.Exec("client", append(args, "http://"+addrPort(ip, 8080)+path)...)
			if !strings.Contains(out, path) || !strings.Contains(out, header) {
				t.Errorf("http2 %t over %s: %s", http2, ip, out)
			}
		}
		for _, port := range []int{7000, 7001} {
			if r := say(l, "client", addrPort(ip, port), body); r.Code != 0 || !strings.Contains(r.Stdout, body) {
				t.Errorf("port %d over %s: %s", port, ip, r)
			}
		}
		for _, port := range []uint16{8080, 7000, 7001} {
			tap.wait(fmt.Sprintf("TLS to port %d over %s", port, ip), func(e event) bool {
				return e.Destination.IP == ip.String() && e.Destination.Port == port && e.TLS == "true" && e.ProxyDirection == "OUTBOUND"
			})
		}
	}
	// The control: a capture that does not show this sees nothing.
	const control = "/plain-control-marker-kfpw"
	l.Exec("outsider", "labtest", "get", "http://"+addrPort(server.IP(), 8080)+control)
	l.Exec("outsider", "labtest", "get", "--http2", "http://"+addrPort(server.IP6(), 8080)+control)

	segments := stop()
	judgeWire(t, segments, client.IPs, server.IPs, []uint16{8080, 7000, 7001}, wire.NewWords(append(markers, "HTTP/1.1", "PRI * HTTP/2.0", "application/grpc", "220 server ready")...))
	seen := 0
	for _, s := range segments {
		if slices.Contains(outside.IPs, s.From.Addr()) && wire.NewWords(control).In(s.Payload) != "" {
			seen++
		}
	}
	if seen < 2 {
		t.Errorf("the capture shows %d of the outsider's 2 requests", seen)
	}
}

// judgeWire looks at what a client and a server said to each other: each flow
// is TLS from its first byte, from pod to pod, to a port of the application's.
func judgeWire(t *testing.T, segments []wire.Segment, client, server []netip.Addr, ports []uint16, secrets wire.Words) {
	t.Helper()
	type flow struct{ from, to netip.AddrPort }
	begun := map[flow]bool{}
	flows := map[netip.AddrPort]int{} // by the server's end
	for _, s := range segments {
		up := slices.Contains(client, s.From.Addr()) && slices.Contains(server, s.To.Addr())
		down := slices.Contains(server, s.From.Addr()) && slices.Contains(client, s.To.Addr())
		if !up && !down || len(s.Payload) == 0 {
			continue
		}
		if word := secrets.In(s.Payload); word != "" {
			t.Errorf("%q is in the clear from %s to %s", word, s.From, s.To)
		}
		serverEnd := s.To
		if down {
			serverEnd = s.From
		}
		if !slices.Contains(ports, serverEnd.Port()) {
			t.Errorf("%s to %s: the port is not the application's", s.From, s.To)
		}
		if f := (flow{s.From, s.To}); !begun[f] {
			begun[f] = true
			flows[serverEnd]++
			// RFC 8446 section 5.1: a handshake record, its version as of old.
			if s.Payload[0] != 22 || s.Payload[1] != 3 {
				t.Errorf("%s to %s begins with % x, not with a TLS handshake", s.From, s.To, s.Payload[:min(8, len(s.Payload))])
			}
		}
	}
	for _, ip := range server {
		for _, port := range ports {
			if end := netip.AddrPortFrom(ip, port); flows[end] < 2 {
				t.Errorf("%d directions of flows with %s in the capture", flows[end], end)
			}
		}
	}
}

// TestSameNodeStaysOffTheWire: between pods of one node the proxy is passed
// once, and nothing is on any link, encrypted or not.
func TestSameNodeStaysOffTheWire(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node1)))
	waitEnrolled(t, l, "default/client", "default/server")
	client, server := l.Pod("client"), l.Pod("server")
	netns := nodeNetns(t, l, node1)
	links := []string{uplink, client.HostVeth, server.HostVeth}
	var stops []func() []wire.Segment
	for _, link := range links {
		stops = append(stops, capture(t, netns, link))
	}
	tap := startTap(t, l, node1)
	for _, ip := range server.IPs {
		l.Exec("client", "labtest", "get", "http://"+addrPort(ip, 8080)+"/")
		l.Exec("client", "labtest", "get", "--http2", "http://"+addrPort(ip, 8080)+"/")
		if r := say(l, "client", addrPort(ip, 7000), "around the corner"); r.Stdout != "around the corner" {
			t.Error(r)
		}
		for _, port := range []uint16{8080, 7000} {
			e := tap.wait(fmt.Sprintf("same-node traffic to port %d over %s", port, ip), func(e event) bool {
				return e.Destination.IP == ip.String() && e.Destination.Port == port && e.ProxyDirection == "OUTBOUND"
			})
			if e.TLS != "same-node" {
				t.Errorf("tls=%s: %s", e.TLS, e)
			}
		}
	}
	for i, stop := range stops {
		for _, s := range stop() {
			if slices.Contains(client.IPs, s.From.Addr()) && slices.Contains(server.IPs, s.To.Addr()) ||
				slices.Contains(server.IPs, s.From.Addr()) && slices.Contains(client.IPs, s.To.Addr()) {
				t.Errorf("%s carries %s to %s (%d bytes)", links[i], s.From, s.To, len(s.Payload))
			}
		}
	}
}
