package programs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// edge is what is behind the ingresses: two versions of the Service web, of which one gets
// a tenth of the requests. The pods take mTLS only. The program of an ingress runs in the
// pod gate, and for comparison in plain, whose requests may not name a Service.
const edge = `
apiVersion: v1
kind: Pod
metadata: {name: gate, labels: {underlane.io/mesh: enabled}, annotations: {underlane.io/ingress: enabled}}
spec: {nodeName: node-1, containers: [{name: main, command: [labtest, wait]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, labels: {underlane.io/mesh: enabled}}
spec: {nodeName: node-1, containers: [{name: main, command: [labtest, wait]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {underlane.io/mesh: enabled, app: web, version: v1}, annotations: {underlane.io/policy: strict}}
spec: {nodeName: node-2, containers: [{name: main, command: [labtest, wait]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {underlane.io/mesh: enabled, app: web, version: v2}, annotations: {underlane.io/policy: strict}}
spec: {nodeName: node-1, containers: [{name: main, command: [labtest, wait]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: outside}
spec: {nodeName: node-2, containers: [{name: main, command: [labtest, wait]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-1}
spec: {selector: {version: v1}, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-2}
spec: {selector: {version: v2}, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 9000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules: [{backendRefs: [{name: web-1, port: 80, weight: 90}, {name: web-2, port: 80, weight: 10}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 9000}]
  rules: [{backendRefs: [{name: web-1, port: 9000, weight: 90}, {name: web-2, port: 9000, weight: 10}]}]
`

// edgeSide is one of the two labs of TestIngress.
type edgeSide struct {
	*side
	t    *testing.T
	base []string // variables of the scripts
	dir  string
	tap  *tapLines // of node-1; nil without the mesh
	ip   map[string]netip.Addr
}

func upEdge(t *testing.T, meshed bool, base []string, dir string) *edgeSide {
	t.Helper()
	l := lab.Up(t, lab.Options{NoMesh: !meshed}, edge)
	e := &edgeSide{side: &side{Side: &lab.Side{Lab: l, Meshed: meshed}, listeners: map[string]*host.Listeners{}}, t: t, base: base, ip: map[string]netip.Addr{}}
	e.dir = emptyDir(t, dir, e.String())
	lay, err := layout.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"gate", "plain", "web-1", "web-2", "outside"} {
		e.ip[pod] = l.Pod(pod).IP()
		listeners, err := host.OpenListeners(lay.PodNetns("default", pod))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(listeners.Close)
		e.listeners[pod] = listeners
		if meshed && pod != "outside" {
			l.WaitEnrolled(patience, pod)
		}
	}
	e.base = append(e.base, "ADDR1="+e.ip["web-1"].String(), "ADDR2="+e.ip["web-2"].String())
	e.run("web-1", "app", "grpctest app v1", 8080, 9000)
	e.run("web-2", "app", "grpctest app v2", 8080, 9000)
	if meshed {
		e.tap = readTap(t, l, "node-1")
	}
	return e
}

// run runs a server in a pod until the test ends.
func (e *edgeSide) run(pod, name, start string, ports ...uint16) {
	e.t.Helper()
	own := emptyDir(e.t, e.dir, pod+"-"+name)
	logs := emptyDir(e.t, e.dir, pod+"-"+name+"-log")
	srv, err := startServer(e.side, &row{server: start, ports: ports}, pod, append(slices.Clone(e.base), "OWN="+own), logs)
	if srv != nil {
		e.t.Cleanup(func() {
			srv.stop()
			if e.t.Failed() {
				e.t.Logf("%s: the log of %s in %s:\n%s", e, name, pod, srv.tail())
			}
		})
	}
	if err != nil {
		e.t.Fatalf("%s: start %s in %s: %v", e, name, pod, err)
	}
}

// answers is what grpctest ask prints.
type answers struct {
	Names map[string]int
	First struct {
		Name, Proto, Host, ForwardedFor string
		Override                        []string
	}
}

