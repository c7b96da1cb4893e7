package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// patience bounds every wait. It is long because the machine may be slow.
const patience = time.Minute

// upPods brings up a lab with a client on node-1 and with servers, which run argv,
// on node-1 ("near") and node-2 ("far"). All are in the mesh.
func upPods(t *testing.T, port int, argv ...string) *lab.Lab {
	t.Helper()
	var b strings.Builder
	ports := fmt.Sprintf("[{containerPort: %d}]", port)
	for _, p := range []struct {
		name, node string
		argv       []string
		ports      string
	}{
		{"client", "node-1", []string{"labtest", "wait"}, "[]"},
		{"near", "node-1", argv, ports},
		{"far", "node-2", argv, ports},
	} {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {underlane.io/mesh: enabled}}
spec:
  nodeName: %s
  containers:
  - {name: main, command: ["%s"], ports: %s}
`, p.name, p.node, strings.Join(p.argv, `", "`), p.ports)
	}
	l := lab.Up(t, lab.Options{}, b.String())
	l.WaitEnrolled(patience, "client", "near", "far")
	return l
}

// paths has the two cases of a request: to a pod on another node and on the same
// node.
var paths = []struct{ name, server string }{
	{"cross-node", "far"},
	{"same-node", "near"},
}

// throughMesh fails the test if the traffic to a server did not go through the
// agents as it should. The other results would then say nothing about the agents.
func throughMesh(t *testing.T, l *lab.Lab, server string) {
	t.Helper()
	want := map[string]string{"far": `tls="true"`, "near": `tls="same-node"`}[server]
	metrics := l.NodeExec("node-1", "labtest", "get", "http://127.0.0.1:4191/metrics")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "request_total{") && strings.Contains(line, want) && strings.Contains(line, `dst_pod="`+server+`"`) {
			return
		}
	}
	t.Errorf("no request to %s with %s was counted, want some: did the traffic bypass the mesh?", server, want)
}
