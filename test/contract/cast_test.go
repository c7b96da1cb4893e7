package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/test/contract/check"
	"github.com/underlane/underlane/test/contract/schedule"
)

const (
	node1 = "node-1"
	node2 = "node-2"
	node3 = "node-3" // is in the lab only if it is lost

	// heartbeat and drain are the agents' --heartbeat-timeout and --drain-timeout.
	heartbeat = 2 * time.Second
	drain     = time.Second

	// certLifetime has certificates renewed several times in a run. A third of it is left
	// then, longer than the controller is ever away.
	certLifetime = 45 * time.Second
)

// pod is a pod of the run.
type pod struct {
	name, node string
	index      int // of its addresses, on its node
	server     bool
	meshed     bool
	annotation string
	service    string
}

const (
	strict     = "underlane.io/policy: strict"
	failClosed = "underlane.io/fail-mode: closed"
)

// pods are all pods but those of node3 and the guest, which gets the addresses of a pod that
// is replaced.
var pods = []pod{
	{name: "open", node: node1, index: 2, meshed: true},
	{name: "closed", node: node1, index: 3, meshed: true, annotation: failClosed},
	{name: "outsider", node: node1, index: 4},
	{name: "storm-1", node: node1, index: 5, meshed: true},
	{name: "near", node: node1, index: 6, meshed: true, server: true},
	{name: "vault", node: node1, index: 7, meshed: true, server: true, annotation: strict},
	{name: "web-1", node: node1, index: 8, meshed: true, server: true, service: "web"},

	{name: "back", node: node2, index: 2, meshed: true},
	{name: "stranger", node: node2, index: 4},
	{name: "storm-2", node: node2, index: 5, meshed: true},
	{name: "far", node: node2, index: 6, meshed: true, server: true},
	{name: "safe", node: node2, index: 7, meshed: true, server: true, annotation: strict},
	{name: "web-2", node: node2, index: 8, meshed: true, server: true, service: "web"},
}

// spare are the pods of node3.
var spare = []pod{
	{name: "remote", node: node3, index: 6, meshed: true, server: true},
	{name: "web-3", node: node3, index: 7, meshed: true, server: true, service: "web"},
}

// moved is the pod that replaces one of spare on another node.
func moved(p pod) pod {
	p.node, p.index = node2, p.index+10
	return p
}

// cast are the nodes, pods and targets of a run.
type cast struct {
	nodes   []string
	pods    []pod
	targets map[string]check.Target
}

// castOf returns the cast for a schedule.
func castOf(faults []schedule.Fault) cast {
	c := cast{nodes: []string{node1, node2}, pods: pods, targets: targets}
	if !slices.ContainsFunc(faults, func(f schedule.Fault) bool { return f.Kind == schedule.NodeLost }) {
		return c
	}
	c.nodes, c.pods, c.targets = append(c.nodes, node3), slices.Concat(pods, spare), maps.Clone(targets)
	c.targets["remote"] = check.Target{Pods: []string{"remote"}, Nodes: []string{node3, moved(spare[0]).node}}
	web := c.targets["web"]
	web.Pods, web.Nodes = append(slices.Clone(web.Pods), "web-3"), append(slices.Clone(web.Nodes), node3)
	c.targets["web"] = web
	return c
}

// changing are the pods that may be replaced or leave the mesh.
var changing = []string{"near", "far", "web-1", "web-2"}

// callers are the clients with the time between the attempts of each.
var callers = map[string]time.Duration{
	"open": 40 * time.Millisecond, "closed": 40 * time.Millisecond, "back": 40 * time.Millisecond,
	"outsider": 20 * time.Millisecond, "stranger": 20 * time.Millisecond,
}

// targets are those of every client, in a lab without node3.
var targets = map[string]check.Target{
	"near":  {Pods: []string{"near"}, Nodes: []string{node1}},
	"far":   {Pods: []string{"far"}, Nodes: []string{node2}},
	"vault": {Pods: []string{"vault"}, Nodes: []string{node1}, Strict: true},
	"safe":  {Pods: []string{"safe"}, Nodes: []string{node2}, Strict: true},
	"web":   {Pods: []string{"web-1", "web-2"}, Nodes: []string{node1, node2}},
}

// mesh is what the invariants need to know of the pods.
func (c cast) mesh() check.Mesh {
	m := check.Mesh{Clients: map[string]check.Client{}, Targets: c.targets, Heartbeat: heartbeat}
	for _, p := range c.pods {
		if !p.server {
			m.Clients[p.name] = check.Client{Node: p.node, Meshed: p.meshed, FailClosed: p.annotation == failClosed}
		}
	}
	return m
}

func podNamed(name string) pod {
	for _, p := range pods {
		if p.name == name {
			return p
		}
	}
	panic("there is no pod " + name)
}

// guest is the pod that gets the addresses of p.
func guest(p pod) pod {
	return pod{name: "guest", node: p.node, index: p.index, meshed: true, server: true}
}

// manifest is the pod as YAML, its own document. Servers write what arrives to dir.
func (p pod) manifest(dir string) string {
	command := []string{peerBinary, "serve", "--record", dir}
	ports := "[{containerPort: 8080}, {containerPort: 7000}]"
	if !p.server {
		command, ports = []string{"labtest", "wait"}, "[]"
	}
	labels := []string{"app: " + p.name}
	if p.service != "" {
		labels = []string{"app: " + p.service}
	}
	if p.meshed {
		labels = append(labels, "underlane.io/mesh: enabled")
	}
	annotations := []string{fmt.Sprintf("lab.underlane.io/index: %q", fmt.Sprint(p.index))}
	if p.annotation != "" {
		annotations = append(annotations, p.annotation)
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {%s}, annotations: {%s}}
spec:
  nodeName: %s
  serviceAccountName: %s
  containers:
  - {name: main, command: [%s], ports: %s}
`, p.name, strings.Join(labels, ", "), strings.Join(annotations, ", "), p.node, p.name, strings.Join(command, ", "), ports)
}

const service = `---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: http, port: 8080}, {name: lines, port: 7000}]
`

// manifests are all pods and the service.
func (c cast) manifests(dir string) string {
	var b strings.Builder
	for _, p := range c.pods {
		b.WriteString(p.manifest(dir))
	}
	return b.String() + service
}
