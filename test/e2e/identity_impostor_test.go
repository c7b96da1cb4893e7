package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/test/lab"
)

// TestImpostorClients: whoever speaks the mesh's TLS to an agent without a
// certificate that this mesh gave, and that is valid now, is refused, and tap
// and the metrics say so.
func TestImpostorClients(t *testing.T) {
	t.Parallel()
	server := serverPod("server", node2)
	server.Account = "server"
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), server))
	waitEnrolled(t, l, "default/client", "default/server")
	own := authority(t, l)
	impersonated := identityOf("default", "default")
	foreign := openCA(t, t.TempDir(), trustDomain)
	elsewhere := openCA(t, t.TempDir(), "elsewhere.example")
	alien := identityOf("default", "default")
	alien.TrustDomain = "elsewhere.example"

	tap := startTap(t, l, node2)
	for _, tc := range []struct {
		name   string
		certs  []tls.Certificate
		reason string // "": accepted
	}{
		{"control", []tls.Certificate{certificate(t, own, impersonated, time.Minute)}, ""},
		{"no certificate", nil, "tls-peer"},
		{"another CA, our trust domain", []tls.Certificate{certificate(t, foreign, impersonated, time.Minute)}, "tls-peer"},
		{"another trust domain", []tls.Certificate{certificate(t, elsewhere, alien, time.Minute)}, "tls-peer"},
		{"expired", []tls.Certificate{expired(t, own, impersonated)}, "tls-peer"},
	} {
		for _, ip := range l.Pod("server").IPs {
			t.Run(fmt.Sprintf("%s over %s", tc.name, ip), func(t *testing.T) {
				before := metric(metrics(t, l, node2), "tcp_close_total", "direction=inbound", "peer=src", "reason=tls-peer")
				from, answer, err := askAsMesh(t, l.Pod("client").Netns, addrPort(ip, 8080), tc.certs)
				port, _ := strconv.Atoi(from[strings.LastIndex(from, ":")+1:])
				if tc.reason == "" {
					if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200") {
						t.Fatalf("a good certificate: %q, %v", answer, err)
					}
					e := tap.wait("the request", func(e event) bool { return int(e.Source.Port) == port && e.RequestInitEvent != nil })
					if e.TLS != "true" || e.Source.Metadata["identity"] != impersonated.String() {
						t.Error(e)
					}
					return
				}
				if err == nil || answer != "" || !mtls.Refused(err) {
					t.Errorf("answered %q, %v; want a refusal", answer, err)
				}
				e := tap.wait("the refusal", func(e event) bool { return int(e.Source.Port) == port && e.ConnCloseEvent != nil })
				if e.Reason != tc.reason || e.TLS == "true" || e.ProxyDirection != "INBOUND" || e.Destination.Metadata["pod"] != "server" {
					t.Errorf("want reason %s at the pod server: %s", tc.reason, e)
				}
				if after := metric(metrics(t, l, node2), "tcp_close_total", "direction=inbound", "peer=src", "reason=tls-peer"); after != before+1 {
					t.Errorf("tcp_close_total of tls-peer went from %v to %v", before, after)
				}
			})
		}
	}
}

