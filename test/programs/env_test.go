package programs

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// patience bounds every wait for something to become ready.
const patience = time.Minute

// side is one of the two labs, with a client on node-1 and a pod for servers on
// each node.
type side struct {
	name      string
	lab       *lab.Lab
	meshed    bool
	addrs     map[string][]netip.Addr // of pods: IPv4, IPv6
	listeners map[string]*host.Listeners
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
	s := &side{name: "bare", meshed: meshed, addrs: map[string][]netip.Addr{}, listeners: map[string]*host.Listeners{}}
	if meshed {
		s.name = "meshed"
	}
	s.lab = lab.Up(t, lab.Options{NoMesh: !meshed}, b.String())
	lay, err := layout.Open(s.lab.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"client", "near", "far"} {
		pod := s.lab.Pod(p)
		s.addrs[p] = []netip.Addr{pod.IP(), pod.IP6()}
		l, err := host.OpenListeners(lay.PodNetns("default", p))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		s.listeners[p] = l
		if meshed {
			s.waitEnrolled(p, pod.Node)
		}
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

func (s *side) addr(w way) netip.Addr {
	if w.v6 {
		return s.addrs[w.server][1]
	}
	return s.addrs[w.server][0]
}

// carried counts what the mesh has carried to the servers' pods, as it should,
// and what went past it.
func (s *side) carried(t *testing.T) map[string]float64 {
	t.Helper()
	counts := map[string]float64{}
	metrics := s.lab.NodeExec("node-1", "labtest", "get", "http://127.0.0.1:4191/metrics")
	for line := range strings.Lines(metrics) {
		name, rest, _ := strings.Cut(line, "{")
		if name != "request_total" && name != "tcp_open_total" || !strings.Contains(rest, `direction="outbound"`) {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			t.Fatalf("metrics: %q: %v", line, err)
		}
		for pod, tls := range map[string]string{"near": "same-node", "far": "true"} {
			switch {
			case !strings.Contains(labels, `dst_pod="`+pod+`"`):
			case strings.Contains(labels, `tls="`+tls+`"`):
				counts[pod] += n
			case strings.Contains(labels, `tls="agent-down"`), strings.Contains(labels, `tls="not-proxied"`):
				counts["past"] += n
			}
		}
	}
	return counts
}

// checkCarried fails a row whose traffic did not go through the mesh: then it says
// nothing about it. An opaque connection may be counted a moment after its end.
func (s *side) checkCarried(t *testing.T, before map[string]float64, servers []string) {
	t.Helper()
	missing := func(now map[string]float64) bool {
		return slices.ContainsFunc(servers, func(server string) bool { return now[server] == before[server] })
	}
	now := s.carried(t)
	for deadline := time.Now().Add(10 * time.Second); missing(now) && time.Now().Before(deadline); now = s.carried(t) {
		time.Sleep(50 * time.Millisecond)
	}
	if missing(now) || now["past"] != before["past"] {
		t.Errorf("did the traffic go past the mesh? carried before: %v, now: %v", before, now)
	}
}

// emptyDir is a directory that every user may use, for there are servers that do
// not run as root.
func emptyDir(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return dir
}
