package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// requestRoute asks something of requests to the Service web.
const requestRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules: [{timeouts: {request: 30s}, backendRefs: [{name: web, port: 80}]}]
`

// requestPolicy looks at the requests to the pod server.
const requestPolicy = `
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: server, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: DENY
  enforcementLevel: Application
  rules: [{authorization: {type: Inline, paths: [{type: Exact, value: /denied}]}}]
`

// TestKernelPathHTTP: with --kernel-path-http connections of HTTP take the kernel path while
// nothing is asked of requests, and tap shows these. With a route, another endpoint or a policy
// they do not; a policy that looks at requests ends those that are open, and no request passes it.
func TestKernelPathHTTP(t *testing.T) {
	t.Parallel()
	server := webPod("server", node1)
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--kernel-path-http"}}, manifests(server, clientPod("near", node1)), webService)
	waitEnrolled(t, l, "default/server", "default/near")
	tap := startTap(t, l, node1)
	pod, service := addrPort(l.Pod("server").IP(), 8080), addrPort(l.ServiceIPs("default/web")[0], 80)
	asked, judged := 0, false // judged: what comes to the server has to be judged by the agent, and is sent to it as from another node
	// origin makes a request on a connection of its own, and returns who has carried it.
	origin := func(host string, flags ...string) (string, error) {
		asked++
		path := fmt.Sprintf("/ok?request=%d", asked)
		if r := l.TryExec("near", append(append([]string{"labtest", "get", "--fresh"}, flags...), "http://"+host+path)...); r.Code != 0 {
			return "", fmt.Errorf("%s", r)
		}
		for range 40 {
			if ends := tap.all(func(e event) bool {
				return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path && e.ProxyDirection == "OUTBOUND"
			}); len(ends) > 0 {
				if got := ends[0]; got.ResponseEndEvent.HTTPStatus != 200 || (got.TLS != "same-node") != (got.Origin == "proxy" && judged) || got.Destination.Metadata["pod"] != "server" && host == pod {
					return "", fmt.Errorf("got the event %s, want one of status 200 to the server within the node", got)
				}
				return ends[0].Origin, nil
			}
			time.Sleep(25 * time.Millisecond)
		}
		return "", fmt.Errorf("tap shows no request to %s", host)
	}
	carried := func(when, by string, hosts ...string) {
		t.Helper()
		for _, host := range hosts {
			for _, flags := range [][]string{nil, {"--http2"}} {
				l.Eventually(patience, func() error {
					got, err := origin(host, flags...)
					if err == nil && got != by {
						err = fmt.Errorf("%s: a request to %s with %v is carried by the %s, want the %s", when, host, flags, got, by)
					}
					return err
				})
			}
		}
	}
	const kernel, proxy = "kernel", "proxy"
	carried("as it is", kernel, pod, service)

	l.Apply(requestRoute)
	carried("with a route", proxy, service)
	carried("with a route", kernel, pod)
	l.Delete(requestRoute)
	carried("without the route", kernel, service)
	l.Apply(manifests(webPod("other", node1)))
	waitEnrolled(t, l, "default/other")
	carried("with two endpoints", proxy, service)

	// A connection from before the policy: no request that it denies gets through.
	from := dialFrom(t, l, "near")
	open := &http.Transport{DialContext: from.DialContext}
	defer open.CloseIdleConnections()
	client := &http.Client{Transport: open, Timeout: patience}
	get := func(path string) (int, error) {
		resp, err := client.Get("http://" + pod + path)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	if status, err := get("/ok"); err != nil || status != 200 {
		t.Fatalf("got %d, %v, want 200", status, err)
	}
	judged = true
	l.Apply(requestPolicy)
	l.Eventually(patience, func() error {
		if r := l.TryExec("near", "labtest", "get", "--fresh", "http://"+pod+"/denied"); !strings.Contains(r.Stdout, "does not allow") {
			return fmt.Errorf("got %s, want a refusal", r)
		}
		return nil
	})
	// New connections are judged now. An open one ends, after which requests make new ones.
	l.Eventually(patience, func() error {
		if status, err := get("/denied"); err != nil || status != 403 {
			return fmt.Errorf("on a connection from before the policy: got %d, %v, want 403", status, err)
		}
		return nil
	})
	if status, err := get("/ok"); err != nil || status != 200 {
		t.Errorf("what the policy allows: got %d, %v, want 200", status, err)
	}
	carried("with a policy that looks at requests", proxy, pod)
}
