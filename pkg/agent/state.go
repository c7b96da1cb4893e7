package agent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/state"
)

// meshState is what the proxy and the carrier ask: the store, and the controller for
// what the store has not got.
type meshState struct {
	*state.Store
	client *client.Client
	nodes  []netip.Addr
}

func (m *meshState) Resolve(ctx context.Context, addr netip.Addr) error {
	return m.client.Resolve(ctx, addr)
}

func (m *meshState) Subscribe(addr netip.Addr) { m.client.Subscribe(addr) }

// IsNode: the node's own processes are known by more than their address, and do not
// come this way (bpf/host.c). These are the addresses of --node-ip.
func (m *meshState) IsNode(addr netip.Addr) bool { return slices.Contains(m.nodes, addr.Unmap()) }
