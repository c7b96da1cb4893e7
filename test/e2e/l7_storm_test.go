package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// storm is how many connections are opened at once.
const storm = 2000

// TestHandshakeStorm: a pod opens 2,000 connections to a pod of another node at
// once, and then two pods do, with a quiet one beside them. All are answered, none is
// refused or goes in plaintext, nobody takes an agent for one that is away, and
// the quiet one goes on. Each opaque connection has a handshake here, which few have as streams
// of shared connections.
func TestHandshakeStorm(t *testing.T) {
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--opaque-streams=false"}}, manifests(clientPod("client", node1), clientPod("second", node1), clientPod("quiet", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/second", "default/quiet", "default/server")
	ip := l.Pod("server").IP()
	echo, url := addrPort(ip, 7000), "http://"+addrPort(ip, 8080)+"/bytes/1"
	count := func(name string, labels ...string) float64 {
		return metric(metrics(t, l, node1), name, labels...) + metric(metrics(t, l, node2), name, labels...)
	}
	knocks := func(pod string, n int) func(t *testing.T) {
		b := inPod(t, l, pod, "labtest", "knock", "--at-once", fmt.Sprint(n), "--timeout", "70s", echo)
		return func(t *testing.T) {
			t.Helper()
			all, failed := readKnocks(t, b), 0
			var worst time.Duration
			for _, a := range all {
				worst = max(worst, a.Took)
				if a.outcome() != "done" {
					if failed++; failed <= 3 {
						t.Errorf("%s: %+v", pod, a)
					}
				}
			}
			t.Logf("%s: %d connections, the last after %s", pod, len(all), worst)
			if failed > 0 || len(all) != n {
				t.Errorf("%s: %d of %d connections failed", pod, failed, len(all))
			}
		}
	}
	gets := func(pod string) func(t *testing.T) {
		b := inPod(t, l, pod, "labtest", "get", "--summary", "--fresh", "-n", fmt.Sprint(storm), "-c", fmt.Sprint(storm), "--timeout", "70s", url)
		return func(t *testing.T) {
			t.Helper()
			s := summary(t, b)
			t.Logf("%s: %+v", pod, s)
			if s.Failed > 0 || s.Status[200] != storm {
				t.Errorf("%s: %+v", pod, s)
			}
		}
	}
	calm := quietly(t, l, "quiet", url, func() { time.Sleep(time.Second) })
	t.Logf("the quiet client alone: %s", calm)
	for _, name := range []string{"opaque", "HTTP/1", "two clients and a quiet one"} {
		t.Run(name, func(t *testing.T) {
			var p50 time.Duration
			switch name {
			case "opaque":
				knocks("client", storm)(t)
			case "HTTP/1":
				gets("client")(t)
			default:
				p50 = quietly(t, l, "quiet", url, func() {
					first, second := knocks("client", storm), knocks("second", storm)
					first(t)
					second(t)
				})
				t.Logf("the quiet client beside them: %s", p50)
			}
			if p50 > max(20*calm, 100*time.Millisecond) {
				t.Errorf("the quiet client's requests took %s, and %s before", p50, calm)
			}
			if n := count("underlane_plaintext_fallback_total"); n != 0 {
				t.Errorf("%v connections were made in plaintext", n)
			}
			for _, reason := range []string{"agent-down", "overload", "timeout"} {
				if n := count("tcp_close_total", "reason="+reason) + count("response_total", "reason="+reason); n != 0 {
					t.Errorf("%v times %s", n, reason)
				}
			}
			for _, name := range []string{"passed-stale-agent", "refused-stale-agent"} {
				if n := count("underlane_kernel_events_total", "reason="+name); n != 0 {
					t.Errorf("%s: %v", name, n)
				}
			}
		})
	}
}

