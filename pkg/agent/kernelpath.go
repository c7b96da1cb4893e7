package agent

import (
	"context"
	"errors"
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// keepPaths keeps the kernel paths while this agent has the node.
func (a *components) keepPaths(ctx context.Context) error {
	select {
	case <-a.pods.Reconciled(): // the paths of an earlier agent are those of pods that this one knows
	case <-ctx.Done():
		return nil
	}
	if err := netns.CanDestroy(); err != nil && a.config.KernelPath {
		a.config.KernelPath = false
		a.log.Warn("the kernel path is off: this kernel cannot end connections that a policy does not allow any more (INET_DIAG_DESTROY)", "cause", err)
	}
	return a.paths.Run(ctx, a.datapath)
}

var errNoKernelPath = errors.New("the setting kernel-path is off")

// settling is the proxy, which is made after the table of paths. Without the kernel path it
// says that nothing is settled, so that what an earlier agent has left is taken back.
type settling struct{ a *components }

// Settled implements paths.Judge.
func (s settling) Settled(local *mesh.Workload, dst netip.AddrPort) (destination.Settled, error) {
	if !s.a.config.KernelPath {
		return destination.Settled{}, errNoKernelPath
	}
	return s.a.proxy.Settled(local, dst)
}

// MayConnect implements paths.Judge.
func (s settling) MayConnect(client, server *mesh.Workload, to netip.AddrPort) error {
	return s.a.proxy.MayConnect(client, server, to)
}