// ask has a client outside the mesh make requests to a port of a pod.
func (e *edgeSide) ask(t *testing.T, pod string, port uint16, kind string, n int, more ...string) answers {
	t.Helper()
	args := append([]string{"grpctest", "ask", "-kind", kind, "-n", strconv.Itoa(n)}, more...)
	args = append(args, netip.AddrPortFrom(e.ip[pod], port).String())
	cmd := script(e.PodCommand("outside", args...), e.base...)
	o, err := runClient(cmd, 2*patience)
	var a answers
	if err == nil && o.code == 0 {
		err = json.Unmarshal([]byte(o.output), &a)
	}
	if err != nil || o.code != 0 {
		t.Fatalf("%s: %s to port %d of %s: %v: %s", e, kind, port, pod, err, o)
	}
	return a
}

// The number of requests of a split, and how many of them version 2 gets. With the routes
// 30 are expected: fewer than 5 or more than 61 come once in 100 million runs. Without routes
// the ingress takes the pods in turn.
const (
	splitOf   = 300
	routedMin = 5
	routedMax = 61
	inTurn    = 100

	outsideHost  = "shop.example"
	balanced     = "192.0.2.77" // the client that a PROXY header names
	serviceHost  = "web.default.svc.cluster.local"
	overrideKept = serviceHost + ":80"
)

func checkSplit(t *testing.T, e *edgeSide, names map[string]int, routed bool) {
	t.Helper()
	v2, sum := names["v2"], names["v1"]+names["v2"]
	switch {
	case sum != splitOf:
		t.Errorf("%s: %v, want %d answers", e, names, splitOf)
	case routed && (v2 < routedMin || v2 > routedMax):
		t.Errorf("%s: %v, want a tenth of v2", e, names)
	case !routed && (v2 < inTurn || sum-v2 < inTurn):
		t.Errorf("%s: %v, want both alike", e, names)
	}
}

