package codec

import (
	"net/netip"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func EncodeWorkload(w *mesh.Workload) *pb.Resource {
	return &pb.Resource{
		Name: state.WorkloadName(w.UID),
		Content: &pb.Resource_Workload{Workload: &pb.Workload{
			Uid:            w.UID,
			Name:           w.Name,
			Namespace:      w.Namespace,
			ServiceAccount: w.ServiceAccount,
			Node:           w.Node,
			OwnerKind:      w.OwnerKind,
			OwnerName:      w.OwnerName,
			Addrs:          EncodeAddrs(w.Addrs),
			Identity:       w.Identity.String(),
			Meshed:         w.Meshed,
			Observed:       w.Observed,
			Enrolled:       w.Enrolled,
			Leaving:        w.Leaving,
			HostNetwork:    w.HostNetwork,
			Ready:          w.Ready,
			Terminating:    w.Terminating,
			OwnLabel:       w.OwnLabel,
			OwnSettings:    w.OwnSettings,
			NetworkPolicy:  w.NetworkPolicy,
			LeftOut:        w.LeftOut,
			Authorized:     w.Authorized,
			Limited:        w.Limited,
			RequestRules:   w.RequestRules,
			Settings:       encodeSettings(&w.Settings),
			Zone:           w.Zone,
			Labels:         string(w.Labels),
		}},
	}
}

func encodeSettings(s *mesh.Settings) *pb.Settings {
	policy := pb.Settings_ALLOW
	if s.Policy == mesh.PolicyStrict {
		policy = pb.Settings_STRICT
	}
	return &pb.Settings{
		Policy:            policy,
		FailClosed:        s.FailClosed,
		PlaintextFallback: s.PlaintextFallback,
		Ingress:           s.Ingress,
		SkipOutboundPorts: encodePortRanges(s.SkipOutboundPorts),
		SkipInboundPorts:  encodePortRanges(s.SkipInboundPorts),
		OpaquePorts:       encodePortRanges(s.OpaquePorts),
		RateLimit:         encodeRateLimit(s.RateLimit),
		ClientRateLimit:   encodeRateLimit(s.ClientRateLimit),
		AccessLog:         pb.Settings_AccessLog(s.AccessLog),
		TraceSampling:     encodeSampling(s.TraceSampling),
	}
}

func encodePortRanges(ranges []mesh.PortRange) []*pb.PortRange {
	out := make([]*pb.PortRange, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, &pb.PortRange{First: uint32(r.First), Last: uint32(r.Last)})
	}
	return out
}

func EncodeService(s *mesh.Service) *pb.Resource {
	out := &pb.Service{
		Name: s.Name, Namespace: s.Namespace, Vips: EncodeAddrs(s.VIPs),
		SessionAffinity: s.SessionAffinity, NodeLocal: s.NodeLocal,
		FailureAccrual: encodeAccrual(s.FailureAccrual), RetryBudget: encodeBudget(s.RetryBudget),
	}
	for _, p := range s.Ports {
		port := &pb.ServicePort{Name: p.Name, Port: uint32(p.Port), AppProtocol: p.AppProtocol, External: EncodeAddrs(p.External), NodePort: uint32(p.NodePort)}
		all := make([]pb.Endpoint, len(p.Endpoints)) // one allocation for all
		port.Endpoints = make([]*pb.Endpoint, len(p.Endpoints))
		for i := range p.Endpoints {
			e, to := &p.Endpoints[i], &all[i]
			to.Addr, to.Port, to.WorkloadUid, to.Ready = e.Addr.Addr().Unmap().AsSlice(), uint32(e.Addr.Port()), e.WorkloadUID, e.Ready
			to.ForZones, to.ForNodes = e.ForZones, e.ForNodes
			port.Endpoints[i] = to
		}
		out.Ports = append(out.Ports, port)
	}
	return &pb.Resource{
		Name:    state.ServiceName(s.Namespace, s.Name),
		Content: &pb.Resource_Service{Service: out},
	}
}

// EncodeAddress encodes the answer about addr. node: it is the address of a node.
func EncodeAddress(addr netip.Addr, node bool) *pb.Resource {
	version := "1" // the rest of its content is its name
	if node {
		version = "node"
	}
	return &pb.Resource{
		Name:    state.AddressName(addr),
		Version: version,
		Content: &pb.Resource_Address{Address: &pb.Address{Addr: addr.Unmap().AsSlice(), Node: node}},
	}
}

func EncodeAnchors(der [][]byte) *pb.Resource {
	return &pb.Resource{
		Name:    state.AnchorsName,
		Content: &pb.Resource_Anchors{Anchors: &pb.Anchors{Der: der}},
	}
}

func EncodeAddrs(addrs []netip.Addr) [][]byte {
	out := make([][]byte, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, a.Unmap().AsSlice())
	}
	return out
}
