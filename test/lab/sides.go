package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Side is one of two labs with the same pods, one without the mesh and one with it.
// What programs do in both can be compared.
type Side struct {
	*Lab
	Meshed bool
	Addrs  map[string][]netip.Addr // of the pods by name: IPv4, IPv6
}

func (s *Side) String() string {
	if s.Meshed {
		return "meshed"
	}
	return "bare"
}

// SidePods are the pods of a Side and their nodes: a client, and for servers one pod
// on the client's node and one on the other. They wait, and programs run in them by
// PodCommand.
var SidePods = []struct{ Name, Node string }{{"client", "node-1"}, {"near", "node-1"}, {"far", "node-2"}}

// UpSides brings up both labs. All pods of the second are enrolled.
func UpSides(t testing.TB) (bare, meshed *Side) {
	t.Helper()
	return upSide(t, false), upSide(t, true)
}

func upSide(t testing.TB, meshed bool) *Side {
	t.Helper()
	var b strings.Builder
	for _, p := range SidePods {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {underlane.io/mesh: enabled}}
spec:
  nodeName: %s
  containers:
  - {name: main, command: [labtest, wait]}
`, p.Name, p.Node)
	}
	s := &Side{Lab: Up(t, Options{NoMesh: !meshed}, b.String()), Meshed: meshed, Addrs: map[string][]netip.Addr{}}
	for _, p := range SidePods {
		pod := s.Pod(p.Name)
		s.Addrs[p.Name] = []netip.Addr{pod.IP(), pod.IP6()}
	}
	if meshed {
		for _, p := range SidePods {
			s.WaitEnrolled(time.Minute, p.Name)
		}
	}
	return s
}

// WaitEnrolled waits until the agents of the pods' nodes show them as enrolled.
func (l *Lab) WaitEnrolled(patience time.Duration, pods ...string) {
	l.t.Helper()
	for _, ref := range pods {
		pod := l.Pod(ref)
		enrolled := regexp.MustCompile(fmt.Sprintf(`(?m)^%s\s+%s\s+\S+\s+enrolled\b`, regexp.QuoteMeta(pod.Namespace), regexp.QuoteMeta(pod.Name)))
		l.Eventually(patience, func() error {
			if out := l.TryAgent(pod.Node, "status").Stdout; !enrolled.MatchString(out) {
				return fmt.Errorf("the pod %s is not enrolled yet:\n%s", ref, out)
			}
			return nil
		})
	}
}

// Carried counts the requests and connections of the side's client: by "near" and
// "far" those that the mesh carried to that pod in the mode that it should, and by
// "past" those that went past the mesh.
func (s *Side) Carried() map[string]float64 {
	s.t.Helper()
	counts := map[string]float64{}
	for line := range strings.Lines(s.NodeExec("node-1", "labtest", "get", "http://127.0.0.1:4191/metrics")) {
		name, rest, _ := strings.Cut(line, "{")
		if name != "request_total" && name != "tcp_open_total" || !strings.Contains(rest, `direction="outbound"`) {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			s.t.Fatalf("metrics of node-1: %q: %v", line, err)
		}
		switch {
		case strings.Contains(labels, `tls="agent-down"`), strings.Contains(labels, `tls="not-proxied"`):
			counts["past"] += n
		case strings.Contains(labels, `dst_pod="near"`) && strings.Contains(labels, `tls="same-node"`):
			counts["near"] += n
		case strings.Contains(labels, `dst_pod="far"`) && strings.Contains(labels, `tls="true"`):
			counts["far"] += n
		}
	}
	return counts
}
