package tapv1alpha1

import (
	"fmt"
	"net/url"
	"path"
	"time"
)

// ResourcesPath is the path of the resources of a namespace, or of all of them with "".
func ResourcesPath(namespace string) string { return inNamespace(namespace, "resources") }

func inNamespace(namespace, what string) string {
	if namespace == "" {
		return Prefix + "/" + what
	}
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), what)
}

// KindAll is the value of ResourcesQuery.Kind for workloads, pods, Services and namespaces.
const KindAll = "all"

// ResourcesQuery are the parameters of …/resources.
type ResourcesQuery struct {
	// Kind is a kind in the singular, in the plural or as kubectl shortens it: that of a
	// workload, pod, service, namespace; KindAll; "": workloads of all kinds.
	Kind      string
	Namespace string // "": all. For a path with a namespace it is that one.
	Name      string
	Owner     string // of pods: the name of their workload
}

func (q *ResourcesQuery) text() map[string]*string {
	return map[string]*string{"kind": &q.Kind, "namespace": &q.Namespace, "name": &q.Name, "owner": &q.Owner}
}

// Values writes q as parameters.
func (q ResourcesQuery) Values() url.Values { return writeText(q.text()) }

// ParseResources reads what Values writes. Unknown parameters are refused.
func ParseResources(values url.Values) (q ResourcesQuery, err error) {
	err = readText(values, q.text(), nil)
	return q, err
}

func writeText(fields map[string]*string) url.Values {
	v := url.Values{}
	for name, field := range fields {
		if *field != "" {
			v.Set(name, *field)
		}
	}
	return v
}

// readText reads parameters into fields, and those that are not text with other, which
// returns false for a name that it does not know.
func readText(values url.Values, fields map[string]*string, other func(name, value string) (bool, error)) error {
	for name, all := range values {
		value := all[len(all)-1]
		if field := fields[name]; field != nil {
			*field = value
			continue
		}
		known, err := false, error(nil)
		if other != nil {
			known, err = other(name, value)
		}
		switch {
		case !known:
			return fmt.Errorf("parameter %q: there is no such parameter", name)
		case err != nil:
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

// ResourceList is the answer of …/resources: what runs, and what it uses.
type ResourceList struct {
	Kind       string         `json:"kind"` // ResourceList
	APIVersion string         `json:"apiVersion"`
	Time       time.Time      `json:"time"`
	Nodes      Nodes          `json:"nodes"`
	Warnings   []string       `json:"warnings"` // a sentence for each node that is missing, and the like
	Items      []ResourceItem `json:"items"`    // by kind, namespace and name
}

// ResourceItem is a workload, a pod, a Service or a namespace. Its ID is its index.
type ResourceItem struct {
	Resource
	// Usage is what the containers of its pods use together; absent: it is not known, or the
	// item is a Service.
	Usage *Usage `json:"resources,omitempty"`
	// Mesh is what its pods cost their agents; absent: it is not known, or nothing of it is
	// in the mesh.
	Mesh *MeshCost `json:"mesh,omitempty"`
	// Certificate is that of its identity which expires first; absent: it is not known, or
	// the item is a namespace or a Service.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Settings are those of its pods that hold, as their agents have them; absent: it is not in
	// the mesh, or is a namespace or a Service, or its agents are older.
	Settings []Setting `json:"settings,omitempty"`
	// Partial: the usage of some pods of it is not known.
	Partial bool `json:"partial,omitempty"`
}

// Setting is a setting by annotation, or what holds without one.
type Setting struct {
	Name   string   `json:"name"`   // of the annotation, without its prefix
	Values []string `json:"values"` // one, or several where pods differ, as while a rollout goes on; 4 at most, and NotSet
}

// NotSet is a value of a Setting that some pods do not have.
const NotSet = "not set"

// Usage is what containers use.
type Usage struct {
	CPU         *float64 `json:"cpu,omitempty"`         // processors, on average over the last seconds; absent: not known
	CPULimit    float64  `json:"cpuLimit,omitempty"`    // processors; absent: some pod has no limit
	Throttled   float64  `json:"throttled,omitempty"`   // part of the time slices in which a pod was stopped by its limit, 0 to 1: the most of all pods
	Memory      *uint64  `json:"memory,omitempty"`      // bytes, with page cache; absent: not known
	MemoryLimit uint64   `json:"memoryLimit,omitempty"` // bytes; absent: some pod has no limit
	OOMKills    uint64   `json:"oomKills,omitempty"`    // since the pods began
	PSI         *PSI     `json:"psi,omitempty"`         // absent: the kernel does not measure it
}

// PSI is the part of the last ten seconds, in percent, in which a task waited for a
// resource: the most of all pods.
type PSI struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	IO     float64 `json:"io"`
}

// MeshCost is what pods cost the agents of their nodes.
type MeshCost struct {
	CPU         float64 `json:"cpu"`               // processors, on average over the last seconds
	Memory      uint64  `json:"memory"`            // bytes that wait for a receiver
	Connections uint64  `json:"connections"`       // open
	Waiting     float64 `json:"waiting,omitempty"` // goroutines that wait for their turn at the processors, on average
}

// Certificate is a workload's certificate for mutual TLS.
type Certificate struct {
	Identity string    `json:"identity"`
	Expires  time.Time `json:"expires"`
}
