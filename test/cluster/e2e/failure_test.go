package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// traffic is a client on node-1 that makes a request every 20 ms to servers on both
// nodes.
type traffic struct {
	ns, client string
	end        func() summary
}

// before and afterwards are how long traffic runs before something happens to it, and
// after that is over.
const (
	before     = 2 * time.Second
	afterwards = 5 * time.Second
)

func startTraffic(t *testing.T, options ...option) *traffic {
	t.Helper()
	tr := newTraffic(t, options...)
	tr.start(t)
	return tr
}

// newTraffic makes the pods of traffic.
func newTraffic(t *testing.T, options ...option) *traffic {
	t.Helper()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("web", httpArgs, append([]option{
		replicas(4), podSpec(`topologySpreadConstraints:
- {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}`),
		container("readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}"),
	}, options...)...)+
		service("web", []string{"80:8080"})+deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "deploy/web", "deploy/client")
	tr := &traffic{ns: ns, client: podOf(t, ns, "client")}
	enrolled(t, ns, tr.client)
	enrolled(t, ns, tr.servers(t)...)
	endpoints(t, ns, "web", 4)
	reachableByAll(t, ns, tr.client, "http://web/")
	return tr
}

func (tr *traffic) start(t *testing.T) {
	t.Helper()
	tr.end = requestsUntil(t, tr.ns, tr.client, "--interval", "20ms", "--timeout", "8s", "http://web/")
	time.Sleep(before)
}

// servers returns the servers' pods, as "pod/NAME".
func (tr *traffic) servers(t *testing.T) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "get", "pods", "-n", tr.ns, "-l", "app=web", "-o", "jsonpath={range .items[*]}pod/{.metadata.name} {end}"))
}

// check ends the traffic some time after what was to be tested, and judges it.
func (tr *traffic) check(t *testing.T, what string, mayFail int) {
	t.Helper()
	time.Sleep(afterwards)
	judge(t, what, tr.end(), mayFail)
}

func judge(t *testing.T, what string, s summary, mayFail int) {
	t.Helper()
	t.Logf("%s: %d requests, %d without answer, by status %v, errors %v", what, s.Requests, s.Failed, s.Status, s.Errors)
	bad := s.Requests - s.Status["200"]
	if bad > mayFail {
		t.Errorf("%s: %d of %d requests were not answered 200, want at most %d: %+v", what, bad, s.Requests, mayFail, s)
	}
	if s.Requests < 100 {
		t.Errorf("%s: %d requests were made, want more: traffic stalled", what, s.Requests)
	}
}

// TestControllerLoss checks that traffic continues without controllers, and that new
// pods are enrolled when one is back.
func TestControllerLoss(t *testing.T) {
	tr := startTraffic(t)
	kubectl(t, "scale", "-n", system, "deploy/underlane-controller", "--replicas=0")
	kubectl(t, "wait", "-n", system, "--for=delete", "--timeout=120s", "pod", "-l", "app.kubernetes.io/name=underlane-controller")
	time.Sleep(10 * time.Second)
	kubectl(t, "scale", "-n", system, "deploy/underlane-controller", "--replicas=2")
	ready(t, system, "deploy/underlane-controller")
	tr.check(t, "controller away for over 10 s", 0)
	apply(t, tr.ns, deployment("late", clientArgs))
	ready(t, tr.ns, "deploy/late")
	enrolled(t, tr.ns, podOf(t, tr.ns, "late"))
}

