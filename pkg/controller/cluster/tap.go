package cluster

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/watch/apiserver"
)

// serviceName is the name of the Service in front of the controllers.
const serviceName = "underlane-controller"

// newTap opens the API that passes the agents' events on to users.
func (c *cluster) newTap(of *controller.Controller) (*tapapi.Server, error) {
	return tapapi.New(tapapi.Options{
		Addr: c.tapAddr, Client: c.client, Authority: c.issuer.Authority, Cluster: published{of, c.objects},
		Namespace: c.namespace, Service: serviceName,
		State: func() any { return of.Status() }, Metrics: of.MetricsHandler(), Accepts: of.Accepts(), Log: c.lease.log, Policies: of,
		History: tapapi.History{Bytes: c.history.Bytes, File: c.history.File, Leading: c.lease.leading.Load},
	})
}

// published is the state of the cluster that the controller has sent to the agents.
type published struct {
	*controller.Controller
	source *apiserver.Cluster
}

func (p published) Labels(uid string) map[string]string {
	if pod := p.source.Pod(uid); pod != nil {
		return pod.Labels
	}
	return nil
}

// Nodes returns the nodes that have an address, by name. The controller calls the
// agents of all nodes at these addresses, including agents whose stream is with
// another replica.
func (p published) NodeAddrs() (out []netip.Addr) {
	for _, n := range p.source.Nodes() {
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out
}

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
