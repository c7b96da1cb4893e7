package containers

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/mesh"
)

// Report returns what the pods use now, with rates since a sample that is at least a second
// old.
func (s *Sampler) Report() *agentv1.ResourcesResponse {
	s.mu.Lock()
	now := time.Now()
	base := s.base(now)
	one := s.take(now, cgroup.Everything)
	pods, failed := s.Pods(), s.err
	s.mu.Unlock()

	out := &agentv1.ResourcesResponse{Node: s.Node, Time: timestamppb.New(now)}
	if base != nil {
		out.Seconds = now.Sub(base.at).Seconds()
	}
	unknown := 0
	expiry := s.Certificates()
	for _, w := range pods {
		p := &agentv1.PodResource{
			Uid: w.UID, Namespace: w.Namespace, Name: w.Name, OwnerKind: w.OwnerKind, OwnerName: w.OwnerName,
			Meshed: w.Meshed, Ready: w.Ready,
		}
		if w.Meshed {
			p.Identity = w.Identity.String()
			p.Settings = settings(w)
			if expires, ok := expiry[w.Identity]; ok {
				p.CertificateExpires = timestamppb.New(expires)
			}
		}
		if usage, ok := one.pods[w.UID]; ok {
			p.Containers = containers(&usage)
			if old, ok := base.pod(w.UID); ok {
				p.Containers.Cpu, p.Containers.Throttled = rates(&usage, &old, out.Seconds)
			}
		} else {
			unknown++
		}
		p.Mesh = one.mesh(w.UID, base)
		out.Pods = append(out.Pods, p)
	}
	slices.SortFunc(out.Pods, func(a, b *agentv1.PodResource) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Uid, b.Uid))
	})
	switch {
	case failed != nil:
		out.Warnings = append(out.Warnings, "what containers use is not known: "+failed.Error())
	case unknown > 0:
		out.Warnings = append(out.Warnings, notFound(unknown, len(pods)))
	}
	return out
}

// longestSetting is how many bytes of a setting are told: a list of ports may be long.
const longestSetting = 256

func settings(w *mesh.Workload) (out []*agentv1.PodSetting) {
	for _, s := range w.SettingTexts() {
		if len(s.Value) > longestSetting {
			s.Value = s.Value[:longestSetting-len("…")] + "…"
		}
		out = append(out, &agentv1.PodSetting{Name: s.Name, Value: s.Value})
	}
	return out
}

func containers(u *cgroup.Usage) *agentv1.ContainerUsage {
	return &agentv1.ContainerUsage{
		Known: uint32(u.Known), CpuLimit: u.CPULimit, ThrottledSeconds: u.ThrottledFor.Seconds(),
		Memory: u.Memory, WorkingSet: u.WorkingSet, MemoryPeak: u.Peak, MemoryLimit: u.MemoryLimit, MemoryFill: u.Fill,
		Ooms: u.OOMs, OomKills: u.OOMKills,
		CpuPressure: pressure(u.CPUPressure), MemoryPressure: pressure(u.MemoryPressure), IoPressure: pressure(u.IOPressure),
	}
}

func pressure(p cgroup.Pressure) *agentv1.ResourcePressure {
	if p == (cgroup.Pressure{}) {
		return nil
	}
	return &agentv1.ResourcePressure{Avg10: p.Avg10, Avg60: p.Avg60, TotalSeconds: p.Total.Seconds()}
}

// pod returns what a pod had used. It is safe on nil.
func (s *sample) pod(uid string) (u cgroup.Usage, ok bool) {
	if s != nil {
		u, ok = s.pods[uid]
	}
	return u, ok
}

// rates returns how many processors a pod used since old, and the part of the periods in
// which it was throttled. The counts of a container that was removed are gone: a rate is
// not below 0.
func rates(now, old *cgroup.Usage, seconds float64) (processors, throttled float64) {
	if now.Throttled > old.Throttled && now.Periods > old.Periods {
		throttled = min(1, float64(now.Throttled-old.Throttled)/float64(now.Periods-old.Periods))
	}
	return rate(now.CPU, old.CPU, seconds), throttled
}

func rate(now, old time.Duration, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return max(0, (now-old).Seconds()/seconds)
}

func notFound(unknown, all int) string {
	return fmt.Sprintf("what the containers of %d of %d pods use is not known: their cgroups were not found", unknown, all)
}
