// Package filter decides which events a reader sees. It is pure: no clock but
// the events' own, no I/O.
package filter

import (
	"fmt"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Kind is the kind of a Resource, as mesh.Workload.OwnerKind spells it, or one
// of pod, namespace and service.
type Kind string

// The kinds that are not an OwnerKind.
const (
	KindPod       Kind = "pod"
	KindNamespace Kind = "namespace"
	KindService   Kind = "service"
)

// Kinds by every name that kubectl has for them.
var kindNames = map[string]Kind{
	"pod": KindPod, "pods": KindPod, "po": KindPod,
	"namespace": KindNamespace, "namespaces": KindNamespace, "ns": KindNamespace,
	"service": KindService, "services": KindService, "svc": KindService,
	"deployment": "deployment", "deployments": "deployment", "deploy": "deployment",
	"statefulset": "statefulset", "statefulsets": "statefulset", "sts": "statefulset",
	"daemonset": "daemonset", "daemonsets": "daemonset", "ds": "daemonset",
	"replicaset": "replicaset", "replicasets": "replicaset", "rs": "replicaset",
	"job": "job", "jobs": "job",
	"cronjob": "cronjob", "cronjobs": "cronjob", "cj": "cronjob",
}

// Resource names one end of the traffic. The zero Resource is everything.
type Resource struct {
	Kind      Kind
	Name      string // empty is all of the kind
	Namespace string // empty is any; not for KindNamespace
}

// maxName is the longest name Kubernetes allows, a DNS subdomain (RFC 1123).
const maxName = 253

// ParseResource reads KIND/NAME or KIND, in the spellings kubectl takes
// (deploy/web, deployments/web, sts, ns/shop); "" is everything.
func ParseResource(text, namespace string) (Resource, error) {
	if text == "" {
		return Resource{Namespace: namespace}, nil
	}
	kindText, name, slash := strings.Cut(text, "/")
	kind, ok := kindNames[strings.ToLower(kindText)]
	switch {
	case !ok:
		return Resource{}, fmt.Errorf("resource %q: no kind %q: use deploy, sts, ds, rs, job, cronjob, pod, ns or svc, as in deploy/web", text, kindText)
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

// String is the form that ParseResource reads, without the namespace.
func (r Resource) String() string {
	if r.Name == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + "/" + r.Name
}

// all reports whether r is everything.
func (r Resource) all() bool { return r == Resource{} }

func (r Resource) matchSource(e *tap.Event) bool { return r.matchWorkload(e.Source.Workload) }

func (r Resource) matchDestination(e *tap.Event) bool {
	if r.Kind != KindService {
		return r.matchWorkload(e.Destination.Workload)
	}
	s := e.Service
	return s != nil && equalOrAny(r.Name, s.Name) && equalOrAny(r.Namespace, s.Namespace)
}

// Matches reports whether w is (of) r; no workload is of a service.
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
		return equalOrAny(r.Name, w.Name)
	case KindNamespace:
		return equalOrAny(r.Name, w.Namespace)
	case KindService:
		return false
	}
	return w.OwnerKind == string(r.Kind) && equalOrAny(r.Name, w.OwnerName)
}

func equalOrAny(want, got string) bool { return want == "" || want == got }
