package translate

import (
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

// leftOut returns why p cannot be meshed, "" if it can.
func leftOut(p *Pod) string {
	switch {
	case p.Spec.HostNetwork:
		return "host network"
	case p.Namespace == mesh.SystemNamespace:
		return "part of the mesh itself" // it must run before the mesh works
	}
	return ""
}

// podAddrs returns the pod's addresses, the primary one first.
func podAddrs(p *Pod, report reporter) []netip.Addr {
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
func ready(p *Pod, hasAddr bool) bool {
	return p.DeletionTimestamp == nil && serving(p, hasAddr)
}

// serving returns the pod's Ready condition. A pod without conditions (from a plain
// manifest) serves if it has an address.
func serving(p *Pod, hasAddr bool) bool {
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
func owner(p *Pod) (kind, name string) {
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
