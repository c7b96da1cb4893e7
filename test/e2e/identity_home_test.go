package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/test/lab"
)

// talkAsMesh connects to a server from a network namespace, as an agent with cert would, and
// exchanges a few bytes in the protocol of alpn. from is the address it came from.
func talkAsMesh(t *testing.T, netns string, to netip.Addr, cert tls.Certificate, alpn string) (from netip.AddrPort, err error) {
	t.Helper()
	port := 8080
	if alpn == mtls.ALPNTCP {
		port = 7000
	}
	raw, err := inNetns(t, netns, func() (net.Conn, error) { return net.DialTimeout("tcp", addrPort(to, port), patience) })
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	from = raw.LocalAddr().(*net.TCPAddr).AddrPort()
	_ = raw.SetDeadline(time.Now().Add(patience))
	c := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	say, want := "GET / HTTP/1.1\r\nHost: server\r\n\r\n", "HTTP/1.1 200 OK\r\n"
	switch alpn {
	case mtls.ALPNHTTP2, mtls.ALPNMux, mtls.ALPNStreams: // the preface, and an empty SETTINGS frame; the answer begins with one, too
		say, want = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x04"
	case mtls.ALPNTCP:
		say, want = "\x00hello", "\x00hello"
	}
	if _, err := io.WriteString(c, say); err != nil {
		return from, err
	}
	got := make([]byte, max(len(want), 9))
	if alpn == mtls.ALPNTCP {
		got = got[:len(want)]
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return from, err
	}
	if !bytes.Contains(got, []byte(want)) {
		return from, fmt.Errorf("answer %q, want %q", got, want)
	}
	return from, nil
}

// TestStolenKey: the certificate of a pod of node-2, with its key, is of no use at an
// address that is not one of its identity's pods: another pod of the mesh, a pod of the
// same service account without the label, and a node. It is in every protocol, with both
// policies and both address families. At home it works.
func TestStolenKey(t *testing.T) {
	t.Parallel()
	victim, neighbour, plain := clientPod("victim", node2), clientPod("neighbour", node1), clientPod("plain", node1)
	victim.Account, neighbour.Account, plain.Account = "victim", "neighbour", "victim"
	plain.Labels = nil
	second := clientPod("second", node1)
	second.Account = "victim"
	server, strict := serverPod("server", node2), serverPod("strict", node2)
	server.Account, strict.Account = "server", "server"
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(victim, neighbour, plain, second, server, strict))
	waitEnrolled(t, l, "default/victim", "default/neighbour", "default/second", "default/server", "default/strict")
	stolen := certificate(t, authority(t, l), identityOf("default", "victim"), time.Hour)
	tap := startTap(t, l, node2)
	for place, c := range map[string]struct {
		netns string
		home  bool
	}{
		"its pod": {l.Pod("victim").Netns, true}, "another pod of its identity": {l.Pod("second").Netns, true},
		"a pod of another identity": {l.Pod("neighbour").Netns, false},
		"a pod without the label":   {l.Pod("plain").Netns, false},
		"a node":                    {nodeNetns(t, l, node1), false},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"server", "strict"} {
				for _, to := range l.Pod(name).IPs {
					for _, alpn := range []string{mtls.ALPNHTTP1, mtls.ALPNMux, mtls.ALPNHTTP2, mtls.ALPNStreams, mtls.ALPNTCP} {
						what := fmt.Sprintf("%s to %s at %s", alpn, name, to)
						from, err := talkAsMesh(t, c.netns, to, stolen, alpn)
						if c.home {
							if err != nil {
								t.Errorf("%s: %v", what, err)
							}
							continue
						}
						if !mtls.Refused(err) {
							t.Errorf("%s: got %v, want a refusal of the certificate", what, err)
						}
						e := tap.wait("the refusal of "+what, func(e event) bool {
							return e.Source.Port == from.Port() && e.Source.IP == from.Addr().String() && e.ConnCloseEvent != nil && e.ProxyDirection == "INBOUND"
						})
						if e.Reason != "identity-elsewhere" || e.Destination.Metadata["pod"] != name || e.Source.Metadata["identity"] != identityOf("default", "victim").String() {
							t.Errorf("%s: %s", what, e)
						}
					}
				}
			}
		})
	}
}

