package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
)

// minKernel has the features that the agent's programs need: sk_lookup, bpf_link
// for cgroups, and netns cookies in sock_addr programs.
var minKernel = utilversion.MustParseGeneric("5.15")

// readyNodes returns the Linux nodes that are ready.
func (c *checker) readyNodes(ctx context.Context) ([]corev1.Node, error) {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(n corev1.Node) bool {
		os := n.Labels[corev1.LabelOSStable]
		return !installation.NodeReady(&n) || os != "" && os != "linux"
	}), nil
}

// nodes returns the checks of the agents' requirements for nodes.
func (c *clusterChecks) nodes() check.Category {
	return check.Category{Name: "node-features", Probes: []check.Probe{
		probe("all nodes run Linux "+minKernel.String()+" or newer", "upgrade these nodes, or keep agents off them with --set agent.nodeSelector.KEY=VALUE", c.kernels),
		probe("container runtimes announce pods before they start", "containerd 2 and CRI-O 1.30 do it by default (NRI); with others a pod's first connections may pass before it is captured", c.runtimes),
		probe("the agent's ports are free on every node", "4191 is for metrics and health, 4193 for tap: move the other pods", c.hostPorts),
	}}
}

func (c *clusterChecks) kernels(ctx context.Context) error {
	nodes, err := c.readyNodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return errors.New("there is no Linux node that is ready")
	}
	var bad []string
	for _, n := range nodes {
		kernel := n.Status.NodeInfo.KernelVersion
		v, err := utilversion.ParseGeneric(kernel)
		switch {
		case err != nil:
			bad = append(bad, fmt.Sprintf("node %s: kernel %q: %v", n.Name, kernel, err))
		case v.LessThan(minKernel):
			bad = append(bad, fmt.Sprintf("node %s runs Linux %s", n.Name, kernel))
		}
	}
	return check.Lines(bad)
}

// nriSince has the first version of each runtime in which NRI is enabled by
// default.
var nriSince = map[string]*utilversion.Version{
	"containerd": utilversion.MustParseGeneric("2.0.0"),
	"cri-o":      utilversion.MustParseGeneric("1.30.0"),
}

func (c *clusterChecks) runtimes(ctx context.Context) error {
	nodes, err := c.readyNodes(ctx)
	if err != nil {
		return err
	}
	var bad []string
	for _, n := range nodes {
		name, version, _ := strings.Cut(n.Status.NodeInfo.ContainerRuntimeVersion, "://")
		since := nriSince[name]
		v, err := utilversion.ParseGeneric(version)
		if since == nil || err != nil || v.LessThan(since) {
			bad = append(bad, fmt.Sprintf("node %s has %s", n.Name, n.Status.NodeInfo.ContainerRuntimeVersion))
		}
	}
	return check.Warn(check.Lines(bad))
}

func (c *clusterChecks) hostPorts(ctx context.Context) error {
	pods, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var bad []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Labels[installation.PartOfLabel] == installation.PartOf {
			continue
		}
		for _, container := range p.Spec.Containers {
			for _, port := range container.Ports {
				taken := port.HostPort
				if p.Spec.HostNetwork {
					taken = port.ContainerPort
				}
				if taken == 4191 || taken == 4193 {
					bad = append(bad, fmt.Sprintf("pod %s/%s has port %d of node %s", p.Namespace, p.Name, taken, p.Spec.NodeName))
				}
			}
		}
	}
	return check.Lines(bad)
}

// neighbours returns the checks for other programs that redirect connections.
func (c *clusterChecks) neighbours() check.Category {
	return check.Category{Name: "other-meshes-and-cni", Probes: []check.Probe{
		probe("Cilium's socket load balancer leaves pods alone", "set socketLB.hostNamespaceOnly=true in Cilium's Helm values and restart its agents: with both at the connect call, a Service's address may be replaced by a pod's before Underlane sees it, and its requests are not balanced", c.cilium),
		probe("no pod or namespace is in another mesh too", "take one of the two off: each proxy would carry the other's connections", c.otherMeshes),
	}}
}

func (c *clusterChecks) cilium(ctx context.Context) error {
	maps, err := c.client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=cilium-config"})
	if err != nil {
		return check.Warn(fmt.Errorf("look for Cilium's configuration: %w", err))
	}
	for _, m := range maps.Items {
		if m.Name != "cilium-config" {
			continue
		}
		replacement := m.Data["kube-proxy-replacement"]
		on := m.Data["bpf-lb-sock"] == "true" || replacement == "true" || replacement == "strict"
		if on && m.Data["bpf-lb-sock-hostns-only"] != "true" {
			return check.Warn(fmt.Errorf("ConfigMap %s/cilium-config: the socket load balancer is on (kube-proxy-replacement: %q, bpf-lb-sock: %q) and bpf-lb-sock-hostns-only is not true",
				m.Namespace, replacement, m.Data["bpf-lb-sock"]))
		}
	}
	return nil
}

// otherMesh returns the name of another mesh that the labels and annotations of o
// select.
func otherMesh(o metav1.Object) string {
	l, a := o.GetLabels(), o.GetAnnotations()
	switch {
	case l["istio.io/dataplane-mode"] == "ambient":
		return "Istio (label istio.io/dataplane-mode=ambient)"
	case l["istio-injection"] == "enabled":
		return "Istio (label istio-injection=enabled)"
	case l["istio.io/rev"] != "":
		return "Istio (label istio.io/rev)"
	case l["sidecar.istio.io/inject"] == "true":
		return "Istio (label sidecar.istio.io/inject=true)"
	case a["linkerd.io/inject"] == "enabled" || a["linkerd.io/inject"] == "ingress":
		return "Linkerd (annotation linkerd.io/inject)"
	case l["kuma.io/sidecar-injection"] == "enabled":
		return "Kuma (label kuma.io/sidecar-injection)"
	}
	return ""
}

func (c *clusterChecks) otherMeshes(ctx context.Context) error {
	meshed, err := c.meshedPods(ctx)
	if err != nil {
		return err
	}
	var bad []string
	for i := range meshed.namespaces {
		n := &meshed.namespaces[i]
		if other := otherMesh(n); n.Labels[mesh.LabelMesh] == mesh.LabelEnabled && other != "" {
			bad = append(bad, fmt.Sprintf("namespace %s is also in %s", n.Name, other))
		}
	}
	for i := range meshed.pods {
		p := &meshed.pods[i]
		for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if container.Name == "istio-proxy" || container.Name == "linkerd-proxy" || container.Name == "kuma-sidecar" {
				bad = append(bad, fmt.Sprintf("pod %s/%s has the sidecar %s", p.Namespace, p.Name, container.Name))
			}
		}
	}
	return check.Lines(bad)
}
