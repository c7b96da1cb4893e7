package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/lab"
)

// hangs is what no request may take, whatever happens to agents.
const hangs = 15 * time.Second

// tlsPort is where tlsApp listens.
const tlsPort = 8443

// tlsApp runs an application in a pod that speaks TLS itself, with a
// certificate of the public kind. It takes TLS 1.2 at most if old.
func tlsApp(t *testing.T, l *lab.Lab, pod string, port int, old bool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if old {
		config.MaxVersion = tls.VersionTLS12
	} else {
		config.NextProtos = []string{"http/1.1"}
	}
	listener, err := inNetns(t, l.Pod(pod).Netns, func() (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "its own TLS") }), ReadTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(tls.NewListener(listener, config)) }()
	t.Cleanup(func() { server.Close(); <-done })
}

// service is one kind of application behind an address.
type service struct {
	name string
	port int
	use  func(l *lab.Lab, client, address string) lab.Result
	want string // in its answer
}

// services are those of serverPod, and two that speak TLS themselves.
var services = []service{
	{"HTTP/1", 8080, request(), `"proto":"HTTP/1.1"`},
	{"HTTP/2", 8080, request("--http2"), `"proto":"HTTP/2.0"`},
	{"echo", 7000, speak("who is there"), "who is there"},
	{"banner", 7001, speak(""), "220 server ready"},
	{"sink", 7002, speak("swallow this"), "12 "}, // says nothing before the end
	{"TLS", tlsPort, request("https"), "its own TLS"},
	{"TLS 1.2", tlsPort + 1, request("https"), "its own TLS"},
}

func request(args ...string) func(l *lab.Lab, client, address string) lab.Result {
	return func(l *lab.Lab, client, address string) lab.Result {
		argv, scheme := []string{"labtest", "get"}, "http"
		for _, a := range args {
			if a == "https" {
				scheme = a
			} else {
				argv = append(argv, a)
			}
		}
		return l.TryExec(client, append(argv, scheme+"://"+address+"/")...)
	}
}

func speak(text string) func(l *lab.Lab, client, address string) lab.Result {
	return func(l *lab.Lab, client, address string) lab.Result { return say(l, client, address, text) }
}

// useAll uses every service over IPv4 and IPv6 and wants tap to show each
// connection's tls.
func useAll(t *testing.T, l *lab.Lab, tap *tapReader, client string, pod string, tlsStatus string) {
	t.Helper()
	for _, ip := range l.Pod(pod).IPs {
		for _, s := range services {
			address := addrPort(ip, s.port)
			began := time.Now()
			r := s.use(l, client, address)
			if took := time.Since(began); r.Code != 0 || !strings.Contains(r.Stdout, s.want) || took > hangs {
				t.Errorf("%s at %s, after %s: %s", s.name, address, took, r)
				continue
			}
			tap.wait(fmt.Sprintf("%s at %s with tls=%s", s.name, address, tlsStatus), func(e event) bool {
				return e.Time.After(began) && to(e, ip, s.port) && e.TLS == tlsStatus && e.Reason == "" &&
					(tlsStatus == "true") == (e.Destination.Metadata["identity"] != "") // what nobody proved is not shown
			})
		}
	}
}

// to reports whether e is of a client's side of traffic to an address.
func to(e event, ip netip.Addr, port int) bool {
	return e.ProxyDirection == "OUTBOUND" && e.Destination.IP == ip.String() && int(e.Destination.Port) == port
}

// downLab is a lab with clients on node-1 and a server on node-2.
func downLab(t *testing.T) *lab.Lab {
	t.Helper()
	strict := clientPod("strict-client", node1)
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	strictServer := serverPod("strict-server", node2)
	strictServer.Annotations = strict.Annotations
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), strict, serverPod("server", node2), strictServer))
	waitEnrolled(t, l, "default/client", "default/strict-client", "default/server", "default/strict-server")
	for _, pod := range []string{"server", "strict-server"} {
		tlsApp(t, l, pod, tlsPort, false)
		tlsApp(t, l, pod, tlsPort+1, true)
	}
	return l
}

// TestAgentDown: where the agent of the server's node is away and its pod
// fails open, plaintext is fallen back to if both sides allow it, in the open.
// With the agent, mTLS comes back.
func TestAgentDown(t *testing.T) {
	l := downLab(t)
	tap := startTap(t, l, node1)
	useAll(t, l, tap, "client", "server", "true")
	before := agentStatus(t, l, node1).PlaintextFallbacks
	l.KillAgent(node2)
	useAll(t, l, tap, "client", "server", "agent-down")
	counted := metric(metrics(t, l, node1), "underlane_plaintext_fallback_total")
	if n := float64(2 * len(services)); counted < float64(before)+n {
		t.Errorf("%v plaintext fallbacks were counted, %v were before, want %v more", counted, before, n)
	}
	t.Run("strict", func(t *testing.T) { strictRefusesPlaintext(t, l, tap) })

	l.StartAgent(node2)
	waitEnrolled(t, l, "default/server")
	l.Eventually(patience, func() error { // that the agent was away is remembered for some seconds
		began := time.Now()
		l.Exec("client", "labtest", "get", "http://"+addrPort(l.Pod("server").IP(), 8080)+"/")
		if e := tap.wait("a request", func(e event) bool { return e.Time.After(began) && e.RequestInitEvent != nil }); e.TLS != "true" {
			return fmt.Errorf("tls=%s", e.TLS)
		}
		return nil
	})
	time.Sleep(6 * time.Second) // as it is of each address
	useAll(t, l, tap, "client", "server", "true")
}

