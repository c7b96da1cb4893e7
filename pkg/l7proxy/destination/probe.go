package destination

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/tap"
)

// settleTime is how long an agent has to say that it cannot reach the
// application behind it.
const settleTime = time.Second

// Probe finds out whether from, a pod of this node, reaches an endpoint, its
// application if possible. Where from is gone, requests are to find out: no error.
func (d *Directory) Probe(ctx context.Context, pool *upstream.Pool, from *mesh.Workload, ep mesh.Endpoint) error {
	if w, ok := d.State.View().WorkloadByUID(from.UID); ok {
		from = w
	}
	if !d.Network.Enrolled(from.UID) {
		return nil
	}
	var a endpoints.Attempt
	if d.choose(&a, from, ep) != nil {
		return nil // reached or not, requests will not be let through
	}
	a.HasOthers = true
	client := OwnAddress(from, ep.Addr.Addr(), netip.Addr{})
	c, found, err := pool.Probe(ctx, &a.Endpoint, netip.AddrPortFrom(client, 0))
	if mtls.Busy(err) {
		return nil // it is there
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if found.TLS != tap.TLSTrue {
		return nil
	}
	// The agent is there. It cuts the connection where the application is not.
	_ = c.SetReadDeadline(time.Now().Add(settleTime))
	if _, err := c.Read(make([]byte, 1)); err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
