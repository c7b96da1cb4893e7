package hostile

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/hostile/peers"
)

// fronts are the ports of a shared proxy on node-2. The quiet clients use the first one,
// attacks the others.
var fronts = []struct {
	name, pod string
	port      uint16
	kind      peers.Kind
}{
	{"server", "server", 8080, peers.HTTP},
	{frontHTTP, "target", 8080, peers.HTTP},
	{frontHTTP2, "target", 8080, peers.HTTP2},
	{frontTLS, "target", 8080, peers.MutualTLS},
	{frontEcho, "target", 7000, peers.OpaqueTLS},
	{frontVault, "vault", 8080, peers.MutualTLS},
}

const (
	frontHTTP  = "target-http"
	frontHTTP2 = "target-http2"
	frontTLS   = "target-tls"
	frontEcho  = "target-echo"
	frontVault = "vault-tls"

	firstFrontPort = 20_001
)

// front is a shared proxy of another project that runs on node-2 of a lab without the
// mesh, where the agent would. Clients connect to its ports: what an interception would
// cost is not in its figures.
type front struct {
	peer *peers.Peer
	pki  pki.Files
	at   map[string]netip.AddrPort // its ports, by name
	cmd  *exec.Cmd
	said bytes.Buffer
}

// frontSetup says what a proxy of a lab has to do.
func frontSetup(t *testing.T, s *stage, tool string) peers.Setup {
	t.Helper()
	dir := t.TempDir()
	certs, err := pki.Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	setup := peers.Setup{Dir: dir + "/proxy", Tool: tool, PKI: certs}
	for i, f := range fronts {
		setup.Hops = append(setup.Hops, peers.Hop{
			Name: f.name, Kind: f.kind,
			Listen: netip.AddrPortFrom(s.nodes["node-2"], firstFrontPort+uint16(i)),
			Server: netip.AddrPortFrom(s.addrs[f.pod], f.port),
		})
	}
	return setup
}

// behind starts a proxy in a lab without the mesh and returns the lab as clients see it
// behind the proxy. The proxy ends with the test.
func behind(t *testing.T, bare *stage, p *peers.Peer, tool string) *stage {
	t.Helper()
	setup := frontSetup(t, bare, tool)
	argv, err := p.Argv(setup)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{peer: p, pki: setup.PKI, at: map[string]netip.AddrPort{}, cmd: bare.NodeCommand("node-2", argv...)}
	f.cmd.Stdout, f.cmd.Stderr = &f.said, &f.said
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-f.cmd.Process.Pid, syscall.SIGKILL) // with its workers
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", p.Name, f.said.String())
		}
	})
	for _, h := range setup.Hops {
		f.at[h.Name] = h.Listen
	}
	behind := *bare
	behind.front, behind.certs = f, map[string]*wireCert{}
	behind.waitServes(t, ended)
	return &behind
}

// waitServes waits until the proxy serves the quiet clients.
func (s *stage) waitServes(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r := s.TryExec("near", "labtest", "get", "http://"+s.addr("server", 8080)+"/bytes/1")
		if r.Code == 0 {
			return
		}
		select {
		case <-ended:
			t.Fatal("the proxy has ended")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the proxy does not serve: %s", r)
		}
	}
}

// pids are the proxy's processes: the one that was started and its children, in order.
func (f *front) pids() []int {
	parent := f.cmd.Process.Pid
	out := []int{parent}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent)) // none: it has ended
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, task.Name()))
		for _, text := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(text); err == nil {
				out = append(out, pid)
			}
		}
	}
	slices.Sort(out)
	return out
}

// clientCert is a certificate that the proxy accepts.
func (f *front) clientCert(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(f.pki.Cert, f.pki.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// against is an attack as it is made on a shared proxy, and whether it can be made there.
// Attacks of a pod of the mesh are those of any pod there: a proxy on the servers' node
// does not see where the mesh begins. Shared connections of HTTP/1 and the doors are the
// mesh's own.
func (a attack) against() (attack, bool) {
	if strings.HasSuffix(a.name, "-inside") || strings.HasPrefix(a.name, "peer/shared-") || strings.HasPrefix(a.name, "doors/") {
		return a, false
	}
	_, http2 := floods[a.do]
	switch {
	case a.to == vault:
		a.to = frontVault
	case a.to == echo:
		a.to, a.cert = frontEcho, "peer" // in the mesh, too, these connections are mTLS
	case a.cert != "":
		a.to = frontTLS
	case http2:
		a.to = frontHTTP2
	default:
		a.to = frontHTTP
	}
	if a.cert != "" {
		a.alpn = "http/1.1"
		if http2 {
			a.alpn = "h2"
		}
	}
	return a, true
}

// TestAgainst: an attack on a shared proxy goes to a port that it has, and speaks TLS where
// the port does.
func TestAgainst(t *testing.T) {
	kinds := map[string]peers.Kind{}
	for _, f := range fronts {
		kinds[f.name] = f.kind
	}
	n := 0
	for _, a := range attacks {
		on, can := a.against()
		if !can {
			continue
		}
		n++
		kind, is := kinds[on.to]
		if !is || on.to == "server" {
			t.Errorf("%s: got port %q, want one of %v", a.name, on.to, kinds)
		}
		if tls := kind == peers.MutualTLS || kind == peers.OpaqueTLS; on.cert != "" && !tls {
			t.Errorf("%s: got a certificate for a port in the clear, %q", a.name, on.to)
		}
		if _, http2 := floods[on.do]; http2 != (on.to == frontHTTP2 || on.alpn == "h2") {
			t.Errorf("%s: got HTTP/2 %v, want %v (port %q, ALPN %q)", a.name, !http2, http2, on.to, on.alpn)
		}
	}
	if n < 30 {
		t.Errorf("got %d attacks that can be made on a shared proxy, want 30 or more", n)
	}
}
