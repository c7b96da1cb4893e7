package tapapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// endpoints answers with the endpoints of an authority, as the controller sends
// them to the agents.
func (s *nodeCalls) endpoints(w http.ResponseWriter, r *http.Request) error {
	a, err := parseAuthority(r.URL.Query().Get("authority"))
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	a.node = slices.Contains(s.opt.Cluster.NodeAddrs(), a.addr)
	items, found := a.endpoints(s.opt.Cluster.Services())
	if !found {
		return notFound("endpoints", a.text, fmt.Sprintf("no service has the address or name %s", a.text))
	}
	return writeJSON(w, tapv1alpha1.EndpointList{Kind: "EndpointList", APIVersion: tapv1alpha1.GroupVersion, Items: items})
}

// authority is a port of a service. It has the service's name or its address.
type authority struct {
	text            string
	name, namespace string
	addr            netip.Addr // if valid, it replaces the name
	node            bool       // addr is that of a node
	port            uint16
}

func parseAuthority(text string) (authority, error) {
	a := authority{text: text}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return a, fmt.Errorf("authority %q: want HOST:PORT, as in web.shop.svc.cluster.local:80", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return a, fmt.Errorf("authority %q: %q is no port number", text, port)
	}
	a.port = uint16(n)
	if addr, err := netip.ParseAddr(host); err == nil {
		a.addr = addr.Unmap()
		return a, nil
	}
	parts := strings.SplitN(strings.TrimSuffix(host, "."), ".", 4)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" || len(parts) > 2 && parts[2] != "svc" {
		return a, fmt.Errorf("authority %q: want NAME.NAMESPACE:PORT, or NAME.NAMESPACE.svc.cluster.local:PORT", text)
	}
	a.name, a.namespace = parts[0], parts[1]
	return a, nil
}

// matches reports whether the authority names a port of a service.
func (a authority) matches(s *mesh.Service, p *mesh.ServicePort) bool {
	switch {
	case !a.addr.IsValid():
		return a.name == s.Name && a.namespace == s.Namespace && p.Port == a.port
	case p.Port == a.port && (slices.Contains(s.VIPs, a.addr) || slices.Contains(p.External, a.addr)):
		return true
	}
	// A service has node ports at the nodes' addresses of its own families.
	return a.node && p.NodePort == a.port && a.port != 0 &&
		slices.ContainsFunc(s.VIPs, func(vip netip.Addr) bool { return vip.Unmap().Is4() == a.addr.Is4() })
}

func (a authority) endpoints(services []*mesh.Service) (items []tapv1alpha1.Endpoint, found bool) {
	items = []tapv1alpha1.Endpoint{}
	for _, s := range services {
		for i := range s.Ports {
			p := &s.Ports[i]
			if !a.matches(s, p) {
				continue
			}
			found = true
			for _, e := range p.Endpoints {
				items = append(items, endpointOf(s, e))
			}
		}
	}
	return items, found
}

func endpointOf(s *mesh.Service, e mesh.Endpoint) tapv1alpha1.Endpoint {
	out := tapv1alpha1.Endpoint{
		Namespace: s.Namespace, IP: e.Addr.Addr().String(), Port: e.Addr.Port(), Service: s.Name + "." + s.Namespace, Ready: e.Ready,
	}
	if w := e.Workload; w != nil {
		out.Namespace, out.Pod, out.Node = w.Namespace, w.Name, w.Node
		if w.Meshed {
			out.Identity = w.Identity.String()
		}
	}
	return out
}

// state answers with the state of the controller itself.
func (s *nodeCalls) state(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.opt.State())
}

// metrics answers with the metrics of the controller's replica that serves the
// call.
func (s *nodeCalls) metrics(w http.ResponseWriter, r *http.Request) error {
	s.opt.Metrics.ServeHTTP(w, r)
	return nil
}
