package hostile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/bombs"
	"github.com/underlane/underlane/test/lab"
)

// Pods. The agent of node-2 is under attack, and for attacks of a pod of the mesh that
// of node-1, too: both carry the quiet client's requests to the server.
//
//	node-1: quiet, outsider (no label), insider
//	node-2: near (a quiet client beside the server), server, target, vault (strict)
var stagePods = []struct {
	name, node string
	serves     bool
	outside    bool
	strict     bool
}{
	{name: "quiet", node: "node-1"},
	{name: "insider", node: "node-1"},
	{name: "outsider", node: "node-1", outside: true},
	{name: "near", node: "node-2"},
	{name: "server", node: "node-2", serves: true},
	{name: "target", node: "node-2", serves: true},
	{name: "vault", node: "node-2", serves: true, strict: true},
}

// stage is a lab with the pods of the attacks.
type stage struct {
	*lab.Lab
	meshed bool
	addrs  map[string]netip.Addr // of the pods
	nodes  map[string]netip.Addr
	certs  map[string]*wireCert // of attackers, by name
	front  *front               // a shared proxy before the servers, in a lab without the mesh

	fellBack uint64 // plaintext fallbacks that were counted
}

func newStage(t *testing.T, meshed bool) *stage {
	t.Helper()
	var b strings.Builder
	for _, p := range stagePods {
		label, annotation, command := "enabled", "", "wait"
		if p.outside {
			label = "disabled"
		}
		if p.strict {
			annotation = ", annotations: {underlane.io/policy: strict}"
		}
		if p.serves {
			command = `all], ports: [{containerPort: 8080}, {containerPort: 7000}`
		}
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {underlane.io/mesh: %s}%s}
spec:
  nodeName: %s
  containers:
  - {name: main, command: [labtest, %s]}
`, p.name, label, annotation, p.node, command)
	}
	s := &stage{
		Lab: lab.Up(t, lab.Options{NoMesh: !meshed}, b.String()), meshed: meshed,
		addrs: map[string]netip.Addr{}, nodes: map[string]netip.Addr{}, certs: map[string]*wireCert{},
	}
	state := s.State()
	for _, p := range state.Pods {
		s.addrs[p.Name] = p.IP()
	}
	for _, n := range state.Nodes {
		s.nodes[n.Name] = n.Addrs[0]
	}
	if meshed {
		for _, p := range stagePods {
			if !p.outside {
				s.WaitEnrolled(time.Minute, p.name)
			}
		}
	}
	return s
}

const trustDomain = "cluster.local"

// cert returns an attacker's certificate. That of a peer is signed by the lab's CA for the
// identity of all pods: the attacker is an agent that was taken over.
func (s *stage) cert(t *testing.T, name string) *wireCert {
	t.Helper()
	if name == "" || !s.meshed && s.front == nil && name == "peer" {
		return nil
	}
	if c := s.certs[name]; c != nil {
		return c
	}
	id := mesh.Identity{TrustDomain: trustDomain, Namespace: "default", ServiceAccount: "default"}
	var c tls.Certificate
	switch name {
	case "bomb":
		curve := elliptic.P521()
		if s.front != nil {
			curve = s.front.peer.Curve
		}
		c = bombs.Chain(t, id.String(), curve, 99, true)
	case "bad":
		c = bombs.Chain(t, id.String(), elliptic.P256(), 1, false)
	case "peer":
		if s.front != nil {
			c = s.front.clientCert(t)
		} else {
			c = s.signed(t, id)
		}
	default:
		t.Fatalf("there is no certificate %q", name)
	}
	s.certs[name] = encodeCert(t, c)
	return s.certs[name]
}

func (s *stage) signed(t *testing.T, id mesh.Identity) tls.Certificate {
	t.Helper()
	authority, err := ca.Open(filepath.Join("/run", s.Name(), "controller", "ca"), trustDomain)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := authority.SignWorkload(csr, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}
}

func (s *stage) addr(pod string, port int) string {
	if s.front != nil {
		return s.front.at[pod].String()
	}
	return netip.AddrPortFrom(s.addrs[pod], uint16(port)).String()
}

// place is the address of an attack's target: "pod:PORT", "node-2:PORT" or
// "controller:PORT", or the name of a shared proxy's port.
func (s *stage) place(t *testing.T, to string) string {
	t.Helper()
	if s.front != nil && s.front.at[to].IsValid() {
		return s.front.at[to].String()
	}
	name, port, _ := strings.Cut(to, ":")
	switch {
	case name == "controller":
		return "192.168.77.254:" + port
	case s.nodes[name].IsValid():
		return s.nodes[name].String() + ":" + port
	case s.addrs[name].IsValid():
		return s.addrs[name].String() + ":" + port
	}
	t.Fatalf("there is no %q", to)
	return ""
}

// processes are those of the mesh, or of the shared proxy, by name.
func (s *stage) processes() map[string][]int {
	if s.front != nil {
		return map[string][]int{"node-2": s.front.pids()}
	}
	if !s.meshed {
		return nil
	}
	state := s.State()
	pids := map[string][]int{"controller": {state.Controller.Pid}}
	for _, n := range state.Nodes {
		pids[n.Name] = []int{n.Agent.Pid}
	}
	return pids
}
