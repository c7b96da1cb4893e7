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

	"golang.org/x/sys/unix"

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
	{"banner", 7001, speak(""), "server ready, client "},
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

// Annotations of the pods of downLab.
var (
	strictPolicy = map[string]string{"underlane.io/policy": "strict"}
	fallsBack    = map[string]string{"underlane.io/plaintext-fallback": "allowed"}
)

// downLab is a lab with clients on node-1 and servers on node-2: of each kind one
// that has no settings, one that is strict, and one that may fall back to
// plaintext.
func downLab(t *testing.T) *lab.Lab {
	t.Helper()
	var pods []podSpec
	var names []string
	for prefix, annotations := range map[string]map[string]string{"": nil, "strict-": strictPolicy, "lenient-": fallsBack} {
		client, server := clientPod(prefix+"client", node1), serverPod(prefix+"server", node2)
		client.Annotations, server.Annotations = annotations, annotations
		pods = append(pods, client, server)
		names = append(names, "default/"+client.Name, "default/"+server.Name)
	}
	l := lab.Up(t, lab.Options{}, manifests(pods...))
	waitEnrolled(t, l, names...)
	for _, pod := range []string{"server", "strict-server", "lenient-server"} {
		tlsApp(t, l, pod, tlsPort, false)
		tlsApp(t, l, pod, tlsPort+1, true)
	}
	return l
}

// TestAgentDown: where the agent of the server's node is away and its pod
// fails open, the application answers the client's agent. It is sent nothing,
// but where both pods were told that plaintext will do: then that is used, in the
// open. With the agent, mTLS comes back.
func TestAgentDown(t *testing.T) {
	t.Parallel()
	l := downLab(t)
	tap := startTap(t, l, node1)
	useAll(t, l, tap, "client", "server", "true")
	useAll(t, l, tap, "lenient-client", "lenient-server", "true")
	before := agentStatus(t, l, node1).PlaintextFallbacks
	l.KillAgent(node2)
	useAll(t, l, tap, "lenient-client", "lenient-server", "agent-down")
	counted := metric(metrics(t, l, node1), "underlane_plaintext_fallback_total")
	if n := float64(2 * len(services)); counted < float64(before)+n {
		t.Errorf("%v plaintext fallbacks were counted, %v were before, want %v more", counted, before, n)
	}
	t.Run("others", func(t *testing.T) { nothingInPlaintext(t, l, tap) })
	t.Run("the controller starts anew", func(t *testing.T) {
		l.KillController()
		l.StartController()
		l.Eventually(patience, func() error { // the client's agent has its word
			if s := agentStatus(t, l, node1); !s.Ready {
				return fmt.Errorf("%v", s.NotReady)
			}
			return nil
		})
		l.Apply(manifests(clientPod("late-client", node1))) // that it comes in shows that the controller is heard
		waitEnrolled(t, l, "default/late-client")
		out := l.Exec("late-client", "labtest", "get", "-i", "http://"+addrPort(l.Pod("server").IP(), 8080)+"/")
		if !strings.HasPrefix(out, "HTTP/1.1 502") || !strings.Contains(out, "Underlane-Reason: agent-down") {
			t.Error(out)
		}
	})
	if now := metric(metrics(t, l, node1), "underlane_plaintext_fallback_total"); now != counted {
		t.Errorf("%v plaintext fallbacks were counted, %v before others were refused", now, counted)
	}

	l.StartAgent(node2)
	waitEnrolled(t, l, "default/server", "default/lenient-server")
	for _, who := range []string{"", "lenient-"} {
		l.Eventually(patience, func() error { // that the agent was away is remembered for some seconds
			began := time.Now()
			l.Exec(who+"client", "labtest", "get", "http://"+addrPort(l.Pod(who+"server").IP(), 8080)+"/")
			if e := tap.wait("a request", func(e event) bool { return e.Time.After(began) && e.RequestInitEvent != nil }); e.TLS != "true" {
				return fmt.Errorf("tls=%s", e.TLS)
			}
			return nil
		})
	}
	time.Sleep(6 * time.Second) // as it is of each address
	useAll(t, l, tap, "client", "server", "true")
	useAll(t, l, tap, "lenient-client", "lenient-server", "true")
}

