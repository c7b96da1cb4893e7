package agent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/state"
)

// meshState is the state of the mesh for the proxy and the carrier. It asks the
// controller for what the store does not have.
type meshState struct {
	*state.Store
	client *client.Client
	nodes  []netip.Addr
}

func (m *meshState) Resolve(ctx context.Context, addr netip.Addr) error {
	return m.client.Resolve(ctx, addr)
}

func (m *meshState) Await(ctx context.Context, addr netip.Addr, known func(*state.View) bool) error {
	return m.client.Await(ctx, addr, known)
}

func (m *meshState) Connected() bool { return m.client.Connected() }

func (m *meshState) Subscribe(addr netip.Addr) { m.client.Subscribe(addr) }

// IsNode reports whether addr is one of --node-ip. Connections of the node's own
// processes do not reach the proxy (bpf/host.c).
func (m *meshState) IsNode(addr netip.Addr) bool { return slices.Contains(m.nodes, addr.Unmap()) }
