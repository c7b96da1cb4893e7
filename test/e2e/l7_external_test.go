package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab/layout"
)

// externalServices are reached at addresses from outside the cluster: one by
// external IPs, two share those of a load balancer, each with a port of its own.
const externalServices = `
apiVersion: v1
kind: Service
metadata: {name: by-ip-POD}
spec:
  selector: {app: POD}
  ipFamilyPolicy: RequireDualStack
  externalIPs: [192.0.2.N0, "2001:db8::N0"]
  externalTrafficPolicy: Local
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: balanced-POD}
spec:
  type: LoadBalancer
  selector: {app: POD}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.N1}, {ip: "2001:db8::N1"}]}}
---
apiVersion: v1
kind: Service
metadata: {name: beside-POD}
spec:
  type: LoadBalancer
  selector: {app: POD}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 81, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.N1}, {ip: "2001:db8::N1"}]}}
---
apiVersion: v1
kind: Service
metadata: {name: by-node-POD}
spec:
  type: NodePort
  selector: {app: POD}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 300N0}]
`

const externalRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: HOW-POD}
spec:
  parentRefs: [{group: "", kind: Service, name: HOW-POD, port: 80}]
  rules:
    - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-route, value: HOW-POD}]}}]
      backendRefs: [{name: HOW-POD, port: 80}]
`

// TestExternalAddresses: external IPs, addresses of load balancers and node ports lead a pod
// of the mesh to the Service's endpoints, as they do without a mesh; with it also where
// those take nothing but mTLS, and by the Service's routes.
func TestExternalAddresses(t *testing.T) {
	t.Parallel()
	strict := func(name, node string) podSpec {
		p := serverPod(name, node)
		p.Annotations = map[string]string{"underlane.io/policy": "strict"}
		return p
	}
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		var tap *tapReader
		if !l.bare {
			waitEnrolled(t, l.Lab, "default/strict-near", "default/strict-far")
			tap = startTap(t, l.Lab, node1)
		}
		for pod, tls := range map[string]string{"strict-near": "same-node", "strict-far": "true"} {
			n := map[string]string{"strict-near": "1", "strict-far": "2"}[pod]
			fill := strings.NewReplacer("POD", pod, "N0", n+"0", "N1", n+"1").Replace
			l.Apply(fill(externalServices))
			if !l.bare {
				for _, how := range []string{"by-ip", "by-node"} {
					l.Apply(strings.ReplaceAll(fill(externalRoute), "HOW", how))
				}
			}
			own, other := layout.NodeAddrs(1), layout.NodeAddrs(2)
			for service, at := range map[string]string{
				"by-node": fmt.Sprintf("%s:300N0", own[0]), "by-node over IPv6": fmt.Sprintf("[%s]:300N0", own[1]),
				"by-node at the other node": fmt.Sprintf("%s:300N0", other[0]), "by-node at the other node over IPv6": fmt.Sprintf("[%s]:300N0", other[1]),
				"by-ip": "192.0.2.N0:80", "by-ip over IPv6": "[2001:db8::N0]:80",
				"balanced": "192.0.2.N1:80", "balanced over IPv6": "[2001:db8::N1]:80",
				"beside": "192.0.2.N1:81", "beside over IPv6": "[2001:db8::N1]:81",
			} {
				at := fill(at)
				for _, http2 := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %s, HTTP/2 %v", pod, service, http2), func(t *testing.T) {
						path := "/" + strings.ReplaceAll(t.Name(), " ", "-")
						resp, err := l.client(t, http2).Get("http://" + at + path)
						if err != nil {
							t.Fatal(err)
						}
						resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							t.Fatalf("%s is answered with %s, want 200", at, resp.Status)
						}
						if l.bare {
							return
						}
						name, _, _ := strings.Cut(service, " ")
						name += "-" + pod
						wantRoute := ""
						if strings.HasPrefix(name, "by-") {
							wantRoute = name
						}
						if got := resp.Header.Get("X-Route"); got != wantRoute {
							t.Errorf("header of the route: got %q, want %q", got, wantRoute)
						}
						want := l.Pod(pod).IP()
						if strings.HasPrefix(at, "[") {
							want = l.Pod(pod).IP6()
						}
						e := outboundEnd(tap, path)
						if e.TLS != tls || e.Destination.IP != want.String() || e.RouteMeta["service"] != name {
							t.Errorf("tap: got tls %q, destination %s of service %q, want %q, %s, %q",
								e.TLS, e.Destination.IP, e.RouteMeta["service"], tls, want, name)
						}
					})
				}
			}
		}
	}, strict("strict-near", node1), strict("strict-far", node2))
}
