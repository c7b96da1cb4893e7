package supervisor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// pod is a pod and its resources on the machine. The cluster's mu guards it.
type pod struct {
	obj         *corev1.Pod // as the controller sees it
	applied     string      // its spec as in the manifest
	node, index int
	pause       *exec.Cmd
	listeners   *host.Listeners // opened at first use; keeps the network namespace alive
	containers  []*container
	deleting    bool
	stop        chan struct{} // closed when removal begins: do not restart programs
	hosts       string        // current content of /etc/hosts
}

// preparePod assigns a node and addresses to a pod and makes its cgroup,
// namespaces and network. It does not start its programs.
func (c *cluster) preparePod(obj *corev1.Pod, applied string) (*pod, error) {
	c.mu.Lock()
	node, index, err := c.schedule(obj)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	p := &pod{obj: obj, applied: applied, node: node, index: index, stop: make(chan struct{})}
	admit(p)
	for i := range obj.Spec.Containers {
		p.containers = append(p.containers, newContainer(&obj.Spec.Containers[i]))
	}
	c.ensureNamespace(obj.Namespace, obj.Spec.ServiceAccountName)
	c.pods[obj.Namespace+"/"+obj.Name] = p // reserves its index
	c.mu.Unlock()
	if err := c.buildPod(p); err != nil {
		c.removePod(p)
		return nil, err
	}
	return p, nil
}

// admit sets the fields that an API server, a scheduler and a kubelet would set.
func admit(p *pod) {
	obj := p.obj
	obj.UID = newUID()
	obj.CreationTimestamp = metav1.Now()
	obj.Spec.NodeName = layout.NodeName(p.node)
	if obj.Spec.ServiceAccountName == "" {
		obj.Spec.ServiceAccountName = "default"
	}
	if obj.Spec.RestartPolicy == "" {
		obj.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	start := metav1.Now()
	obj.Status = corev1.PodStatus{Phase: corev1.PodPending, StartTime: &start}
	for _, a := range layout.PodAddrs(p.node, p.index) {
		obj.Status.PodIPs = append(obj.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	for _, a := range layout.NodeAddrs(p.node) {
		obj.Status.HostIPs = append(obj.Status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	obj.Status.PodIP, obj.Status.HostIP = obj.Status.PodIPs[0].IP, obj.Status.HostIPs[0].IP
	setReady(obj, false)
}

func (c *cluster) buildPod(p *pod) error {
	dir := c.layout.PodDir(p.obj.Namespace, p.obj.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hosts, resolv := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(hosts, nil, 0o644); err != nil {
		return err
	}
	// There is no server at this address, so a name that is not in /etc/hosts fails
	// at once.
	if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		return err
	}
	cgroup := p.cgroup(c.layout)
	if err := host.MakeCgroup(cgroup); err != nil {
		return err
	}
	files := map[string]string{"/etc/hosts": hosts, "/etc/resolv.conf": resolv}
	pause, err := host.Pause(cgroup, hostname(p.obj), files)
	if err != nil {
		return err
	}
	c.mu.Lock()
	p.pause = pause
	c.mu.Unlock()
	c.reaped.Go(func() { pause.Wait() })
	netns := c.layout.PodNetns(p.obj.Namespace, p.obj.Name)
	if err := host.NameNetns(fmt.Sprintf("/proc/%d/ns/net", pause.Process.Pid), netns); err != nil {
		return err
	}
	return fabric.Attach(c.layout, p.node, p.index, netns)
}

// startPod starts the programs of a prepared pod.
func (c *cluster) startPod(p *pod) {
	for _, ct := range p.containers {
		c.reaped.Go(func() { c.runContainer(p, ct) })
	}
}

// removePod ends a pod's programs within their grace period and removes everything
// of the pod.
func (c *cluster) removePod(p *pod) error {
	c.mu.Lock()
	if p.deleting {
		c.mu.Unlock()
		return nil
	}
	p.deleting = true
	now := metav1.Now()
	p.obj.DeletionTimestamp = &now
	setReady(p.obj, false)
	close(p.stop)
	c.mu.Unlock()
	err := c.sync() // first take the pod out of its services
	c.terminate(p, gracePeriod(p.obj))
	err = errors.Join(err,
		host.RemoveCgroup(p.cgroup(c.layout)),
		fabric.Detach(c.layout, p.node, p.index),
		host.DropNetns(c.layout.PodNetns(p.obj.Namespace, p.obj.Name)),
		os.RemoveAll(c.layout.PodDir(p.obj.Namespace, p.obj.Name)))
	c.mu.Lock()
	if p.listeners != nil {
		p.listeners.Close()
	}
	delete(c.pods, p.obj.Namespace+"/"+p.obj.Name)
	c.mu.Unlock()
	return err
}

// gracePeriod returns the pod's grace period, but not more than a lab waits.
func gracePeriod(obj *corev1.Pod) time.Duration {
	if s := obj.Spec.TerminationGracePeriodSeconds; s != nil {
		return min(time.Duration(*s)*time.Second, 10*time.Second)
	}
	return 3 * time.Second
}

func (p *pod) cgroup(l layout.Layout) string {
	return l.PodCgroup(layout.NodeName(p.node), p.obj.Namespace, p.obj.Name, string(p.obj.UID))
}

func (p *pod) addrs() []netip.Addr { return layout.PodAddrs(p.node, p.index) }

func (p *pod) report(l layout.Layout) api.Pod {
	o := p.obj
	status, restarts := p.status()
	r := api.Pod{
		Namespace: o.Namespace, Name: o.Name, Node: o.Spec.NodeName, UID: string(o.UID),
		Deployment: deploymentOf(o), Labels: maps.Clone(o.Labels), IPs: p.addrs(),
		Ready: isReady(o), Status: status, Restarts: restarts,
		Netns: l.PodNetns(o.Namespace, o.Name), Cgroup: p.cgroup(l),
		HostVeth: layout.HostVeth(p.index), Log: l.PodLog(o.Namespace, o.Name),
	}
	if p.pause != nil {
		r.Pid = p.pause.Process.Pid
	}
	return r
}

// hostname returns the pod's name, cut to the length that the kernel allows.
func hostname(obj *corev1.Pod) string {
	name := obj.Name
	if obj.Spec.Hostname != "" {
		name = obj.Spec.Hostname
	}
	return name[:min(len(name), 63)]
}

func isReady(obj *corev1.Pod) bool {
	for _, c := range obj.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func setReady(obj *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	if isReady(obj) == ready && len(obj.Status.Conditions) > 0 {
		return
	}
	obj.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
}

// newUID returns a random UUID (RFC 9562, version 4).
func newUID() types.UID {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