// TestNewPodsCallAtOnce: the certificate of a pod that calls a strict server from its first
// moment is never refused.
func TestNewPodsCallAtOnce(t *testing.T) {
	t.Parallel()
	strict := serverPod("strict", node2)
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(strict))
	waitEnrolled(t, l, "default/strict")
	tap := startTap(t, l, node2)
	for i := range 8 {
		name := "new-" + strconv.Itoa(i)
		pod := clientPod(name, node1)
		pod.Account = "account-" + strconv.Itoa(i)
		pod.Command = []string{"labtest", "get", "--summary", "-n", "0", "--interval", "2ms", "--duration", "10m", "http://" + addrPort(l.Pod("strict").IPs[i%2], 8080) + "/" + name}
		l.Apply(pod.manifest())
		first := tap.wait("the first request of "+name+" that is let in, or a refusal", func(e event) bool {
			return e.Reason == "identity-elsewhere" ||
				e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/"+name && e.ResponseEndEvent.HTTPStatus == 200
		})
		if first.Reason != "" || first.Source.Metadata["identity"] != identityOf("default", pod.Account).String() {
			t.Errorf("%s: %s", name, first)
		}
		l.Delete(pod.manifest())
	}
	if refused := tap.all(func(e event) bool { return e.Reason == "identity-elsewhere" }); len(refused) > 0 {
		t.Errorf("%d connections were refused, the first: %s", len(refused), refused[0])
	}
}

// TestPeersWithoutController: a client that the server's node knows is let in while the
// controller is away. One that it does not know has no identity there.
func TestPeersWithoutController(t *testing.T) {
	t.Parallel()
	known, unknown := clientPod("known", node1), clientPod("unknown", node1)
	known.Account, unknown.Account = "known", "unknown"
	strict := serverPod("strict", node2)
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(known, unknown, serverPod("open", node2), strict))
	waitEnrolled(t, l, "default/known", "default/unknown", "default/open", "default/strict")
	tap := startTap(t, l, node2)
	for _, server := range []string{"open", "strict"} {
		l.Exec("known", "labtest", "get", "http://"+addrPort(l.Pod(server).IP(), 8080)+"/before")
	}
	l.KillController()
	for _, c := range []struct {
		client, server, reason, identity string
		status                           int
	}{
		{"known", "open", "", "known", 200},
		{"known", "strict", "", "known", 200},
		{"unknown", "open", "", "", 200},
		{"unknown", "strict", "identity-elsewhere", "unknown", 502},
	} {
		path := "/" + c.client + "/" + c.server
		out := l.Exec(c.client, "labtest", "get", "-i", "http://"+addrPort(l.Pod(c.server).IP(), 8080)+path)
		if !strings.HasPrefix(out, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || strings.Contains(out, "Underlane-Reason: tls-refused") != (c.status == 502) {
			t.Errorf("%s to %s: %s", c.client, c.server, out)
		}
		e := tap.wait(path, func(e event) bool {
			return e.ConnCloseEvent != nil && e.Reason == "identity-elsewhere" || e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path
		})
		identity := ""
		if c.identity != "" {
			identity = identityOf("default", c.identity).String()
		}
		if e.Reason != c.reason || e.Source.Metadata["identity"] != identity {
			t.Errorf("%s to %s: want reason %q, identity %q: %s", c.client, c.server, c.reason, identity, e)
		}
	}
	l.StartController()
	l.Eventually(patience, func() error {
		if code := statusFrom(l, "unknown", "http://"+addrPort(l.Pod("strict").IP(), 8080)+"/after"); code != 200 {
			return errors.New("the controller is back, and the strict pod answers " + strconv.Itoa(code))
		}
		return nil
	})
}

// TestClientWithMoreAddresses: a pod has its identity also where the kernel would choose an
// address for its connections that the cluster does not know.
func TestClientWithMoreAddresses(t *testing.T) {
	t.Parallel()
	strict := serverPod("strict", node2)
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), strict))
	waitEnrolled(t, l, "default/client", "default/strict")
	more := netip.MustParseAddr("fd77:1:1::210")
	addAddress(t, l, "client", more)
	var v6 netip.Addr
	for _, ip := range l.Pod("strict").IPs {
		if ip.Is6() {
			v6 = ip
		}
	}
	chosen, err := inNetns(t, l.Pod("client").Netns, func() (netip.AddrPort, error) {
		c, err := net.Dial("udp", addrPort(v6, 8080)) // sends nothing
		if err != nil {
			return netip.AddrPort{}, err
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
	})
	if err != nil || chosen.Addr() != more {
		t.Fatalf("the kernel chooses %s, %v; the test needs %s", chosen.Addr(), err, more)
	}
	for _, ip := range l.Pod("strict").IPs {
		for _, version := range []string{"--http2=false", "--http2=true"} {
			if out := l.Exec("client", "labtest", "get", "-i", version, "http://"+addrPort(ip, 8080)); !strings.Contains(out, " 200 OK\n") {
				t.Errorf("%s, %s: %s", ip, version, out)
			}
		}
		if r := say(l, "client", addrPort(ip, 7000), "let me in"); r.Code != 0 || !strings.HasSuffix(r.Stdout, "let me in") {
			t.Errorf("%s, opaque: %s", ip, r)
		}
	}
}
