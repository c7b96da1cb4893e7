// Package tapv1alpha1 is the API tap.underlane.io/v1alpha1, which the controller
// adds to the cluster's own by an APIService: what the agents of all nodes tell,
// to whoever has the right in the cluster's RBAC. The messages of its streams are
// those of the node API.
//
//	GET …/watch/namespaces/NS/KIND/NAME/tap   what an object's pods send and get (verb watch of KIND/tap)
//	GET …/watch/namespaces/NS/tap             the same of a whole namespace (verb watch of tap)
//	GET …/watch/tap                           of all of them (verb watch of tap, everywhere)
//	GET …?headers=true                        a tap with header fields (verb headers of the same resource, too)
//	GET …/namespaces/NS/figures, …/figures    Figures: what resources do to each other (verb list of figures)
//	GET …/namespaces/NS/routes, …/routes      RouteList: routes, and what their requests did (verb list of routes)
//	GET …/namespaces/NS/resources, …/resources  ResourceList: what runs, and what it uses (verb list of resources)
//	GET …/namespaces/NS/connections, …/connections  ConnectionList: open connections (verb list of connections)
//	GET …/namespaces/NS/KIND/NAME/why?to=…    WhyReport: would a call work (verb get of KIND/why; also of the server's, if it is in another namespace)
//	POST …/namespaces/NS/KIND/NAME/try?to=…   the same, and one connection is made (verb create of KIND/try)
//	GET …/namespaces/NS/authz, …/authz        AuthzList: what policies have decided (verb list of authz)
//	GET …/namespaces/NS/authz/suggestion      AuthzSuggestion: the policies that the traffic needs (verb get of authz)
//	POST …/namespaces/NS/authz                AuthzTry: what policies would change (verb create of authz; nothing is created)
//	GET …/namespaces/NS/KIND/NAME/authz?from=… AuthzExplanation: what decides about a call (verb get of KIND/authz; also of the client's, if it is in another namespace)
//	GET …/nodes                               NodeList: every agent's status (verb list of nodes)
//	GET …/nodes/NAME/status|dump|metrics      one agent's (verb get of nodes/status …)
//	GET …/costs                               NodeList: what pods cost every agent (verb list of costs)
//	GET …/endpoints?authority=HOST:PORT       EndpointList: where requests for it may go (verb list of endpoints)
//	GET …/state, …/metrics                    the controller's own (verb list of state, metrics)
//
// Taps are of the verb watch, as Linkerd's are: the API server lets only such
// requests last for longer than a minute.
package tapv1alpha1

import (
	"encoding/json"
	"net/url"
	"path"
)

// Names of the API.
const (
	Group        = "tap.underlane.io"
	Version      = "v1alpha1"
	GroupVersion = Group + "/" + Version
	Prefix       = "/apis/" + GroupVersion
	// APIService is the name of the object that adds the API to the cluster's.
	APIService = Version + "." + Group
	// ClusterRole is the role that the chart makes for people who may tap.
	ClusterRole = "underlane-tap-admin"
	// HeadersClusterRole is that for people who, besides, may see header fields.
	HeadersClusterRole = "underlane-tap-headers"
	// TryClusterRole is that for people who may make connections in the name of pods.
	TryClusterRole = "underlane-try"
	// HeadersVerb is the verb of a tap with header fields. No path of the API has it:
	// RBAC rules name it besides the verb watch.
	HeadersVerb = "headers"
)

// Media types of a tap.
const (
	// MediaProtobuf: agentv1.TapEvents, each after its length as a varint.
	MediaProtobuf = "application/x-protobuf;stream=tap"
	// MediaJSON: an object a line, as `underlane tap -o json` prints it, or
	// {"lostEvents": n}, or {"warning": "…"}. An empty line says that the
	// stream lives.
	MediaJSON = "application/json;stream=tap"
	// MediaFigures: a Figures a line, or a Status of kind Failure if the agents cannot be
	// asked at the moment. An empty line says that the stream lives.
	MediaFigures = "application/json;stream=figures"
)

// Kinds are the resources that can be tapped by name, in the plural.
var Kinds = []string{
	"cronjobs", "daemonsets", "deployments", "jobs", "pods", "replicasets", "replicationcontrollers", "services", "statefulsets",
}

// TapPath is the path of a tap. kind is one of Kinds, or "" for all of the
// namespace; namespace "" is all of them, for which kind must be "".
func TapPath(namespace, kind, name string) string {
	switch {
	case namespace == "":
		return Prefix + "/watch/tap"
	case kind == "":
		return Prefix + path.Join("/watch/namespaces", url.PathEscape(namespace), "tap")
	}
	return Prefix + path.Join("/watch/namespaces", url.PathEscape(namespace), kind, url.PathEscape(name), "tap")
}

// NodePath is the path of one node's status, dump or metrics.
func NodePath(node, what string) string {
	return Prefix + path.Join("/nodes", url.PathEscape(node), what)
}

// Meta is the part of Kubernetes' ObjectMeta that is used here.
type Meta struct {
	Name string `json:"name,omitempty"`
}

// NodeList is the answer of …/nodes and …/costs.
type NodeList struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   Meta   `json:"metadata"`
	Items      []Node `json:"items"`
}

// Node is one node's agent.
type Node struct {
	Metadata Meta            `json:"metadata"`
	Address  string          `json:"address"`          // of the agent's API
	Status   json.RawMessage `json:"status,omitempty"` // of …/nodes: agentv1.StatusResponse; absent when the agent did not answer
	Costs    json.RawMessage `json:"costs,omitempty"`  // of …/costs: agentv1.CostsResponse, likewise
	Error    string          `json:"error,omitempty"`  // why it did not
}

// EndpointList is the answer of …/endpoints.
type EndpointList struct {
	Kind       string     `json:"kind"`
	APIVersion string     `json:"apiVersion"`
	Metadata   Meta       `json:"metadata"`
	Items      []Endpoint `json:"items"`
}

// Endpoint is an address that requests for an authority may go to.
type Endpoint struct {
	Namespace string `json:"namespace"`
	IP        string `json:"ip"`
	Port      uint16 `json:"port"`
	Pod       string `json:"pod,omitempty"` // "" when no known pod has the address
	Node      string `json:"node,omitempty"`
	Identity  string `json:"identity,omitempty"` // expected of the pod by mutual TLS; "" when it is not meshed
	Service   string `json:"service"`
	Ready     bool   `json:"ready"`
}
