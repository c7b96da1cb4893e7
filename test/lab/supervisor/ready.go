package supervisor

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/test/lab/host"
)

const (
	pollUnready = 40 * time.Millisecond
	pollReady   = 10 // a ready pod is checked in every pollReady-th poll
)

// watch updates the status of pods and applies changes until ctx ends.
func (c *cluster) watch(ctx context.Context) {
	tick := time.NewTicker(pollUnready)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.poll(n%pollReady == 0)
		case <-c.kick:
			if err := c.sync(); err != nil && ctx.Err() == nil {
				c.log.Error("carry out a change", "err", err)
			}
		}
	}
}

// poll checks the pods that are not ready or, with all, all pods.
func (c *cluster) poll(all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if p.pause == nil || p.deleting || (isReady(p.obj) && !all) {
			continue
		}
		if c.refresh(p) {
			c.changed()
		}
	}
}

// refresh sets a pod's phase and readiness and reports whether either changed. A
// pod is ready if all its programs run and all declared TCP ports have a listener.
// mu is held.
func (c *cluster) refresh(p *pod) bool {
	status, restarts := p.status()
	phase := corev1.PodRunning
	switch status {
	case "ContainerCreating":
		phase = corev1.PodPending
	case "Completed":
		phase = corev1.PodSucceeded
	case "Error":
		phase = corev1.PodFailed
	}
	ready := status == "Running" && c.listening(p)
	changed := phase != p.obj.Status.Phase || ready != isReady(p.obj) || restarts != restartCount(p.obj)
	if changed {
		p.obj.Status.Phase = phase
		setReady(p.obj, ready)
		p.obj.Status.ContainerStatuses = containerStatuses(p, ready)
	}
	return changed
}

func restartCount(obj *corev1.Pod) int {
	n := 0
	for _, s := range obj.Status.ContainerStatuses {
		n += int(s.RestartCount)
	}
	return n
}

func containerStatuses(p *pod, ready bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, ct := range p.containers {
		out = append(out, corev1.ContainerStatus{
			Name: ct.spec.Name, Image: ct.spec.Image, Ready: ready, RestartCount: int32(ct.restarts),
		})
	}
	return out
}

func tcpPorts(spec *corev1.PodSpec) []uint16 {
	var ports []uint16
	for _, c := range spec.Containers {
		for _, p := range c.Ports {
			if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
				ports = append(ports, uint16(p.ContainerPort))
			}
		}
	}
	return ports
}

// listening reports whether all declared TCP ports of a pod have a listener. mu is
// held.
func (c *cluster) listening(p *pod) bool {
	ports := tcpPorts(&p.obj.Spec)
	if len(ports) == 0 {
		return true
	}
	if p.listeners == nil {
		l, err := host.OpenListeners(c.layout.PodNetns(p.obj.Namespace, p.obj.Name))
		if err != nil {
			return false // the namespace does not exist yet
		}
		p.listeners = l
	}
	open, err := p.listeners.Ports()
	if err != nil {
		c.log.Error("look at a pod's ports", "pod", p.obj.Namespace+"/"+p.obj.Name, "err", err)
		return false
	}
	for _, port := range ports {
		if !open[port] {
			return false
		}
	}
	return true
}
