package wire

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// patience bounds every wait for something to become ready.
const patience = time.Minute

// side is one of the two labs: a client on node-1 and a server on each node.
type side struct {
	lab     *lab.Lab
	meshed  bool
	addrs   map[string][]netip.Addr // of pods: IPv4, IPv6
	players map[string]*player      // in pods
}

func upSide(t *testing.T, meshed bool) *side {
	t.Helper()
	var b strings.Builder
	for _, p := range []struct{ name, node string }{{"client", "node-1"}, {"near", "node-1"}, {"far", "node-2"}} {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {underlane.io/mesh: enabled}}
spec:
  nodeName: %s
  containers:
  - {name: main, command: [labtest, wait]}
`, p.name, p.node)
	}
	s := &side{meshed: meshed, addrs: map[string][]netip.Addr{}, players: map[string]*player{}}
	s.lab = lab.Up(t, lab.Options{NoMesh: !meshed}, b.String())
	for _, name := range []string{"client", "near", "far"} {
		pod := s.lab.Pod(name)
		s.addrs[name] = []netip.Addr{pod.IP(), pod.IP6()}
		if meshed {
			s.waitEnrolled(name, pod.Node)
		}
		s.players[name] = startPlayer(t, s.lab, name)
	}
	return s
}

func (s *side) waitEnrolled(pod, node string) {
	enrolled := regexp.MustCompile(`(?m)^default\s+` + pod + `\s+\S+\s+enrolled\b`)
	s.lab.Eventually(patience, func() error {
		if out := s.lab.TryAgent(node, "status").Stdout; !enrolled.MatchString(out) {
			return fmt.Errorf("the pod %s is not enrolled yet:\n%s", pod, out)
		}
		return nil
	})
}

// way is how a client reaches a server.
type way struct {
	name, server string
	v6           bool
}

var ways = []way{
	{"same-node", "near", false},
	{"cross-node", "far", false},
	{"same-node-IPv6", "near", true},
	{"cross-node-IPv6", "far", true},
}

// scene is a scene on a side, at a port.
func (s *side) scene(w way, port int, limit time.Duration) *scene {
	family := 0
	if w.v6 {
		family = 1
	}
	return &scene{
		client: s.players["client"], server: s.players[w.server],
		addr: netip.AddrPortFrom(s.addrs[w.server][family], uint16(port)).String(), port: port, limit: limit,
	}
}

// checkCarried fails if traffic went past the mesh: then the rows say nothing.
func (s *side) checkCarried(t *testing.T) {
	var carried, past float64
	for line := range strings.Lines(s.lab.NodeExec("node-1", "labtest", "get", "http://127.0.0.1:4191/metrics")) {
		name, rest, _ := strings.Cut(line, "{")
		labels, value, _ := strings.Cut(rest, "} ")
		if name != "request_total" && name != "tcp_open_total" || !strings.Contains(labels, `direction="outbound"`) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		switch {
		case err != nil:
			t.Errorf("metrics: %q: %v", line, err)
		case strings.Contains(labels, `tls="agent-down"`), strings.Contains(labels, `tls="not-proxied"`):
			past += n
		default:
			carried += n
		}
	}
	if t.Logf("the mesh has carried %v, and %v went past it", carried, past); carried == 0 || past != 0 {
		t.Errorf("did the traffic go past the mesh? %v carried, %v not", carried, past)
	}
}
