package table

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// UsedPod is a pod and what its agent says of it.
type UsedPod struct {
	Pod
	UID  string
	Used *agentv1.PodResource // nil: its agent has not answered, or does not know the pod
}

// Uses is what Usage joins.
type Uses struct {
	Pods     []UsedPod
	Services []*mesh.Service
	Asked    int      // nodes
	Answered int      // of Asked
	Warnings []string // sentences
}

// AddAnswer joins what the agent of node says with its pods. A pod counts only if it is on
// that node, and once.
func (u *Uses) AddAnswer(node string, r *agentv1.ResourcesResponse) {
	u.Answered++
	said := make(map[string]*agentv1.PodResource, len(r.GetPods()))
	for _, p := range r.GetPods() {
		if said[p.GetUid()] == nil {
			said[p.GetUid()] = p
		}
	}
	for i := range u.Pods {
		p := &u.Pods[i]
		if used := said[p.UID]; used != nil {
			if p.Node == node {
				p.Used = used
			} else {
				u.Warnings = append(u.Warnings, fmt.Sprintf("%s: its agent speaks of pod %s/%s, which is on another node: not believed", node, p.Namespace, p.End.Pod))
			}
		}
	}
	for _, text := range r.GetWarnings() {
		u.Warnings = append(u.Warnings, node+": "+text)
	}
}

// Usage makes the answer to q, at now. The error is a mistake of the user.
func Usage(q *tapv1alpha1.ResourcesQuery, u *Uses, now time.Time) (*tapv1alpha1.ResourceList, error) {
	kind := filter.Kind(q.Kind)
	if q.Kind != "" && q.Kind != tapv1alpha1.KindAll {
		r, err := filter.ParseResource(q.Kind, "")
		if err != nil {
			return nil, err
		}
		kind = r.Kind
	}
	m := &usageMerger{q: q, kind: kind, items: map[id]*used{}}
	byUID := make(map[string]*UsedPod, len(u.Pods))
	for i := range u.Pods {
		p := &u.Pods[i]
		byUID[p.UID] = p
		if q.Namespace == "" || q.Namespace == p.Namespace {
			m.pod(p)
		}
	}
	for _, s := range u.Services {
		if q.Namespace == "" || q.Namespace == s.Namespace {
			m.service(s, byUID)
		}
	}
	out := &tapv1alpha1.ResourceList{
		Kind: "ResourceList", APIVersion: tapv1alpha1.GroupVersion, Time: now.UTC(),
		Nodes: tapv1alpha1.Nodes{Asked: u.Asked, Answered: u.Answered}, Warnings: append([]string{}, u.Warnings...), Items: []tapv1alpha1.ResourceItem{},
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.items), compareIDs) {
		item := m.items[key].finish()
		item.ID = len(out.Items)
		out.Items = append(out.Items, *item)
	}
	return out, nil
}

type usageMerger struct {
	q     *tapv1alpha1.ResourcesQuery
	kind  filter.Kind // as parsed
	items map[id]*used
}

// kindWorkload stands for the kinds of all workloads.
const kindWorkload filter.Kind = ""

// item returns the item of a resource, or nil if it is not wanted. class is its kind, or
// kindWorkload.
func (m *usageMerger) item(class filter.Kind, key id) *used {
	if m.q.Name != "" && m.q.Name != key.name {
		return nil
	}
	switch m.kind {
	case tapv1alpha1.KindAll, class:
	default:
		if class != kindWorkload || m.kind != filter.Kind(key.kind) {
			return nil
		}
	}
	if m.items[key] == nil {
		m.items[key] = &used{item: tapv1alpha1.ResourceItem{Resource: tapv1alpha1.Resource{Kind: key.kind, Namespace: key.namespace, Name: key.name}}}
	}
	return m.items[key]
}

func (m *usageMerger) pod(p *UsedPod) {
	if m.q.Owner == "" || m.q.Owner == p.Name {
		m.item(filter.KindPod, id{string(filter.KindPod), p.Namespace, p.End.Pod}).add(p, true)
	}
	if m.q.Owner != "" {
		return
	}
	// A pod without an owner is its own workload, and was added as a pod unless only
	// workloads are wanted.
	if bare := p.Kind == string(filter.KindPod); !bare || m.kind == kindWorkload {
		m.item(kindWorkload, id{p.Kind, p.Namespace, p.Name}).add(p, true)
	}
	m.item(filter.KindNamespace, id{kind: figures.KindNamespace, name: p.Namespace}).add(p, false)
}

// service adds the pods behind a Service.
func (m *usageMerger) service(s *mesh.Service, pods map[string]*UsedPod) {
	if m.q.Owner != "" {
		return
	}
	u := m.item(filter.KindService, id{string(filter.KindService), s.Namespace, s.Name})
	if u == nil {
		return
	}
	seen := map[string]bool{}
	for i := range s.Ports {
		for _, e := range s.Ports[i].Endpoints {
			if p := pods[e.WorkloadUID]; p != nil && !seen[e.WorkloadUID] {
				seen[e.WorkloadUID] = true
				u.add(p, false)
			}
		}
	}
	u.service = true
}

// used is an item that is being summed up.
type used struct {
	item    tapv1alpha1.ResourceItem
	usage   tapv1alpha1.Usage
	known   int // pods of which something is known of their containers
	service bool
	told    int            // pods whose settings are known
	set     map[string]int // of these, those that have a setting
	// Pods of known without a limit.
	noCPULimit, noMemoryLimit bool
}

