package destination

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// An ingress controller sends requests to the addresses of pods that it has chosen itself.
// If the pod of the ingress has mesh.AnnotationIngress, a request may name the Service that
// it is for, by an override field or by its authority. The request then goes to the Service
// as if the ingress had connected to its ClusterIP.
//
// A request can only name a Service that the address belongs to which the ingress has
// connected to: one that has the address as an endpoint, or as its own. A client outside
// the cluster that gets such a field or authority past the ingress can therefore reach no
// Service that the ingress did not choose.

// Named is the Service that a request of an ingress is for. It is immutable.
type Named struct {
	Backend          // without Port: the Service has no such port
	Routing *Routing // of the port; nil: no route applies
}

// named is the last answer of Outbound.Named.
type named struct {
	of                  *knowledge
	override, authority string
	service             *Named
	err                 error
}

// Ingress implements Target.
func (t *Outbound) Ingress() bool { return t.known.Load().local.Settings.Ingress }

// errOverride refuses a request whose override field is not honoured. Without that it would
// go past the routes of the Service that it names.
var errOverride = mesh.Fail(mesh.ReasonBadOverride, nil)

// Named implements Target.
func (t *Outbound) Named(override, authority string) (*Named, error) {
	k := t.look()
	if last := t.named.Load(); last != nil && last.of == k && last.override == override && last.authority == authority {
		return last.service, last.err
	}
	now := &named{of: k, override: strings.Clone(override)}
	if override != "" {
		now.service, now.err = t.byOverride(k, override)
	} else if len(authority) <= maxServiceHost {
		now.authority = strings.Clone(authority)
		now.service = t.byAuthority(k, authority)
	}
	t.named.Store(now)
	return now.service, now.err
}

// errUntold refuses a request while it is not known which Services it may name.
var errUntold = errors.New("the controller has not said which Services the address belongs to")

// told returns a view that has the Services that t.dst belongs to, unless the controller
// does not answer in time. It has to wait for that only if the node knows t.dst and has
// never asked for it, as an address of its own pods.
func (t *Outbound) told() *state.View {
	d, addr := t.directory, t.dst.Addr()
	known := func(v *state.View) bool { return v.Told(addr) }
	if v := d.State.View(); known(v) || !v.Answered(addr) { // look has waited for it in vain
		return v
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.ResolveTimeout)
	defer cancel()
	if err := d.State.Await(ctx, addr, known); err != nil {
		d.Log.Debug("the Services of an address are not known", "dst", addr, "cause", err)
	}
	return d.State.View()
}

func (t *Outbound) byOverride(k *knowledge, override string) (*Named, error) {
	ref, ok := parseServiceHost(override)
	if !ok {
		return nil, errOverride
	}
	v := t.told()
	svc, ok := v.ServiceByName(ref.Namespace, ref.Name)
	if !ok || svc != k.Backend.Service && !hasAddress(svc, t.dst.Addr()) {
		if !v.Told(t.dst.Addr()) {
			return nil, mesh.Fail(mesh.ReasonTimeout, errUntold)
		}
		return nil, errOverride
	}
	if ref.Port == 0 {
		ref.Port = 80
	}
	return t.toPort(v, k, svc, ref), nil
}

// byAuthority returns nil if the authority does not name a Service that t.dst is an endpoint
// of. That is the rule: most ingresses forward the authority that their clients have sent.
func (t *Outbound) byAuthority(k *knowledge, authority string) *Named {
	if k.Backend.Service != nil {
		return nil // the ingress has connected to a Service
	}
	ref, ok := parseServiceHost(authority)
	if !ok {
		return nil
	}
	v := t.told()
	svc, ok := v.ServiceByName(ref.Namespace, ref.Name)
	if !ok {
		return nil
	}
	// The port of the authority is the one that the clients of the ingress see, which may be
	// none of the Service's.
	asked := ref.Port
	ref.Port = 0
	for i := range svc.Ports {
		if p := &svc.Ports[i]; (ref.Port == 0 || p.Port == asked) && hasEndpoint(p, t.dst) {
			ref.Port = p.Port
		}
	}
	if ref.Port == 0 {
		return nil
	}
	return t.toPort(v, k, svc, ref)
}

func (t *Outbound) toPort(v *state.View, k *knowledge, svc *mesh.Service, ref mesh.ServicePortRef) *Named {
	d, v4 := t.directory, t.dst.Addr().Is4()
	to := &Named{Backend: d.backend(v, ref, k.local, v4)}
	if to.Port == nil {
		to.Service = svc
		return to
	}
	to.Routing = d.routing(v, svc, to.Port, k.local, v4)
	return to
}

// hasAddress reports whether addr is an address of the Service or of one of its endpoints.
func hasAddress(svc *mesh.Service, addr netip.Addr) bool {
	for i := range svc.Ports {
		if slices.ContainsFunc(svc.Ports[i].Endpoints, func(ep mesh.Endpoint) bool { return ep.Addr.Addr() == addr }) {
			return true
		}
	}
	return slices.Contains(svc.VIPs, addr)
}

func hasEndpoint(p *mesh.ServicePort, addr netip.AddrPort) bool {
	return slices.ContainsFunc(p.Endpoints, func(ep mesh.Endpoint) bool { return ep.Addr == addr })
}

// maxServiceHost is the length of the longest host and port, in bytes.
const maxServiceHost = 253 + len(":65535")

// parseServiceHost parses name.namespace, name.namespace.svc or name.namespace.svc.DOMAIN,
// with a port or without one (0).
func parseServiceHost(host string) (ref mesh.ServicePortRef, ok bool) {
	if len(host) > maxServiceHost {
		return ref, false
	}
	host, port, hasPort := strings.Cut(host, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return ref, false
		}
		ref.Port = uint16(n)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	name, rest, _ := strings.Cut(host, ".")
	namespace, rest, long := strings.Cut(rest, ".")
	svc, _, _ := strings.Cut(rest, ".")
	ref.Name, ref.Namespace = name, namespace
	return ref, name != "" && namespace != "" && (!long || svc == "svc")
}

// Ingress implements Target.
func (*Inbound) Ingress() bool { return false }

// Named implements Target.
func (*Inbound) Named(string, string) (*Named, error) { return nil, nil }