// TestAPIServerLoss checks that traffic continues without the API server for 15 s.
func TestAPIServerLoss(t *testing.T) {
	ns := newNamespace(t)
	// The client is a pod of its own, because kubectl exec goes through the API server.
	// It is on the node from which the servers were already reached, because another
	// node may be a moment behind.
	apply(t, ns, deployment("web", httpArgs, meshed, replicas(2), container("readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}"))+
		service("web", []string{"80:8080"})+deployment("first", clientArgs, meshed, node("node-1")))
	ready(t, ns, "deploy/web", "deploy/first")
	reachable(t, ns, podOf(t, ns, "first"), "http://web/")
	apply(t, ns, pod("client", []string{"get", "--summary", "--count", "0", "--duration", "25s", "--interval", "20ms", "http://web/"},
		meshed, node("node-1"), podSpec("restartPolicy: Never")))
	ready(t, ns, "pod/client")
	if _, err := try(t.Context(), "", "apiserver", "stop"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(15 * time.Second)
	if _, err := try(t.Context(), "", "apiserver", "start"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() error {
		out, err := tryKubectl(t, "get", "-n", ns, "pod/client", "-o", "jsonpath={.status.phase}")
		if err == nil && out != "Succeeded" {
			err = fmt.Errorf("client: %s", out)
		}
		return err
	})
	s, err := summarise(kubectl(t, "logs", "-n", ns, "pod/client"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("API server away for 15 s: %d requests, %d failed, %v", s.Requests, s.Failed, s.Status)
	if s.Failed > 0 || s.Status["200"] != s.Requests || s.Requests < 500 {
		t.Errorf("got %+v, want 500 requests or more, all answered 200", s)
	}
	eventually(t, patience, func() error {
		_, err := tryUnderlane(t, "check")
		return err
	})
}

// TestAgentPodDeleted checks that deleting an agent's pod breaks at most the active
// requests, and that the replacement takes over the pods.
func TestAgentPodDeleted(t *testing.T) {
	tr := startTraffic(t)
	agent := kubectl(t, "get", "pods", "-n", system, "-l", "app.kubernetes.io/name=underlane-agent",
		"--field-selector=spec.nodeName=node-2", "-o", "jsonpath={.items[0].metadata.name}")
	kubectl(t, "delete", "pod", "-n", system, agent)
	ready(t, system, "daemonset/underlane-agent")
	tr.check(t, "agent of the servers' node deleted", 2)
	watched(t, []string{"-n", tr.ns, tr.client}, func() error {
		_, err := in(t, tr.ns, tr.client, "/labtest", "get", "--count", "20", "http://web/after")
		return err
	}, has("req ", "tls=true", ":path=/after")) // a request to the node of the new agent
}

// TestNodeLoss checks that the death of a node breaks only the active requests to it,
// and that all others go to the remaining endpoints: first of what the agents notice,
// then of what Kubernetes does about the node.
func TestNodeLoss(t *testing.T) {
	tr := startTraffic(t)
	if _, err := try(t.Context(), "", "node", "kill", "node-2"); err != nil {
		t.Fatal(err)
	}
	back := func() {
		if _, err := try(t.Context(), "", "node", "start", "node-2"); err != nil {
			t.Error(err)
		}
		kubectl(t, "wait", "--for=condition=Ready", "--timeout=170s", "node/node-2")
		ready(t, system, "daemonset/underlane-agent")
	}
	defer back()
	// A request that is active when the node dies, and one that is sent to a dead
	// endpoint, wait until that is detected. Then they go to another endpoint.
	kubectl(t, "wait", "--for=condition=Ready=Unknown", "--timeout=120s", "node/node-2")
	tr.check(t, "node of half of the servers killed", 2)
}

// TestUpgradeUnderTraffic checks that an upgrade, which replaces controllers and
// agents one after the other, breaks no request and no connection attempt. The servers
// are strict, so an attempt that bypasses the mesh while an agent is missing is
// refused.
func TestUpgradeUnderTraffic(t *testing.T) {
	tr := startTraffic(t, strict)
	attempts := requestsUntil(t, tr.ns, tr.client, "--interval", "20ms", "--timeout", "30s", "--fresh", "http://web/")
	kubectl(t, "rollout", "restart", "-n", system, "deploy/underlane-controller", "daemonset/underlane-agent")
	ready(t, system, "deploy/underlane-controller", "daemonset/underlane-agent")
	tr.check(t, "rolling update of controllers and agents", 0)
	judge(t, "the same, each request on a connection of its own", attempts(), 0)
	eventually(t, patience, func() error {
		_, err := tryUnderlane(t, "check", "--proxy", "-n", tr.ns)
		return err
	})
}
