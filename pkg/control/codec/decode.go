package codec

import (
	"fmt"
	"math"
	"net/netip"
	"unique"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// DecodeDelta is strict: a value out of its range makes it refuse the whole delta,
// so that the agent never acts on state that it understands only in part. A
// resource that no other resource needs (a route, ranges, policies, a kind that only a
// newer controller knows) is left out instead, and removed if it was known before.
// skipped has the reasons.
func DecodeDelta(d *pb.Delta) (out state.Delta, skipped []error, err error) {
	out, err = decodeResources(d, func(name string, err error) {
		skipped = append(skipped, fmt.Errorf("resource %q: %w", name, err))
	})
	return out, skipped, err
}

func decodeResources(d *pb.Delta, skip func(name string, err error)) (state.Delta, error) {
	out := state.Delta{Version: d.GetVersion(), Removed: d.GetRemoved(), Synced: d.GetInitialSyncDone()}
	for _, r := range d.GetResources() {
		res, err := decodeResource(r)
		if err != nil && standsAlone(r) {
			skip(r.GetName(), err)
			out.Removed = append(out.Removed, r.GetName())
			continue
		}
		if err != nil {
			return state.Delta{}, fmt.Errorf("resource %q: %w", r.GetName(), err)
		}
		out.Resources = append(out.Resources, res)
	}
	return out, nil
}

// standsAlone reports whether the rest of a delta stays correct when r is left out.
func standsAlone(r *pb.Resource) bool {
	return r.GetContent() == nil || r.GetRoute() != nil || r.GetRanges() != nil || r.GetAuthz() != nil || r.GetEgressNetwork() != nil
}

func decodeResource(r *pb.Resource) (state.Resource, error) {
	out := state.Resource{Name: r.GetName(), Version: r.GetVersion()}
	var err error
	switch c := r.GetContent().(type) {
	case *pb.Resource_Workload:
		out.Workload, err = decodeWorkload(c.Workload)
	case *pb.Resource_Service:
		out.Service, err = decodeService(c.Service)
	case *pb.Resource_Address:
		out.Address = &state.Address{Node: c.Address.GetNode()}
		out.Address.Addr, err = DecodeAddr(c.Address.GetAddr())
	case *pb.Resource_Anchors:
		out.Anchors = &state.Anchors{DER: c.Anchors.GetDer()}
	case *pb.Resource_Route:
		out.Route, err = decodeRoute(c.Route)
	case *pb.Resource_Ranges:
		out.Ranges, err = decodeRanges(c.Ranges)
	case *pb.Resource_EgressNetwork:
		out.Egress, err = decodeEgress(c.EgressNetwork)
	case *pb.Resource_Authz:
		out.Authz, err = decodeAuthz(c.Authz)
	default:
		err = fmt.Errorf("its kind is not known to this agent")
	}
	return out, err
}

func decodeWorkload(w *pb.Workload) (*mesh.Workload, error) {
	addrs, err := decodeAddrs(w.GetAddrs())
	if err != nil {
		return nil, err
	}
	settings, err := decodeSettings(w.GetSettings())
	if err != nil {
		return nil, err
	}
	var id mesh.Identity
	if w.GetIdentity() != "" {
		if id, err = mesh.ParseIdentity(w.GetIdentity()); err != nil {
			return nil, err
		}
	}
	return &mesh.Workload{
		UID:            w.GetUid(),
		Name:           w.GetName(),
		Namespace:      w.GetNamespace(),
		ServiceAccount: w.GetServiceAccount(),
		Node:           w.GetNode(),
		OwnerKind:      w.GetOwnerKind(),
		OwnerName:      w.GetOwnerName(),
		Addrs:          addrs,
		Identity:       id,
		Meshed:         w.GetMeshed(),
		Observed:       w.GetObserved(),
		Enrolled:       w.GetEnrolled(),
		Leaving:        w.GetLeaving(),
		HostNetwork:    w.GetHostNetwork(),
		Ready:          w.GetReady(),
		Terminating:    w.GetTerminating(),
		OwnLabel:       w.GetOwnLabel(),
		OwnSettings:    w.GetOwnSettings(),
		NetworkPolicy:  w.GetNetworkPolicy(),
		LeftOut:        w.GetLeftOut(),
		Authorized:     w.GetAuthorized(),
		Limited:        w.GetLimited(),
		RequestRules:   w.GetRequestRules(),
		Settings:       settings,
		Zone:           w.GetZone(),
		Labels:         mesh.Labels(unique.Make(w.GetLabels()).Value()), // pods of one workload share them
	}, nil
}

func decodeSettings(s *pb.Settings) (out mesh.Settings, err error) {
	switch s.GetPolicy() {
	case pb.Settings_ALLOW:
	case pb.Settings_STRICT:
		out.Policy = mesh.PolicyStrict
	default:
		return out, fmt.Errorf("policy %d is not known to this agent", s.GetPolicy())
	}
	out.FailClosed = s.GetFailClosed()
	out.PlaintextFallback = s.GetPlaintextFallback()
	out.Ingress = s.GetIngress()
	if out.SkipOutboundPorts, err = decodePortRanges(s.GetSkipOutboundPorts()); err != nil {
		return out, err
	}
	if out.SkipInboundPorts, err = decodePortRanges(s.GetSkipInboundPorts()); err != nil {
		return out, err
	}
	if out.OpaquePorts, err = decodePortRanges(s.GetOpaquePorts()); err != nil {
		return out, err
	}
	if out.RateLimit, err = decodeRateLimit(s.GetRateLimit()); err != nil {
		return out, err
	}
	out.TraceSampling = decodeSampling(s.GetTraceSampling())
	if format := s.GetAccessLog(); format >= 0 && format <= pb.Settings_JSON { // a later controller may know others
		out.AccessLog = mesh.AccessLog(format)
	}
	out.ClientRateLimit, err = decodeRateLimit(s.GetClientRateLimit())
	return out, err
}

func decodePortRanges(ranges []*pb.PortRange) ([]mesh.PortRange, error) {
	var out []mesh.PortRange
	for _, r := range ranges {
		if r.GetFirst() > r.GetLast() || r.GetLast() > math.MaxUint16 {
			return nil, fmt.Errorf("%d-%d is not a range of ports", r.GetFirst(), r.GetLast())
		}
		out = append(out, mesh.PortRange{First: uint16(r.GetFirst()), Last: uint16(r.GetLast())})
	}
	return out, nil
}

func decodeService(s *pb.Service) (*mesh.Service, error) {
	vips, err := decodeAddrs(s.GetVips())
	if err != nil {
		return nil, err
	}
	out := &mesh.Service{
		Name: s.GetName(), Namespace: s.GetNamespace(), VIPs: vips,
		SessionAffinity: s.GetSessionAffinity(), NodeLocal: s.GetNodeLocal(),
	}
	if out.FailureAccrual, err = decodeAccrual(s.GetFailureAccrual()); err != nil {
		return nil, err
	}
	if out.RetryBudget, err = decodeBudget(s.GetRetryBudget()); err != nil {
		return nil, err
	}
	for _, p := range s.GetPorts() {
		port := mesh.ServicePort{Name: p.GetName(), AppProtocol: p.GetAppProtocol()}
		if port.Port, err = decodePort(p.GetPort()); err != nil {
			return nil, err
		}
		if port.External, err = decodeAddrs(p.GetExternal()); err != nil {
			return nil, err
		}
		if p.GetNodePort() != 0 {
			if port.NodePort, err = decodePort(p.GetNodePort()); err != nil {
				return nil, err
			}
		}
		for _, e := range p.GetEndpoints() {
			addr, err := DecodeAddr(e.GetAddr())
			if err != nil {
				return nil, err
			}
			n, err := decodePort(e.GetPort())
			if err != nil {
				return nil, err
			}
			port.Endpoints = append(port.Endpoints, mesh.Endpoint{
				Addr: netip.AddrPortFrom(addr, n), WorkloadUID: e.GetWorkloadUid(), Ready: e.GetReady(),
				ForZones: e.GetForZones(), ForNodes: e.GetForNodes(),
			})
		}
		out.Ports = append(out.Ports, port)
	}
	return out, nil
}

func decodePort(p uint32) (uint16, error) {
	if p == 0 || p > math.MaxUint16 {
		return 0, fmt.Errorf("%d is not a port", p)
	}
	return uint16(p), nil
}

func DecodeAddr(b []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, fmt.Errorf("an address of %d bytes, want 4 or 16", len(b))
	}
	return addr.Unmap(), nil
}

func decodeAddrs(bs [][]byte) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, b := range bs {
		addr, err := DecodeAddr(b)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}
