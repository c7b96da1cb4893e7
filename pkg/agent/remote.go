package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
)

// maxRemoteTaps bounds the taps that the controller runs on this node at once for its
// users. Each tap costs a copy of every event that it matches.
const maxRemoteTaps = 16

// openAPI listens on the API address. It fails if a predecessor still has the port:
// aside tries again.
func (a *components) openAPI(ctx context.Context) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.APIAddr)
	if err != nil {
		return nil, fmt.Errorf("%w (--api-addr)", err)
	}
	return ln, nil
}

// serveController serves the node API to the controller.
func (a *components) serveController(ctx context.Context, ln net.Listener) error {
	server := a.nodeAPI()
	server.MaxTaps = maxRemoteTaps
	server.Looker = nil // who may observe pods without a label has the node
	return server.ServeTLS(ctx, ln, nodeapi.Credentials{
		Certificate: a.client.NodeCertificate,
		Anchors:     a.client.TrustAnchors,
		TrustDomain: a.config.TrustDomain,
		Gate:        a.proxy.Gate(),
	})
}
