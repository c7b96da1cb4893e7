package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/bpf"
)

// Dump is the content of the maps, for people and JSON.
type Dump struct {
	Pods         []PodDump         `json:"pods"`
	OriginalDsts []OriginalDump    `json:"originalDsts"` // captured connections that the agent has not accepted yet
	PeerNames    []PeerDump        `json:"peerNames"`    // dialled applications that have not accepted yet
	Paths        []PathDump        `json:"paths"`        // kernel paths
	Counters     map[string]uint64 `json:"counters"`
}

// PathDump is an entry of the paths map.
type PathDump struct {
	Client      uint64         `json:"client"` // cookies of namespaces
	Server      uint64         `json:"server"`
	Destination netip.AddrPort `json:"destination"`
	Endpoint    netip.AddrPort `json:"endpoint"`
}

// PodDump is an entry of the pods map.
type PodDump struct {
	NetnsCookie   uint64   `json:"netnsCookie"`
	Name          string   `json:"name"`
	Addrs         []string `json:"addrs"`
	OutboundPort4 uint16   `json:"outboundPort4,omitempty"`
	OutboundPort6 uint16   `json:"outboundPort6,omitempty"`
	FailClosed    bool     `json:"failClosed"`
	InboundClosed bool     `json:"inboundFailClosed"` // strict, or fails closed
	SkipOutbound  []string `json:"skipOutbound,omitempty"`
	SkipInbound   []string `json:"skipInbound,omitempty"`
}

// OriginalDump is an entry of the original_dsts map.
type OriginalDump struct {
	NetnsCookie uint64         `json:"netnsCookie"`
	Client      netip.AddrPort `json:"client"`
	Original    netip.AddrPort `json:"original"`
	Process     string         `json:"process"`
}

// PeerDump is an entry of the peer_names map.
type PeerDump struct {
	NetnsCookie uint64         `json:"netnsCookie"`
	AgentPort   uint16         `json:"agentPort"`
	AppPort     uint16         `json:"appPort"`
	Client      netip.AddrPort `json:"client"`
}

// Dump reads the maps.
func (d *kernelMaps) Dump() (Dump, error) {
	counters, err := d.Counters()
	if err != nil {
		return Dump{}, err
	}
	dump := Dump{Counters: counters}
	paths, err := d.Paths()
	if err != nil {
		return Dump{}, err
	}
	for _, p := range paths {
		dump.Paths = append(dump.Paths, PathDump{p.Client, p.Server, p.Dst, p.Endpoint})
	}
	err = errors.Join(
		each(d.objs.Pods, func(cookie uint64, p bpf.UnderlanePod) {
			dump.Pods = append(dump.Pods, dumpPod(cookie, p))
		}),
		each(d.objs.OriginalDsts, func(k bpf.UnderlaneClientKey, v bpf.UnderlaneOriginalDst) {
			dump.OriginalDsts = append(dump.OriginalDsts, OriginalDump{
				k.NetnsCookie, fromMap(k.Addr, k.Port), fromMap(v.Addr, v.Port), cString(v.Process[:]),
			})
		}),
		each(d.objs.PeerNames, func(k bpf.UnderlanePeerKey, v bpf.UnderlanePeerName) {
			dump.PeerNames = append(dump.PeerNames, PeerDump{k.NetnsCookie, k.AgentPort, k.AppPort, fromMap(v.Addr, v.Port)})
		}),
	)
	slices.SortFunc(dump.Pods, func(a, b PodDump) int { return strings.Compare(a.Name, b.Name) })
	return dump, err
}

func each[K, V any](m *ebpf.Map, f func(K, V)) error {
	var (
		key   K
		value V
	)
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		f(key, value)
	}
	return entries.Err()
}

func dumpPod(cookie uint64, p bpf.UnderlanePod) PodDump {
	dump := PodDump{
		NetnsCookie: cookie, Name: cString(p.Name[:]),
		OutboundPort4: p.OutboundPort4, OutboundPort6: p.OutboundPort6,
		FailClosed: p.FailClosed != 0, InboundClosed: p.InboundFailClosed != 0,
		SkipOutbound: dumpRanges(p.SkipOutbound), SkipInbound: dumpRanges(p.SkipInbound),
	}
	for _, a := range []bpf.UnderlaneAddress{p.Addr4, p.Addr6} {
		if addr := fromMap(a, 0).Addr(); !addr.IsUnspecified() {
			dump.Addrs = append(dump.Addrs, addr.String())
		}
	}
	return dump
}

func dumpRanges(ranges [8]bpf.UnderlanePortRange) (list []string) {
	for _, r := range ranges {
		switch {
		case r.First == 0:
			return list
		case r.First == r.Last:
			list = append(list, fmt.Sprint(r.First))
		default:
			list = append(list, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return list
}
