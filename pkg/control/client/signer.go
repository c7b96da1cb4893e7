package client

import (
	"context"
	"fmt"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

var _ mtls.Signer = (*Client)(nil)

// SignWorkload requests a certificate for id from the controller. The controller
// refuses it unless a meshed pod of this node has the identity.
func (c *Client) SignWorkload(ctx context.Context, id mesh.Identity, csrDER []byte) (mtls.Issued, error) {
	conn, err := c.connected()
	if err != nil {
		return mtls.Issued{}, fmt.Errorf("certificate for %s: %w", id, err)
	}
	resp, err := pb.NewControlClient(conn).SignWorkload(ctx, &pb.SignWorkloadRequest{Identity: id.String(), Csr: csrDER})
	if err != nil {
		return mtls.Issued{}, fmt.Errorf("certificate for %s: %w", id, err)
	}
	return mtls.Issued{Chain: resp.GetChain(), Anchors: resp.GetAnchors(), NotAfter: resp.GetNotAfter().AsTime()}, nil
}
