package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// summary is what `labtest get --summary` prints.
type summary struct {
	Requests, Failed int
	Errors           map[string]int
	Status           map[string]int
	Hosts            map[string]int
	Reasons          map[string]int
}

func summarise(out string) (s summary, err error) {
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("%q: %w", out, err)
	}
	return s, nil
}

// tryRequests makes requests from a pod. Failed requests are not an error.
func tryRequests(t testing.TB, ns, pod string, args ...string) (summary, error) {
	out, err := in(t, ns, pod, append([]string{"/labtest", "get", "--summary"}, args...)...)
	if out == "" {
		return summary{}, err
	}
	return summarise(out)
}

func requests(t testing.TB, ns, pod string, args ...string) summary {
	t.Helper()
	s, err := tryRequests(t, ns, pod, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// requestsUntil makes requests from a pod until end is called, which returns what came
// of them.
func requestsUntil(t testing.TB, ns, pod string, args ...string) (end func() summary) {
	t.Helper()
	args = append([]string{"kubectl", "--", "exec", "-i", "-n", ns, pod, "--", "/labtest", "get", "--summary", "--count", "0", "--until-eof"}, args...)
	cmd := command(t.Context(), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() summary {
		t.Helper()
		input.Close()
		err := cmd.Wait() // failed requests are an error, but the summary is there
		if out.Len() == 0 {
			t.Fatalf("requests from %s: %v\n%s", pod, err, errs.String())
		}
		s, err := summarise(out.String())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// TestWaysToName checks that a server is reached by all of its names and addresses,
// and with mTLS if it is in the mesh.
func TestWaysToName(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 2
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: db}}}
      containers: [{name: main, image: %q, imagePullPolicy: IfNotPresent, command: [/labtest, all]}]
---
`, image)+service("db", []string{"8080:8080", "7001:7001"}, "clusterIP: None")+
		strings.ReplaceAll(service("front", []string{"80:8080"}, "type: NodePort"), "app: front", "app: db")+
		strings.ReplaceAll(service("local", []string{"80:8080"}, "type: NodePort", "externalTrafficPolicy: Local"), "app: local", "app: db")+`
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: front.`+ns+`.svc.cluster.local}
---
`+deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "statefulset/db", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client, "pod/db-0", "pod/db-1")
	ip := kubectl(t, "get", "-n", ns, "pod/db-1", "-o", "jsonpath={.status.podIP}")
	nodePort := func(node, service string) string {
		return nodeIP(t, node) + ":" + kubectl(t, "get", "-n", ns, "svc/"+service, "-o", "jsonpath={.spec.ports[0].nodePort}")
	}

	// A Service without a selector, with endpoints that are written by hand.
	apply(t, ns, `
apiVersion: v1
kind: Service
metadata: {name: manual}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: manual-1, labels: {kubernetes.io/service-name: manual}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["`+ip+`"]}]
`)
	type way struct {
		url  string
		mesh bool // the mesh knows the server
	}
	ways := map[string]way{
		"ClusterIP":        {"http://front/clusterip", true},
		"headless":         {"http://db:8080/headless", true},
		"StatefulSet pod":  {"http://db-1.db:8080/statefulset", true},
		"pod IP":           {"http://" + ip + ":8080/podip", true},
		"without selector": {"http://manual/manual", true},
		"ExternalName":     {"http://alias/alias", true},
		"NodePort":         {"http://" + nodePort("node-2", "front") + "/nodeport", true},
		"its own node's":   {"http://" + nodePort("node-1", "front") + "/ownnodeport", true},
		"NodePort, Local":  {"http://" + nodePort("node-2", "local") + "/localnodeport", false},
	}
	if ips := strings.Fields(kubectl(t, "get", "-n", ns, "pod/db-1", "-o", "jsonpath={.status.podIPs[*].ip}")); len(ips) > 1 {
		ways["pod IPv6"] = way{"http://[" + ips[1] + "]:8080/podipv6", true}
	}
	for name, c := range ways {
		t.Run(name, func(t *testing.T) {
			path := c.url[strings.LastIndex(c.url, "/"):]
			watched(t, []string{"-n", ns, client}, func() error { // DNS may not know the name yet
				_, err := in(t, ns, client, "/labtest", "get", c.url)
				return err
			}, func(lines []string) error {
				got := append(matching(lines, "req ", "tls=true", ":path="+path), matching(lines, "req ", "tls=same-node", ":path="+path)...)
				if c.mesh && len(got) == 0 {
					return errors.New("no meshed request")
				}
				if !c.mesh && len(got) > 0 {
					return fmt.Errorf("it is meshed, want it left alone: %s", got[0])
				}
				return has(":path=" + path)(lines)
			})
		})
	}
	t.Run("server speaks first", func(t *testing.T) {
		eventually(t, patience, func() error {
			got, err := in(t, ns, client, "/labtest", "dial", "db-0.db:7001")
			if err == nil && !strings.Contains(got, "220 db-0 ready") {
				t.Errorf("banner %q, want that of db-0", got)
			}
			return err
		})
	})
}

// TestEndpoints checks what a Service promises about its endpoints: affinity,
// readiness, and no new requests to terminating ones.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	probe := container("readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}")
	apply(t, ns, deployment("web", httpArgs, replicas(3), probe)+service("web", []string{"80:8080"})+
		strings.NewReplacer("name: web}", "name: sticky}").Replace(service("web", []string{"80:8080"}, "sessionAffinity: ClientIP"))+
		strings.NewReplacer("name: web}", "name: local}").Replace(service("web", []string{"80:8080"}, "internalTrafficPolicy: Local"))+
		deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "deploy/web", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client)

	eventually(t, patience, func() error { // EndpointSlices follow the pods after a moment
		if s := requests(t, ns, client, "--count", "60", "http://web/"); len(s.Hosts) != 3 || s.Failed > 0 {
			return fmt.Errorf("plain: %+v", s)
		}
		return nil
	})
	eventually(t, patience, func() error { // each Service has its own slices
		if s := requests(t, ns, client, "--count", "60", "--fresh", "http://sticky/"); len(s.Hosts) != 1 || s.Failed > 0 {
			return fmt.Errorf("sessionAffinity: %+v", s)
		}
		return nil
	})
	local := kubectl(t, "get", "pods", "-n", ns, "-l", "app=web", "--field-selector=spec.nodeName=node-1", "-o", "jsonpath={.items[*].metadata.name}")
	eventually(t, patience, func() error {
		for host := range requests(t, ns, client, "--count", "60", "http://local/").Hosts {
			if len(local) > 0 && !strings.Contains(local, host) {
				return fmt.Errorf("internalTrafficPolicy: Local: sent to %s, on this node are %s", host, local)
			}
		}
		return nil
	})

	// A pod that is not ready gets no new request, and no request is lost.
	off := podOf(t, ns, "web")
	mustIn(t, ns, off, "/labtest", "get", "http://127.0.0.1:8080/ready/off")
	kubectl(t, "wait", "-n", ns, "--for=condition=Ready=false", "--timeout=90s", off)
	eventually(t, patience, func() error {
		s := requests(t, ns, client, "--count", "30", "http://web/")
		if s.Failed > 0 {
			t.Errorf("got %+v, want no failed request", s)
		}
		if len(s.Hosts) != 2 {
			return fmt.Errorf("hosts %v", s.Hosts)
		}
		return nil
	})
	mustIn(t, ns, off, "/labtest", "get", "http://127.0.0.1:8080/ready/on")
	kubectl(t, "wait", "-n", ns, "--for=condition=Ready", "--timeout=90s", off)

	// A rolling restart under traffic loses no request.
	end := requestsUntil(t, ns, client, "--interval", "20ms", "http://web/")
	time.Sleep(before)
	kubectl(t, "rollout", "restart", "-n", ns, "deploy/web")
	ready(t, ns, "deploy/web")
	time.Sleep(afterwards)
	if s := end(); s.Failed > 0 || s.Status["200"] != s.Requests {
		t.Errorf("rolling restart: got %+v, want all requests answered 200", s)
	} else {
		t.Logf("rolling restart: %d requests, none lost", s.Requests)
	}
}

// TestSameNodeShortcutYieldsToPolicies checks that the same-node shortcut is not used
// if a NetworkPolicy selects a pod or the namespace disables it. Packets then pass both
// veths, where the CNI enforces policies.
func TestSameNodeShortcutYieldsToPolicies(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("server", httpArgs, node("node-1"))+service("server", []string{"80:8080"})+
		deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "deploy/server", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client, podOf(t, ns, "server"))
	tls := func(want string) {
		t.Helper()
		watched(t, []string{"-n", ns, client}, func() error {
			_, err := in(t, ns, client, "/labtest", "get", "http://server/")
			return err
		}, has("req ", "tls="+want))
	}
	tls("same-node")
	apply(t, ns, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: some}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{}]}
`)
	tls("true")
	kubectl(t, "delete", "networkpolicy", "-n", ns, "some")
	tls("same-node")
	kubectl(t, "annotate", "namespace", ns, "underlane.io/same-node=wire")
	tls("true")
}
