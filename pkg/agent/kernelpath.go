package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// keepPaths keeps the kernel paths while this agent has the node.
func (a *components) keepPaths(ctx context.Context) error {
	select {
	case <-a.pods.Reconciled(): // the paths of an earlier agent are those of pods that this one knows
	case <-ctx.Done():
		return nil
	}
	if a.pathsAfter != nil {
		select {
		case <-a.pathsAfter:
		case <-ctx.Done():
			return nil
		}
	}
	if err := netns.CanDestroy(); err != nil && a.config.KernelPath {
		a.config.KernelPath = false
		a.log.Warn("the kernel path is off: this kernel cannot end connections that a policy does not allow any more (INET_DIAG_DESTROY)", "cause", err)
	}
	redirects := a.newRedirects()
	if redirects == nil {
		a.datapath.DropRedirects()
		return a.paths.Run(ctx, a.datapath, nil)
	}
	defer redirects.Close()
	a.redirects.Store(redirects)
	defer a.redirects.Store(nil)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { redirects.Run(ctx) })
	return a.paths.Run(ctx, a.datapath, redirects)
}

// tryRedirects finds out whether the kernel redirects packets of kernel paths. It runs before
// confine, which takes what the trial needs.
func (a *components) tryRedirects() {
	var err error
	switch {
	case !a.config.KernelPath:
		err = errNoKernelPath
	case !a.config.KernelPathRedirect:
		err = errNoRedirect
	default:
		began := time.Now()
		err = redirect.TryRedirects()
		a.log.Debug("tried to redirect packets between two pods", "took", time.Since(began), "cause", err)
	}
	a.noRedirects.Store(&err)
}

// newRedirects returns nil if packets are not redirected.
func (a *components) newRedirects() *redirect.Redirects {
	var r *redirect.Redirects
	err := *a.noRedirects.Load()
	if err == nil {
		r, err = redirect.NewRedirects(a.datapath)
	}
	if err != nil {
		a.log.Info("packets of kernel paths go by way of the host", "cause", err)
		a.noRedirects.Store(&err)
		return nil
	}
	return r
}

// redirecting is what `agent check` reports of kernel paths; nil: packets are not to be
// redirected.
func (a reporter) redirecting() *agentv1.Redirecting {
	if r := a.redirects.Load(); r != nil {
		return &agentv1.Redirecting{Pods: uint32(r.Len()), Refused: r.Refused()}
	}
	why := a.noRedirects.Load()
	if why == nil || errors.Is(*why, errNoKernelPath) || errors.Is(*why, errNoRedirect) {
		return nil
	}
	if *why == nil {
		return &agentv1.Redirecting{} // the agent begins
	}
	return &agentv1.Redirecting{Error: (*why).Error()}
}

var (
	errNoKernelPath = errors.New("the setting kernel-path is off")
	errNoRedirect   = errors.New("the setting kernel-path-redirect is off")
)

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
