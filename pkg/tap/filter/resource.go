// Package filter decides which events a reader sees. It is pure: its only clock
// is the time of the events, and it does no I/O.
package filter

import (
	"fmt"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Kind is the kind of a Resource: pod, namespace, service, or a value of
// mesh.Workload.OwnerKind.
type Kind string

// The kinds that are not values of OwnerKind.
const (
	KindPod       Kind = "pod"
	KindNamespace Kind = "namespace"
	KindService   Kind = "service"
)

// kindNames has all names that kubectl accepts for a kind.
var kindNames = map[string]Kind{
	"pod": KindPod, "pods": KindPod, "po": KindPod,
	"namespace": KindNamespace, "namespaces": KindNamespace, "ns": KindNamespace,
	"service": KindService, "services": KindService, "svc": KindService,
	"deployment": "deployment", "deployments": "deployment", "deploy": "deployment",
	"statefulset": "statefulset", "statefulsets": "statefulset", "sts": "statefulset",
	"daemonset": "daemonset", "daemonsets": "daemonset", "ds": "daemonset",
	"replicaset": "replicaset", "replicasets": "replicaset", "rs": "replicaset",
	"replicationcontroller": "replicationcontroller", "replicationcontrollers": "replicationcontroller", "rc": "replicationcontroller",
	"job": "job", "jobs": "job",
	"cronjob": "cronjob", "cronjobs": "cronjob", "cj": "cronjob",
}

// Resource selects one end of traffic. The zero Resource selects everything.
type Resource struct {
	Kind      Kind
	Name      string // "": all resources of the kind
	Namespace string // "": any namespace; not used with KindNamespace
}

// maxName is the length of the longest name in Kubernetes, a DNS subdomain
// (RFC 1123).
const maxName = 253

// ParseResource parses KIND/NAME or KIND, in the spellings that kubectl accepts
// (deploy/web, deployments/web, sts, ns/shop). "" selects everything in the
// namespace, or everything if that is "" too.
func ParseResource(text, namespace string) (Resource, error) {
	if text == "" {
		return Resource{Namespace: namespace}, nil
	}
	kindText, name, slash := strings.Cut(text, "/")
	kind, ok := kindNames[strings.ToLower(kindText)]
	switch {
	case !ok:
		return Resource{}, fmt.Errorf("resource %q: no kind %q: use deploy, sts, ds, rs, rc, job, cronjob, pod, ns or svc, as in deploy/web", text, kindText)
	case slash && name == "":
		return Resource{}, fmt.Errorf("resource %q: a name must follow the slash", text)
	case !validName(name):
		return Resource{}, fmt.Errorf("resource %q: %q is not a Kubernetes name", text, name)
	case kind == KindNamespace && namespace != "":
		return Resource{}, fmt.Errorf("resource %q: a namespace is not in a namespace (%q)", text, namespace)
	}
	return Resource{Kind: kind, Name: name, Namespace: namespace}, nil
}

func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return len(name) <= maxName
}

// String returns the form that ParseResource parses, without the namespace.
func (r Resource) String() string {
	if r.Name == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + "/" + r.Name
}

// all reports whether r selects everything.
func (r Resource) all() bool { return r == Resource{} }

func (r Resource) matchSource(e *tap.Event) bool { return r.matchWorkload(e.Source.Workload) }

func (r Resource) matchDestination(e *tap.Event) bool {
	if r.Kind != KindService {
		return r.matchWorkload(e.Destination.Workload)
	}
	s := e.Service
	return s != nil && equalOrAny(r.Name, s.Name) && equalOrAny(r.Namespace, s.Namespace)
}

// Matches reports whether w is the resource r or belongs to it. No workload
// belongs to a service.
func (r Resource) Matches(w *mesh.Workload) bool { return r.matchWorkload(w) }

func (r Resource) matchWorkload(w *mesh.Workload) bool {
	if r.all() {
		return true
	}
	if w == nil || !equalOrAny(r.Namespace, w.Namespace) {
		return false
	}
	switch r.Kind {
	case "":
		return true
	case KindPod:
		return w.Name != "" && equalOrAny(r.Name, w.Name)
	case KindNamespace:
		return w.Namespace != "" && equalOrAny(r.Name, w.Namespace)
	case KindService:
		return false
	}
	return w.OwnerKind == string(r.Kind) && equalOrAny(r.Name, w.OwnerName)
}

func equalOrAny(want, got string) bool { return want == "" || want == got }