// TestIngress: the programs of ingress controllers, in a pod of the mesh, send what comes
// from outside by the routes of the Service that each request names, over mTLS, and the
// application sees the client's address.
func TestIngress(t *testing.T) {
	dir, err := os.MkdirTemp("", "uli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	emptyDir(t, dir)
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	shared := emptyDir(t, dir, "shared")
	base := []string{"DATA=" + data, "SHARED=" + shared}
	if o, err := runClient(script(exec.Command("sh", "-euc", certificate), base...), patience); err != nil || o.code != 0 {
		t.Fatalf("make a certificate: %v: %s", err, o)
	}
	sides := []*edgeSide{upEdge(t, false, base, dir), upEdge(t, true, base, dir)}
	for i := range ingresses {
		in := &ingresses[i]
		if in.full && os.Getenv(fullVariable) == "" {
			continue
		}
		for _, e := range sides {
			e.run("gate", in.name, in.start, in.ports...)
		}
		t.Run(in.name, func(t *testing.T) {
			for _, e := range sides {
				t.Run(e.String(), func(t *testing.T) {
					t.Parallel() // most of the time is waiting
					testIngress(t, e, in)
				})
			}
		})
	}
	in := &ingresses[0]
	for _, e := range sides {
		e.run("plain", in.name, in.start, in.ports...)
	}
	t.Run("without the annotation", func(t *testing.T) {
		for _, e := range sides {
			a := e.ask(t, "plain", in.web, "http1", splitOf)
			checkSplit(t, e, a.Names, false)
			if !slices.Equal(a.First.Override, []string{overrideKept}) {
				t.Errorf("%s: the field arrives as %q, want it as it was", e, a.First.Override)
			}
			if e.Meshed {
				e.tap.wait(t, "mTLS from a pod that dials pods", func() {
					e.ask(t, "plain", in.web, "http1", 4)
				}, func(l tapLine) bool {
					return l.is("OUTBOUND", "plain", "web-1") && l.TLS == "true" && l.Protocol == "http1"
				})
			}
		}
	})
}

func testIngress(t *testing.T, e *edgeSide, in *ingress) {
	outside := e.ip["outside"].String()
	want := outsideHost
	if in.rehost {
		want = serviceHost
	}
	check := func(kind string, a answers, host, client string) {
		t.Helper()
		if a.First.Host != host || a.First.ForwardedFor != client {
			t.Errorf("%s, %s: the application sees Host %q and X-Forwarded-For %q, want %q and %q", e, kind, a.First.Host, a.First.ForwardedFor, host, client)
		}
		if e.Meshed && len(a.First.Override) > 0 {
			t.Errorf("%s, %s: the application gets the field %q", e, kind, a.First.Override)
		}
	}
	a := e.ask(t, "gate", in.web, "http1", splitOf)
	check("http1", a, want, outside)
	checkSplit(t, e, a.Names, e.Meshed)
	e.ask(t, "gate", in.web, "websocket", 1)
	check("tls", e.ask(t, "gate", in.tls, "tls", 4), want, outside)
	if in.http2 {
		check("http2", e.ask(t, "gate", in.web, "http2", 4), want, outside)
	}
	if in.named != 0 {
		a := e.ask(t, "gate", in.named, "http1", splitOf)
		check("by authority", a, serviceHost, outside)
		checkSplit(t, e, a.Names, e.Meshed)
	}
	if in.balanced != 0 {
		for _, kind := range []string{"proxy1", "proxy2"} {
			check(kind, e.ask(t, "gate", in.balanced, kind, 4), want, balanced)
		}
	}
	if in.balancedTLS != 0 {
		check("TLS behind a PROXY header", e.ask(t, "gate", in.balancedTLS, "proxytls", 4), want, balanced)
	}
	checkSplit(t, e, e.ask(t, "gate", in.calls, "grpc", splitOf).Names, e.Meshed)
	if !e.Meshed {
		return
	}
	e.tap.wait(t, "mTLS to the pod of the other node", func() { e.ask(t, "gate", in.web, "http1", 4) }, func(l tapLine) bool {
		return l.is("OUTBOUND", "gate", "web-1") && l.TLS == "true" && l.Protocol == "http1"
	})
	if in.balancedTLS != 0 {
		e.tap.wait(t, "the name in the TLS behind a PROXY header", func() { e.ask(t, "gate", in.balancedTLS, "proxytls", 1) }, func(l tapLine) bool {
			return l.is("INBOUND", "outside", "gate") && l.SNI == outsideHost && l.Protocol == "tcp" && l.Destination.Port == in.balancedTLS
		})
	}
	e.tap.wait(t, "the name in the TLS from outside", func() { e.ask(t, "gate", in.tls, "tls", 1) }, func(l tapLine) bool {
		return l.is("INBOUND", "outside", "gate") && l.SNI == outsideHost && l.Protocol == "tls" && l.Destination.Port == in.tls
	})
}

// tapLine is a line of `agent tap -o json`.
type tapLine struct {
	Source, Destination struct {
		Port     uint16
		Metadata map[string]string
	}
	ProxyDirection     string
	TLS, Protocol, SNI string
}

func (l *tapLine) is(direction, source, destination string) bool {
	return l.ProxyDirection == direction && l.Source.Metadata["pod"] == source && l.Destination.Metadata["pod"] == destination
}

// tapLines are the lines that the tap of a node has printed.
type tapLines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *tapLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func readTap(t *testing.T, l *lab.Lab, node string) *tapLines {
	t.Helper()
	lines := &tapLines{}
	var failed bytes.Buffer
	cmd := script(l.AgentCommand(node, "tap", "-o", "json"))
	cmd.Stdout, cmd.Stderr = lines, &failed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		signal(cmd, 9)
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Errorf("tap: %v: %s", err, failed.String())
		}
	})
	return lines
}

// wait calls ask again and again until a line matches. Tap may have begun after the first.
func (l *tapLines) wait(t *testing.T, what string, ask func(), match func(tapLine) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		ask()
		l.mu.Lock()
		text := l.out.String()
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			var parsed tapLine
			if json.Unmarshal([]byte(line), &parsed) == nil && match(parsed) {
				return
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.out.String()
	t.Error(fmt.Sprintf("tap does not show %s; its last lines:\n", what) + text[max(0, len(text)-4000):])
}
