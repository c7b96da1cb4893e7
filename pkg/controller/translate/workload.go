package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// workload is a pod with what is made of it: first what the pod itself says and its namespace,
// then, as who has its addresses and which policies select it is known, the workload.
type workload struct {
	name
	tr     *Translator
	object *Pod
	base   baseUnit
	final  finalUnit
	// What the units have computed:
	read   *pod         // without what other pods and policies say
	made   *pod         // the workload; nil: there is none
	claims []netip.Addr // addresses that are indexed
	uid    string       // with policies; "": none
}

type baseUnit struct {
	depend.Node
	w *workload
}

type finalUnit struct {
	depend.Node
	w *workload
}

func (u *baseUnit) Compute() bool  { return u.w.computeBase() }
func (u *finalUnit) Compute() bool { return u.w.computeFinal() }

// computeBase reads the pod. It depends on the pod, its namespace and the zone of its node.
func (w *workload) computeBase() bool {
	t := w.tr.translation()
	old := w.read
	w.read = nil
	if w.object != nil {
		w.read = t.readPod(w.object, old)
	}
	w.tr.out.say(&w.base.Node, &t.Result)
	same := old != nil && w.read != nil && old.workload.Alike(w.read.workload) && sameMode(old.mode, w.read.mode)
	if same {
		w.read.workload = old.workload
	}
	var claims []netip.Addr
	if w.read != nil && !w.read.workload.HostNetwork {
		claims = w.read.workload.Addrs
	}
	w.tr.claimAddresses(w, claims, !same || old.DeletionTimestamp == nil != (w.read.DeletionTimestamp == nil))
	if w.read == nil && old == nil {
		return false
	}
	w.tr.graph.Touch(&w.tr.pods(w.namespace).counted)
	return !same || old.Pod != w.read.Pod
}

func sameMode(a, b defaultMode) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// readPod makes a workload of a pod, nil of one that has ended or has no node yet. old is what
// was made of it before, nil for nothing.
func (t *translation) readPod(p *Pod, old *pod) *pod {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil // its processes have ended, and another pod may have its address
	}
	report := func(format string, args ...any) { t.problem("Pod", p.Namespace, p.Name, format, args...) }
	addrs := podAddrs(p, report)
	if p.Spec.NodeName == "" && len(addrs) == 0 {
		return nil // not scheduled yet
	}
	ns := t.from.namespace(p.Namespace)
	account := cmp.Or(p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount, "default")
	kind, name := owner(p)
	w := &mesh.Workload{
		UID:            cmp.Or(string(p.UID), key(p.Namespace, p.Name)), // plain manifests have no UID
		Name:           p.Name,
		Namespace:      p.Namespace,
		ServiceAccount: account,
		Node:           p.Spec.NodeName,
		Zone:           t.from.zone(p.Spec.NodeName),
		OwnerKind:      kind,
		OwnerName:      name,
		Labels:         labelsOf(p, old),
		Addrs:          addrs,
		Identity:       mesh.Identity{TrustDomain: t.config.TrustDomain, Namespace: p.Namespace, ServiceAccount: account},
		HostNetwork:    p.Spec.HostNetwork,
		Ready:          ready(p, len(addrs) > 0),
		Terminating:    p.DeletionTimestamp != nil,
		NetworkPolicy:  ns.wire || ns.selectedByPolicy(p.Labels),
		Settings:       settingsOf(p.Annotations, ns.settings, report),
		OwnLabel:       p.Labels[mesh.LabelMesh] != "",
		OwnSettings:    p.Annotations[mesh.AnnotationPolicy] != "" || p.Annotations[mesh.AnnotationFailMode] != "",
	}
	if _, ok := p.Annotations[mesh.AnnotationSameNode]; ok {
		report("annotation %s: has an effect on a namespace only", mesh.AnnotationSameNode)
	}
	switch meshLabel(p.Labels, ns.label, report) {
	case mesh.LabelObserve:
		w.Observed = leftOut(p) == ""
	case mesh.LabelEnabled:
		w.LeftOut = leftOut(p)
		w.Meshed = w.LeftOut == ""
		w.Enrolled = w.Meshed && p.Annotations[mesh.AnnotationEnrolled] == "true"
	}
	return &pod{Pod: p, workload: w, mode: defaultModeOf(p.Annotations, ns.mode, report)}
}

// labelsOf returns the labels of a pod, the same string as before if they are the same.
func labelsOf(p *Pod, old *pod) mesh.Labels {
	if old != nil && maps.Equal(old.Pod.Labels, p.Labels) {
		return old.workload.Labels
	}
	return mesh.LabelsOf(p.Labels)
}

// computeFinal makes the workload. It depends on what computeBase has read, on who has its
// addresses, and on the policies of its namespace.
func (w *workload) computeFinal() bool {
	old := w.made
	w.made = nil
	w.tr.graph.Read(&w.base.Node)
	var said Result
	var spec *authz.Spec
	if base := w.read; base != nil {
		out := *base.workload
		p := &pod{Pod: base.Pod, workload: &out, mode: base.mode, unread: unreadLimits(&out.Settings)}
		w.settleAddresses(p, &said)
		if out.Meshed {
			spec = w.tr.policiesOf(w.namespace).judge(p, &said)
		}
		switch {
		case old != nil && old.workload.Alike(&out):
			p.workload = old.workload
		case base.workload.Alike(&out):
			p.workload = base.workload
		}
		w.made = p
	}
	w.tr.out.say(&w.final.Node, &said)
	w.publish(spec)
	if old == nil || w.made == nil {
		return old != w.made
	}
	return old.workload != w.made.workload || old.Pod != w.made.Pod && !sameServed(old.Pod, w.made.Pod)
}

// publish sets what the pod is in the Result.
func (w *workload) publish(spec *authz.Spec) {
	uid := ""
	if w.made == nil {
		w.tr.out.workloads.set(w.name, nil)
	} else {
		w.tr.out.workloads.set(w.name, w.made.workload)
		if spec != nil {
			uid = w.made.workload.UID
		}
	}
	if w.uid != "" && w.uid != uid {
		w.tr.out.authz.set(w.uid, nil)
	}
	w.uid = uid
	if uid != "" {
		if old := w.tr.out.authz.now[uid]; old == nil || !reflect.DeepEqual(old, spec) {
			w.tr.out.authz.set(uid, spec)
		}
	}
}

// sameServed reports whether a pod is the same for a Service that selects it, beside its
// labels and its workload.
func sameServed(a, b *Pod) bool {
	return serving(a, true) == serving(b, true) && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		reflect.DeepEqual(a.Spec.Containers, b.Spec.Containers) && reflect.DeepEqual(a.Spec.InitContainers, b.Spec.InitContainers)
}
