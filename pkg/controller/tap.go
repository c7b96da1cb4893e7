package controller

import (
	"cmp"
	"net"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
)

// serviceName is that of the Service in front of controllers.
const serviceName = "underlane-controller"

// newTap opens the API through which people hear the agents.
func (c *Controller) newTap(client kubernetes.Interface, authority tapapi.Authority, namespace string, source *watch.Cluster) (*tapapi.Server, error) {
	return tapapi.New(tapapi.Options{
		Addr: c.opt.Cluster.TapAddr, Client: client, Authority: authority, Cluster: published{c, source},
		Namespace: namespace, Service: serviceName,
		State: func() any { return c.Status() }, Metrics: metricsHandler(c), Accepts: c.accepts, Log: c.opt.Log,
	})
}

// published is the cluster as the agents are told of it.
type published struct {
	c      *Controller
	source *watch.Cluster
}

func (p published) Workloads() []*mesh.Workload {
	if r := p.c.latest.Load(); r != nil {
		return r.Workloads
	}
	return nil
}

func (p published) Services() []*mesh.Service {
	if r := p.c.latest.Load(); r != nil {
		return r.Services
	}
	return nil
}

func (p published) Labels(uid string) map[string]string {
	if pod := p.source.Pod(uid); pod != nil {
		return pod.Labels
	}
	return nil
}

// Nodes are those that have an address, by name. The agents of all nodes are
// called there, also of those that have their stream with another replica.
func (p published) Nodes() []fanin.Node {
	var out []fanin.Node
	for _, n := range p.source.Nodes() {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				out = append(out, fanin.Node{Name: n.Name, Address: net.JoinHostPort(a.Address, tapapi.AgentPort)})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b fanin.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