// nothingInPlaintext: unless both were told that plaintext will do, nothing is sent
// to a server without its agent.
func nothingInPlaintext(t *testing.T, l *lab.Lab, tap *tapReader) {
	const marker = "never-in-plaintext-jvkx"
	stop := capture(t, nodeNetns(t, l, node1), uplink)
	for _, pair := range [][2]string{
		{"client", "server"},
		{"client", "strict-server"},
		{"strict-client", "server"},
		{"client", "lenient-server"},
		{"lenient-client", "server"},
	} {
		client, server := pair[0], pair[1]
		for _, ip := range l.Pod(server).IPs {
			if ip.Is6() && server != "server" {
				continue // one that says nothing takes its seconds each time
			}
			began := time.Now()
			for _, version := range []string{"--http2=false", "--http2=true"} {
				out := l.Exec(client, "labtest", "get", "-i", version, "-H", "X-Marker: "+marker, "http://"+addrPort(ip, 8080)+"/"+marker)
				if !strings.Contains(out, " 502") || !strings.Contains(out, "Underlane-Reason: agent-down") {
					t.Errorf("%s to %s: %s", client, server, out)
				}
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

// TestNeverEnrolled: a pod that is labelled while its node has no agent is reached
// in plaintext, as it was before it was labelled; once it is enrolled, never
// again.
func TestNeverEnrolled(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("first", node2)))
	waitEnrolled(t, l, "default/client", "default/first")
	l.KillAgent(node2)
	l.Apply(manifests(serverPod("late", node2)))
	url := "http://" + addrPort(l.Pod("late").IP(), 8080) + "/"
	tap := startTap(t, l, node1)
	status := func() string {
		t.Helper()
		began := time.Now()
		l.Exec("client", "labtest", "get", "-i", url)
		return tap.wait("the end of a request", func(e event) bool {
			return e.Time.After(began) && e.ResponseEndEvent != nil && to(e, l.Pod("late").IP(), 8080)
		}).TLS
	}
	l.Eventually(patience, func() error { // its program starts, too
		if r := l.TryExec("client", "labtest", "get", "-i", url); !strings.Contains(r.Stdout, "200 OK") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if got := status(); got != "agent-down" {
		t.Errorf("tls=%s before it was enrolled", got)
	}
	l.StartAgent(node2)
	waitEnrolled(t, l, "default/late")
	l.Eventually(patience, func() error {
		if got := status(); got != "true" {
			return fmt.Errorf("tls=%s", got)
		}
		return nil
	})
	l.KillAgent(node2)
	if out := l.Exec("client", "labtest", "get", "-i", url); !strings.Contains(out, "Underlane-Reason: agent-down") {
		t.Errorf("after it was enrolled: %s", out)
	}
}

// TestAgentHangs: the agent of the server's node is stopped under traffic of
// new and of kept connections. No request takes longer than it may; what was
// under way may fail, what comes after does not where plaintext will do, and is
// refused otherwise.
func TestAgentHangs(t *testing.T) {
	l := downLab(t)
	tap := startTap(t, l, node1)
	const workers = 3
	type flow struct {
		who, args string
		*background
	}
	var traffic []flow
	url := func(who string) string { return "http://" + addrPort(l.Pod(who+"server").IP(), 8080) + "/" }
	for _, who := range []string{"lenient-", ""} {
		for _, args := range []string{"--fresh", "--http2=false", "--http2"} {
			argv := []string{"labtest", "get", "--summary", "-n", "0", "--duration", "2m", "--interval", "50ms", "--timeout", hangs.String(), "-c", fmt.Sprint(workers), args}
			traffic = append(traffic, flow{who, args, inPod(t, l, who+"client", append(argv, url(who))...)})
		}
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
	tap.wait("a refusal in place of the hung agent", func(e event) bool {
		return e.Time.After(stopped) && e.ResponseEndEvent != nil && e.Reason == "agent-down" && e.Source.Metadata["pod"] == "client"
	})
	t.Logf("refused after %s", time.Since(stopped))
	time.Sleep(4 * time.Second) // dozens of requests of each kind
	for _, f := range traffic {
		_ = f.cmd.Process.Signal(unix.SIGTERM) // what is under way ends, or fails at its time-out
	}
	for _, f := range traffic {
		s := summary(t, f.background)
		name := f.who + "client " + f.args
		t.Logf("%s: %+v", name, s)
		failed := s.Failed
		for why, n := range s.Errors {
			if strings.HasPrefix(why, "body: ") && n <= workers {
				failed -= n // its response had begun when the agent stopped
			}
		}
		if failed > 0 {
			t.Errorf("%s: requests hung or had no answer: %+v", name, s)
		}
		switch {
		case f.who == "" && (s.Status[502] < 20 || s.Status[200]+s.Status[502]+4*workers < s.Requests):
			t.Errorf("%s: was not refused for want of an agent: %+v", name, s)
		case f.who != "" && (s.Status[200] < 100 || s.Requests-s.Status[200] > 4*workers):
			t.Errorf("%s: requests were not answered by the server: %+v", name, s)
		}
	}
	for _, e := range tap.all(func(e event) bool { return e.TLS == "agent-down" }) {
		if e.Source.Metadata["pod"] != "lenient-client" {
			t.Errorf("plaintext: %s", e)
		}
	}
	l.SignalAgent(node2, "CONT")
	for _, who := range []string{"lenient-", ""} {
		l.Eventually(patience, func() error {
			began := time.Now()
			l.Exec(who+"client", "labtest", "get", url(who))
			if e := tap.wait("a request", func(e event) bool { return e.Time.After(began) && e.RequestInitEvent != nil }); e.TLS != "true" {
				return fmt.Errorf("tls=%s", e.TLS)
			}
			return nil
		})
	}
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
		// A client that is slow to begin, on a busy machine, has a connection made ahead, which
		// may be given up before its handshake. Nothing passes then.
		givenUp := map[uint16]bool{} // by the port of the client's agent
		for _, open := range tap.all(func(e event) bool {
			return e.ConnOpenEvent != nil && e.Destination.IP == ip.String() && e.Destination.Port == 8080 && e.TLS == "no-identity"
		}) {
			end := tap.wait("the end of a connection that was given up", func(e event) bool {
				return e.ConnCloseEvent != nil && e.Source.Port == open.Source.Port && e.Destination.Port == 8080
			})
			givenUp[open.Source.Port] = end.ConnCloseEvent.SentBytes+end.ConnCloseEvent.ReceivedBytes == 0
		}
		for _, e := range tap.all(func(e event) bool { return e.Destination.IP == ip.String() }) {
			if givenUp[e.Source.Port] && (e.ConnOpenEvent != nil || e.ConnCloseEvent != nil) {
				continue
			}
			if e.Reason != "" || e.TLS != "true" || e.ConnOpenEvent != nil && e.Destination.Port != 7000 {
				t.Errorf("%s: %s", tap.node, e)
			}
		}
	}
	if log := l.Logs(node1); strings.Contains(log, "hangs") {
		t.Error(log)
	}
}