// strictRefusesPlaintext: with strict on either side nothing is sent to a
// server without its agent.
func strictRefusesPlaintext(t *testing.T, l *lab.Lab, tap *tapReader) {
	const marker = "never-in-plaintext-jvkx"
	stop := capture(t, nodeNetns(t, l, node1), uplink)
	for client, server := range map[string]string{"client": "strict-server", "strict-client": "server"} {
		for _, ip := range l.Pod(server).IPs {
			began := time.Now()
			out := l.Exec(client, "labtest", "get", "-i", "-H", "X-Marker: "+marker, "http://"+addrPort(ip, 8080)+"/"+marker)
			if !strings.HasPrefix(out, "HTTP/1.1 502") || !strings.Contains(out, "Underlane-Reason: agent-down") {
				t.Errorf("%s to %s: %s", client, server, out)
			}
			for _, port := range []int{7000, 7001, 7002} {
				if r := say(l, client, addrPort(ip, port), marker); r.Code == 0 || r.Stdout != "" {
					t.Errorf("%s to %s: %s", client, server, r)
				}
			}
			if r := l.TryExec(client, "labtest", "get", "https://"+addrPort(ip, tlsPort)+"/"); r.Code == 0 {
				t.Errorf("%s to %s: %s", client, server, r)
			}
			if took := time.Since(began); took > 5*hangs {
				t.Errorf("%s to %s: the refusals took %s", client, server, took)
			}
			for _, port := range []int{8080, 7000, 7001, 7002, tlsPort} {
				e := tap.wait(fmt.Sprintf("the refusal at port %d", port), func(e event) bool {
					return e.Time.After(began) && to(e, ip, port) && e.Reason != ""
				})
				if e.Reason != "agent-down" {
					t.Error(e)
				}
			}
		}
	}
	words := wire.NewWords(marker, "/"+marker)
	for _, s := range stop() {
		if words.In(s.Payload) != "" {
			t.Errorf("plaintext from %s to %s", s.From, s.To)
		}
	}
}

// TestAgentHangs: the agent of the server's node is stopped under traffic of
// new and of kept connections. No request takes longer than it may; what was
// under way may fail, what comes after does not.
func TestAgentHangs(t *testing.T) {
	l := downLab(t)
	tap := startTap(t, l, node1)
	ip := l.Pod("server").IP()
	url := "http://" + addrPort(ip, 8080) + "/"
	const workers = 3
	var traffic []*background
	for _, args := range [][]string{{"--fresh"}, {}, {"--http2"}} {
		argv := append([]string{"labtest", "get", "--summary", "-n", "0", "--duration", "25s", "--interval", "50ms", "--timeout", hangs.String(), "-c", fmt.Sprint(workers)}, args...)
		traffic = append(traffic, inPod(t, l, "client", append(argv, url)...))
	}
	tap.wait("traffic", func(e event) bool { return e.ResponseEndEvent != nil && e.TLS == "true" })
	time.Sleep(time.Second) // let pools fill
	l.SignalAgent(node2, "STOP")
	t.Cleanup(func() { _ = lab.Run(l.Command("kill-agent", node2, "--signal", "CONT")) })
	stopped := time.Now()
	tap.wait("plaintext in place of the hung agent", func(e event) bool {
		return e.Time.After(stopped) && e.ResponseEndEvent != nil && e.TLS == "agent-down" && e.ResponseEndEvent.HTTPStatus == 200
	})
	t.Logf("plaintext after %s", time.Since(stopped))
	for i, b := range traffic {
		s := summary(t, b)
		t.Logf("traffic %d: %+v", i, s)
		if s.Failed > 0 || s.Status[200] < 100 {
			t.Errorf("traffic %d: requests hung or had no answer: %+v", i, s)
		}
		if cut := s.Requests - s.Status[200]; cut > 4*workers {
			t.Errorf("traffic %d: %d requests were not answered by the server: %+v", i, cut, s)
		}
	}
	l.SignalAgent(node2, "CONT")
	l.Eventually(patience, func() error {
		began := time.Now()
		l.Exec("client", "labtest", "get", url)
		if e := tap.wait("a request", func(e event) bool { return e.Time.After(began) && e.RequestInitEvent != nil }); e.TLS != "true" {
			return fmt.Errorf("tls=%s", e.TLS)
		}
		return nil
	})
}

// TestSlowIsNotHung: that a slow application's agent is asked whether it lives
// troubles neither the application nor who watches.
func TestSlowIsNotHung(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/server")
	ip := l.Pod("server").IP()
	here, there := startTap(t, l, node1), startTap(t, l, node2)
	hold := inPod(t, l, "client", "labtest", "hold", "--interval", "7s", addrPort(ip, 7000)) // silent between two rounds
	hold.line()
	for _, version := range []string{"--http2=false", "--http2=true"} {
		out := l.Exec("client", "labtest", "get", "-i", version, "http://"+addrPort(ip, 8080)+"/delay/7s") // asked after 2 s and 6 s
		if !strings.Contains(out, " 200 OK\n") {
			t.Errorf("%s: %s", version, out)
		}
	}
	hold.end()
	for _, tap := range []*tapReader{here, there} {
		for _, protocol := range []string{"http1", "http2"} {
			tap.wait("the request by "+protocol, func(e event) bool { return e.ResponseEndEvent != nil && e.Protocol == protocol })
		}
		tap.wait("the end of the held connection", func(e event) bool { return e.ConnCloseEvent != nil && e.Destination.Port == 7000 })
		for _, e := range tap.all(func(e event) bool { return e.Destination.IP == ip.String() }) {
			if e.Reason != "" || e.TLS != "true" || e.ConnOpenEvent != nil && e.Destination.Port != 7000 {
				t.Errorf("%s: %s", tap.node, e)
			}
		}
	}
	if log := l.Logs(node1); strings.Contains(log, "hangs") {
		t.Error(log)
	}
}