// quietly has a client make a request on a new connection, and one on a kept one,
// now and then during f, and gives the slower of their medians. None may fail. It is the
// only client on node-1 that makes requests.
func quietly(t *testing.T, l *lab.Lab, pod, url string, f func()) time.Duration {
	t.Helper()
	made := func() float64 { return metric(metrics(t, l, node1), "request_total", "direction=outbound") }
	before := made()
	var both []*background
	for _, fresh := range []string{"--fresh=false", "--fresh=true"} {
		both = append(both, inPod(t, l, pod, "labtest", "get", "--summary", "-n", "0", "--duration", "2m", "--interval", "20ms", "--timeout", "30s", fresh, url))
	}
	f()
	l.Eventually(patience, func() error { // on a busy machine it may not have begun yet
		if n := made() - before; n < 50 {
			return fmt.Errorf("the quiet client has made %v requests", n)
		}
		return nil
	})
	var p50 time.Duration
	for _, b := range both {
		_ = b.cmd.Process.Signal(unix.SIGTERM)
		s := summary(t, b)
		t.Logf("%s: %+v", pod, s)
		if s.Failed > 0 || s.Status[200] != s.Requests || s.Requests < 10 {
			t.Errorf("%s: %+v", pod, s)
		}
		p50 = max(p50, s.P50)
	}
	return p50
}

// TestBadHandshakes: a pod without an identity throws handshakes at a strict pod,
// hundreds a second and some that stall. It gets in never, and a meshed client
// gets all its answers.
func TestBadHandshakes(t *testing.T) {
	server, stranger := serverPod("server", node2), clientPod("stranger", node1)
	server.Annotations, stranger.Labels = strictPolicy, nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("quiet", node1), stranger, server))
	waitEnrolled(t, l, "default/quiet", "default/server")
	ip := l.Pod("server").IP()
	url := "http://" + addrPort(ip, 8080) + "/bytes/1"
	calm := quietly(t, l, "quiet", url, func() { time.Sleep(time.Second) })

	own := selfSigned(t)
	netns := l.Pod("stranger").Netns
	dial := func() (net.Conn, error) {
		return inNetns(t, netns, func() (net.Conn, error) { return net.DialTimeout("tcp", addrPort(ip, 8080), 10*time.Second) })
	}
	const least = 500
	var tried, answered, opened atomic.Int64
	shake := func() {
		c, err := dial()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		tried.Add(1)
		conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, NextProtos: []string{"underlane/h1"}})
		if conn.Handshake() != nil {
			return
		}
		answered.Add(1) // of a certificate the server hears last
		_, _ = fmt.Fprintf(conn, "GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			opened.Add(1)
		}
	}
	under := quietly(t, l, "quiet", url, func() {
		began := time.Now()
		// On a busy machine it takes longer until there are enough.
		goesOn := func() bool {
			took := time.Since(began)
			return took < 6*time.Second || tried.Load() < least && took < patience
		}
		var attack, stalls sync.WaitGroup
		for range 8 { // each some dozens a second
			attack.Go(func() {
				for goesOn() {
					shake()
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		over := make(chan struct{})
		stalls.Go(func() {
			var stalled []net.Conn
			for range 100 {
				if c, err := dial(); err == nil {
					_, _ = c.Write(helloOf(t))
					stalled = append(stalled, c)
				}
			}
			<-over
			for _, c := range stalled {
				c.Close()
			}
		})
		attack.Wait()
		close(over)
		stalls.Wait()
	})
	t.Logf("%d bad handshakes, of %d the server spoke, the quiet client's requests took %s, and %s before", tried.Load(), answered.Load(), under, calm)
	if tried.Load() < least {
		t.Errorf("%d bad handshakes: too few to mean anything", tried.Load())
	}
	if n := opened.Load(); n > 0 {
		t.Errorf("the strict server answered %d of them", n)
	}
	if under > max(20*calm, 100*time.Millisecond) {
		t.Errorf("the quiet client's requests took %s, and %s before", under, calm)
	}
}

// helloOf is a ClientHello as agents send it.
func helloOf(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"underlane/tcp"}})
	go func() { _ = conn.Handshake(); client.Close() }()
	buf := make([]byte, 4096)
	n, err := server.Read(buf)
	if err != nil {
		t.Error(err)
	}
	return slices.Clone(buf[:n])
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