// add adds a pod. identified is false for an item whose pods have several identities. It is
// safe on nil.
func (u *used) add(p *UsedPod, identified bool) {
	if u == nil {
		return
	}
	r := &u.item
	r.Pods++
	if i, found := slices.BinarySearch(r.Nodes, p.Node); !found && p.Node != "" {
		r.Nodes = slices.Insert(r.Nodes, i, p.Node)
	}
	if p.Ready {
		r.Ready++
	}
	if p.Meshed {
		r.Meshed++
		if identified {
			r.Identity = cmp.Or(r.Identity, p.Identity)
			u.certificate(p)
			u.settings(p)
		}
	}
	if p.Used.GetContainers() == nil {
		r.Partial = true
	} else {
		u.containers(p.Used.GetContainers())
	}
	if c := p.Used.GetMesh(); c != nil && p.Meshed {
		if r.Mesh == nil {
			r.Mesh = &tapv1alpha1.MeshCost{}
		}
		r.Mesh.CPU += amount(c.GetCpu(), mostProcessors)
		r.Mesh.Waiting += amount(c.GetWaiting(), math.MaxUint32)
		r.Mesh.Memory += min(c.GetBuffered(), mostBytes)
		r.Mesh.Connections += uint64(c.GetConnections())
	}
}

// certificate keeps the one that expires first.
func (u *used) certificate(p *UsedPod) {
	expires := p.Used.GetCertificateExpires()
	if !expires.IsValid() || p.Identity == "" {
		return
	}
	if c := u.item.Certificate; c == nil || expires.AsTime().Before(c.Expires) {
		u.item.Certificate = &tapv1alpha1.Certificate{Identity: p.Identity, Expires: expires.AsTime()}
	}
}

// Bounds of what an agent may say of settings.
const (
	mostSettings   = 16
	mostValues     = 4
	longestSetting = 256
)

// settings adds those of a pod. The order is that of the first pod.
func (u *used) settings(p *UsedPod) {
	if len(p.Used.GetSettings()) > 0 {
		u.told++
	}
	said := map[string]bool{}
	for _, s := range p.Used.GetSettings() {
		name, value := s.GetName(), s.GetValue()
		if len(name) > longestSetting || len(value) > longestSetting || said[name] {
			continue
		}
		said[name] = true
		i := slices.IndexFunc(u.item.Settings, func(s tapv1alpha1.Setting) bool { return s.Name == name })
		if i < 0 {
			if len(u.item.Settings) == mostSettings {
				return
			}
			i = len(u.item.Settings)
			u.item.Settings = append(u.item.Settings, tapv1alpha1.Setting{Name: name})
		}
		if u.set == nil {
			u.set = map[string]int{}
		}
		u.set[name]++
		if values := &u.item.Settings[i].Values; len(*values) < mostValues && !slices.Contains(*values, value) {
			*values = append(*values, value)
		}
	}
}

// Bounds of what one pod may use: more is a mistake of its agent, and must not make the sums
// of others useless.
const (
	mostProcessors = 1 << 16
	mostBytes      = 1 << 50
)

func (u *used) containers(c *agentv1.ContainerUsage) {
	known, out := cgroup.Known(c.GetKnown()), &u.usage
	if known&cgroup.Everything == 0 {
		u.item.Partial = true
		return
	}
	u.known++
	if known.Has(cgroup.KnowsCPU) {
		sum := amount(c.GetCpu(), mostProcessors)
		if out.CPU != nil {
			sum += *out.CPU
		}
		out.CPU = &sum
	}
	if known.Has(cgroup.KnowsLimits) {
		limit := amount(c.GetCpuLimit(), mostProcessors)
		out.CPULimit += limit
		u.noCPULimit = u.noCPULimit || limit == 0
		out.Throttled = max(out.Throttled, amount(c.GetThrottled(), 1))
	}
	if known.Has(cgroup.KnowsMemory) {
		sum, limit := min(c.GetMemory(), mostBytes), min(c.GetMemoryLimit(), mostBytes)
		if out.Memory != nil {
			sum += *out.Memory
		}
		out.Memory = &sum
		out.MemoryLimit += limit
		u.noMemoryLimit = u.noMemoryLimit || limit == 0
		out.OOMKills += min(c.GetOomKills(), math.MaxUint32)
	}
	if known.Has(cgroup.KnowsPressure) {
		if out.PSI == nil {
			out.PSI = &tapv1alpha1.PSI{}
		}
		for _, p := range []struct {
			most *float64
			of   *agentv1.ResourcePressure
		}{{&out.PSI.CPU, c.GetCpuPressure()}, {&out.PSI.Memory, c.GetMemoryPressure()}, {&out.PSI.IO, c.GetIoPressure()}} {
			*p.most = max(*p.most, amount(p.of.GetAvg10(), 100))
		}
	}
}

// amount returns v if it is a number from 0 to most, and the nearest one if it is not. JSON
// has no other numbers.
func amount(v, most float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, 0), most)
}

func (u *used) finish() *tapv1alpha1.ResourceItem {
	if u.service { // its pods' usage is that of their workloads
		u.item.Mesh, u.item.Partial = nil, false
		return &u.item
	}
	for i := range u.item.Settings {
		if s := &u.item.Settings[i]; u.set[s.Name] < u.told {
			s.Values = append(s.Values, tapv1alpha1.NotSet)
		}
	}
	if u.noCPULimit {
		u.usage.CPULimit = 0
	}
	if u.noMemoryLimit {
		u.usage.MemoryLimit = 0
	}
	if u.known > 0 {
		u.item.Usage = &u.usage
	}
	return &u.item
}
