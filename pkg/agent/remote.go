package agent

import (
	"context"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
)

// maxRemoteTaps bounds the taps that people in the cluster run on this node at
// once: each costs a copy of every event that it matches.
const maxRemoteTaps = 16

// serveController serves the node API to the controller.
func (a *Agent) serveController(ctx context.Context) error {
	server := &nodeapi.Server{Hub: a.hub, Source: a, Dumper: a, Exporter: a.metrics, MaxTaps: maxRemoteTaps}
	return server.ListenAndServeTLS(ctx, a.config.APIAddr, nodeapi.Credentials{
		Certificate: a.client.NodeCertificate,
		Anchors:     a.client.TrustAnchors,
		TrustDomain: a.config.TrustDomain,
	}, a.log)
}