// askAsMesh makes an HTTP request as an agent would, with certs, from a
// network namespace. from is the address it came from.
func askAsMesh(t *testing.T, netns, address string, certs []tls.Certificate) (from, answer string, err error) {
	t.Helper()
	raw, err := inNetns(t, netns, func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{mtls.ALPNHTTP1}, InsecureSkipVerify: true}
	if len(certs) > 0 { // whatever the server's hints ask for
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	c := tls.Client(raw, config)
	_, err = io.WriteString(c, "GET /impostor HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
	if err == nil {
		var text []byte
		text, err = io.ReadAll(c)
		answer = string(text)
	}
	return raw.LocalAddr().String(), answer, err
}

// impostor is a TLS server at a pod's address in place of its agent and its
// application.
type impostor struct {
	net.Listener
	done chan struct{}

	mu    sync.Mutex
	cert  tls.Certificate
	plain []string // what came that is not TLS
	heard []string // what came through TLS
}

// pose listens at a port of a pod whose agent is down.
func pose(t *testing.T, l *lab.Lab, pod string, port int) *impostor {
	t.Helper()
	listener, err := inNetns(t, l.Pod(pod).Netns, func() (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{Listener: listener, done: make(chan struct{})}
	var conns sync.WaitGroup
	go func() {
		defer close(i.done)
		defer conns.Wait()
		for {
			c, err := i.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { i.serve(c) })
		}
	}()
	t.Cleanup(func() { i.Close(); <-i.done })
	return i
}

// become changes the impostor's certificate and forgets what it heard.
func (i *impostor) become(cert tls.Certificate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cert, i.plain, i.heard = cert, nil, nil
}

func (i *impostor) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	i.mu.Lock()
	cert := i.cert
	i.mu.Unlock()
	s := tls.Server(c, &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
		NextProtos: []string{mtls.ALPNHTTP1, mtls.ALPNHTTP2, mtls.ALPNTCP},
	})
	buf := make([]byte, 4096)
	n, err := s.Read(buf)
	i.mu.Lock()
	defer i.mu.Unlock()
	if header := (tls.RecordHeaderError{}); errors.As(err, &header) {
		i.plain = append(i.plain, string(header.RecordHeader[:]))
		return
	}
	if n > 0 {
		i.heard = append(i.heard, string(buf[:n]))
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nimpostor")
	}
}

func (i *impostor) got() (plain, heard []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.plain, i.heard
}

// TestImpostorServers: where somebody else answers at an endpoint's address,
// the client's agent tells it by its certificate and sends it nothing, not in
// plaintext either, although both sides would allow that.
func TestImpostorServers(t *testing.T) {
	t.Parallel()
	victim := clientPod("victim", node2)
	victim.Account = "victim"
	neighbour := clientPod("neighbour", node2)
	neighbour.Account = "neighbour"
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), victim, neighbour))
	waitEnrolled(t, l, "default/client", "default/victim", "default/neighbour")
	own := authority(t, l)
	id := identityOf("default", "victim")
	alien := id
	alien.TrustDomain = "elsewhere.example"
	l.KillAgent(node2)
	server := pose(t, l, "victim", 8080)
	tap := startTap(t, l, node1)
	url := "http://" + addrPort(l.Pod("victim").IP(), 8080) + "/"
	for _, tc := range []struct {
		name, reason string
		cert         tls.Certificate
	}{
		{"another identity", "tls-identity", certificate(t, own, identityOf("default", "neighbour"), time.Minute)},
		{"expired", "tls-peer", expired(t, own, id)},
		{"another CA", "tls-peer", certificate(t, openCA(t, t.TempDir(), trustDomain), id, time.Minute)},
		{"another trust domain", "tls-peer", certificate(t, openCA(t, t.TempDir(), "elsewhere.example"), alien, time.Minute)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server.become(tc.cert)
			path := strings.ReplaceAll(tc.name, " ", "-")
			out := l.Exec("client", "labtest", "get", "-i", url+path)
			if !strings.HasPrefix(out, "HTTP/1.1 502") || !strings.Contains(out, "Underlane-Reason: "+tc.reason) {
				t.Errorf("HTTP: %s", out)
			}
			e := tap.wait("the refused request", func(e event) bool {
				return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/"+path
			})
			if e.Reason != tc.reason || e.ProxyDirection != "OUTBOUND" || e.Destination.Metadata["pod"] != "victim" {
				t.Error(e)
			}
			if r := say(l, "client", addrPort(l.Pod("victim").IP(), 8080), "opaque\x00bytes"); r.Code == 0 {
				t.Errorf("opaque: %s", r)
			}
			e = tap.wait("the refused connection", func(e event) bool { return e.ConnCloseEvent != nil && e.Reason == tc.reason })
			if e.Destination.Metadata["pod"] != "victim" {
				t.Error(e)
			}
			if plain, heard := server.got(); len(plain)+len(heard) > 0 {
				t.Errorf("the impostor heard %q, and in plaintext %q", heard, plain)
			}
		})
	}
	if n := agentStatus(t, l, node1).PlaintextFallbacks; n != 0 {
		t.Errorf("%d plaintext fallbacks", n)
	}
	// The control: with the right certificate the same server is believed.
	server.become(certificate(t, own, id, time.Minute))
	if out := l.Exec("client", "labtest", "get", url); out != "impostor" {
		t.Errorf("the victim's own certificate: %q", out)
	}
}
