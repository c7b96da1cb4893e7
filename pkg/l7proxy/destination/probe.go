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

// settleTime is how long Probe waits for an agent to cut the connection because it cannot
// reach its application.
const settleTime = time.Second

// Probe tests whether from, a pod of this node, can reach an endpoint, and its application
// if that can be tested. It returns nil if so, and also if from is gone or may not connect
// to the endpoint: then only requests can find out.
func (d *Directory) Probe(ctx context.Context, pool *upstream.Pool, from *mesh.Workload, ep mesh.Endpoint) error {
	if w, ok := d.State.View().WorkloadByUID(from.UID); ok {
		from = w
	}
	if !d.Network.Enrolled(from.UID) {
		return nil
	}
	var a endpoints.Attempt
	if d.choose(&a, from, &ep, &Query{}) != nil {
		return nil // the policy refuses the requests, whether the endpoint can be reached or not
	}
	a.HasOthers = true
	client := PodAddress(from, ep.Addr.Addr(), netip.Addr{})
	c, found, err := pool.Probe(ctx, &a.Endpoint, netip.AddrPortFrom(client, 0))
	if mtls.Busy(err) {
		return nil // the agent answers, so it is there
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if found.TLS != tap.TLSTrue {
		return nil
	}
	// The agent answers. If it cannot reach the application, it cuts the connection.
	_ = c.SetReadDeadline(time.Now().Add(settleTime))
	if _, err := c.Read(make([]byte, 1)); err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
