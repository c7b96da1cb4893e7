package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var strict = annotation("underlane.io/policy", "strict")

// TestProbesOfStrictPods checks that probes of all kinds reach a strict pod, and that
// clients without an identity do not. That includes clients of a NodePort, which have
// the node's address.
func TestProbesOfStrictPods(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	kinds := map[string]string{
		"http": "httpGet: {path: /ready, port: 8080}",
		"tcp":  "tcpSocket: {port: 7000}",
		"grpc": "grpc: {port: 9090}",
		"exec": `exec: {command: [/labtest, get, "http://127.0.0.1:8080/ready"]}`,
	}
	// A refusal comes at once. A slow response on a busy machine is not a refusal.
	var manifests, names string
	for kind, probe := range kinds {
		manifests += deployment(kind, serveAll, meshed, strict, node("node-2"), container(fmt.Sprintf(`startupProbe: {%[1]s, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
livenessProbe: {%[1]s, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 3}
readinessProbe: {%[1]s, periodSeconds: 1, timeoutSeconds: 10}`, probe)))
		names += " deploy/" + kind
	}
	manifests += service("http", []string{"80:8080"}, "type: NodePort") +
		deployment("outsider", clientArgs, node("node-1")) + deployment("insider", clientArgs, meshed, node("node-1"))
	apply(t, ns, manifests)
	ready(t, ns, strings.Fields(names)...)
	ready(t, ns, "deploy/outsider", "deploy/insider")
	enrolled(t, ns, podOf(t, ns, "insider"))
	time.Sleep(10 * time.Second) // several liveness probes after all pods are enrolled
	for kind := range kinds {
		pod := podOf(t, ns, kind)
		enrolled(t, ns, pod)
		got := kubectl(t, "get", "-n", ns, pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}")
		if got != "0 true" {
			t.Errorf("%s probes: restarts and readiness %q, want \"0 true\"\n%s", kind, got, kubectl(t, "get", "events", "-n", ns, "--field-selector=type=Warning"))
		}
	}

	insider, outsider := podOf(t, ns, "insider"), podOf(t, ns, "outsider")
	reachable(t, ns, insider, "http://http/")
	port := kubectl(t, "get", "-n", ns, "svc/http", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for name, url := range map[string]string{
		"by the service":                  "http://http/",
		"by a NodePort of the pod's node": "http://" + nodeIP(t, "node-2") + ":" + port + "/",
		"by a NodePort of the other node": "http://" + nodeIP(t, "node-1") + ":" + port + "/",
	} {
		if s := requests(t, ns, outsider, url); s.Status["200"] > 0 {
			t.Errorf("client %s without an identity: got %+v, want it refused", name, s)
		}
	}
	// A pod on the host's network has the node's address, but it is not the kubelet.
	apply(t, ns, deployment("host", clientArgs, node("node-2"), podSpec("hostNetwork: true\ndnsPolicy: ClusterFirstWithHostNet")))
	ready(t, ns, "deploy/host")
	if s := requests(t, ns, podOf(t, ns, "host"), "http://http/"); s.Status["200"] > 0 {
		t.Errorf("a pod on the host's network: got %+v, want it refused", s)
	}
}

// TestPodsHaveNoWayIn checks that pods cannot use the APIs of the agents and the
// controller.
func TestPodsHaveNoWayIn(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("hostile", clientArgs, node("node-1")))
	ready(t, ns, "deploy/hostile")
	hostile := podOf(t, ns, "hostile")
	enrolled(t, ns, hostile)
	controller := "underlane-controller.underlane-system.svc"
	for name, url := range map[string]string{
		"agent's node API":          "https://" + nodeIP(t, "node-1") + ":4193/underlane.agent.v1.Node/Status",
		"controller's gRPC":         "https://" + controller + ":8443/underlane.control.v1.Control/Sync",
		"controller's API, nodes":   "https://" + controller + "/apis/tap.underlane.io/v1alpha1/nodes",
		"controller's API, forging": "https://" + controller + "/apis/tap.underlane.io/v1alpha1/namespaces/" + ns + "/pods/x/tap",
	} {
		s := requests(t, ns, hostile, "-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters", "-X", "GET", url)
		if s.Status["200"] > 0 {
			t.Errorf("%s: a pod got %+v, want it refused", name, s)
		}
	}
	// The pod's own token is not an agent's.
	out, err := in(t, ns, hostile, "/labtest", "get", "-H", "Content-Type: application/grpc", "--http2", "-X", "POST", "-i",
		"https://"+controller+":8443/underlane.control.v1.Control/Bootstrap")
	if err == nil && strings.Contains(strings.ToLower(out), "grpc-status: 0") {
		t.Errorf("bootstrap without an agent's token: got %s, want it refused", out)
	}
}
