package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

const labelTemplateHash = "pod-template-hash"

func (t *translation) addPod(p *corev1.Pod) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return // its processes have ended, and another pod may have its address
	}
	report := func(format string, args ...any) { t.problem("Pod", p.Namespace, p.Name, format, args...) }
	addrs := podAddrs(p, report)
	if p.Spec.NodeName == "" && len(addrs) == 0 {
		return // not scheduled yet
	}
	ns := t.namespace(p.Namespace)
	account := cmp.Or(p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount, "default")
	kind, name := owner(p)
	w := &mesh.Workload{
		UID:            cmp.Or(string(p.UID), key(p.Namespace, p.Name)), // plain manifests have no UID
		Name:           p.Name,
		Namespace:      p.Namespace,
		ServiceAccount: account,
		Node:           p.Spec.NodeName,
		Zone:           t.zones[p.Spec.NodeName],
		OwnerKind:      kind,
		OwnerName:      name,
		Labels:         mesh.LabelsOf(p.Labels),
		Addrs:          addrs,
		Identity:       mesh.Identity{TrustDomain: t.config.TrustDomain, Namespace: p.Namespace, ServiceAccount: account},
		HostNetwork:    p.Spec.HostNetwork,
		Ready:          ready(p, len(addrs) > 0),
		Terminating:    p.DeletionTimestamp != nil,
		NetworkPolicy:  t.wire || ns.wire || ns.selectedByPolicy(p.Labels),
		Settings:       settingsOf(p.Annotations, ns.settings, report),
		OwnLabel:       p.Labels[mesh.LabelMesh] != "",
		OwnSettings:    p.Annotations[mesh.AnnotationPolicy] != "" || p.Annotations[mesh.AnnotationFailMode] != "",
	}
	if optedIn(p.Labels, ns.meshed, report) {
		w.LeftOut = leftOut(p)
		w.Meshed = w.LeftOut == ""
		w.Enrolled = w.Meshed && p.Annotations[mesh.AnnotationEnrolled] == "true"
	}
	t.Workloads = append(t.Workloads, w)
	known := &pod{Pod: p, workload: w, mode: defaultModeOf(p.Annotations, ns.mode, report)}
	t.pods[p.Namespace] = append(t.pods[p.Namespace], known)
	t.byName[key(p.Namespace, p.Name)] = known
}

// leftOut returns why p cannot be meshed, "" if it can.
func leftOut(p *corev1.Pod) string {
	switch {
	case p.Spec.HostNetwork:
		return "host network"
	case p.Namespace == mesh.SystemNamespace:
		return "part of the mesh itself" // it must run before the mesh works
	}
	return ""
}

// podAddrs returns the pod's addresses, the primary one first.
func podAddrs(p *corev1.Pod, report reporter) []netip.Addr {
	ips := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	var out []netip.Addr
	for _, ip := range ips {
		if ip == "" {
			continue
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" {
			report("status.podIP %q is not an IP address", ip)
			continue
		}
		if addr = addr.Unmap(); !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// ready reports whether the pod serves and is not terminating.
func ready(p *corev1.Pod, hasAddr bool) bool {
	return p.DeletionTimestamp == nil && serving(p, hasAddr)
}

// serving returns the pod's Ready condition. A pod without conditions (from a plain
// manifest) serves if it has an address.
func serving(p *corev1.Pod, hasAddr bool) bool {
	if !hasAddr {
		return false
	}
	if len(p.Status.Conditions) == 0 {
		return true
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// owner returns the owner that users know. For a pod of a Deployment this is the
// Deployment and not its ReplicaSet, whose name is the Deployment's name and a hash
// of the template. For a pod of a CronJob it is the CronJob and not the Job of one run.
func owner(p *corev1.Pod) (kind, name string) {
	ref := metav1.GetControllerOf(p)
	if ref == nil {
		return "pod", p.Name
	}
	if ref.Kind == "ReplicaSet" {
		hash := p.Labels[labelTemplateHash]
		if name, ok := strings.CutSuffix(ref.Name, "-"+hash); ok && hash != "" && name != "" {
			return "deployment", name
		}
	}
	if ref.Kind == "Job" {
		if name, ok := cronJob(ref.Name, p.CreationTimestamp.Time); ok {
			return "cronjob", name
		}
	}
	return strings.ToLower(ref.Kind), ref.Name
}

// A Job that a CronJob makes has its name and the scheduled minute since the Unix epoch
// (getJobName in Kubernetes' cronjob_controllerv2.go). A pod may be made that long after it,
// because of failed ones, and a clock may be so far behind.
const (
	cronJobPods  = 30 * 24 * time.Hour
	cronJobClock = 5 * time.Minute
)

// cronJob returns the CronJob that has made a Job of this name, which has made a pod at this
// time.
func cronJob(job string, created time.Time) (name string, ok bool) {
	at := strings.LastIndexByte(job, '-')
	if at <= 0 || created.IsZero() {
		return "", false
	}
	minute, err := strconv.ParseUint(job[at+1:], 10, 32)
	if err != nil {
		return "", false
	}
	after := created.Sub(time.Unix(int64(minute)*60, 0))
	return job[:at], after > -cronJobClock && after < cronJobPods
}

// indexAddresses indexes pods by address and reports addresses that two pods share.
// If another pod has got the address of a terminating pod, the address is removed
// from the terminating pod.
func (t *translation) indexAddresses() {
	var living, dying []*pod
	for _, pods := range t.pods {
		for _, p := range pods {
			switch {
			case p.workload.HostNetwork:
			case p.DeletionTimestamp != nil:
				dying = append(dying, p)
			default:
				living = append(living, p)
			}
		}
	}
	byName := func(a, b *pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(living, byName)
	slices.SortFunc(dying, byName)
	for _, p := range living {
		for _, addr := range p.workload.Addrs {
			if other := t.byAddr[addr]; other != nil {
				t.problem("Pod", p.Namespace, p.Name, "has the address %s of pod %s/%s", addr, other.Namespace, other.Name)
				continue
			}
			t.byAddr[addr] = p
		}
	}
	for _, p := range dying {
		p.workload.Addrs = slices.DeleteFunc(p.workload.Addrs, func(addr netip.Addr) bool {
			if t.byAddr[addr] != nil {
				return true
			}
			t.byAddr[addr] = p
			return false
		})
	}
}
