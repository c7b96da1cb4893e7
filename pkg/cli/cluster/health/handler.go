package health

import (
	"io"
	"net/http"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/check"
)

// Handler answers the path /check of the dashboard with the result of `underlane check
// --proxy`, which it runs when it is asked, with the rights that cluster has. It does not
// wait for what is still starting.
func Handler(cluster Cluster) http.Handler {
	return check.Handler(tapv1alpha1.GroupVersion, func() []check.Category {
		c := &checker{
			system: cluster.SystemNamespace(), now: time.Now, progress: io.Discard,
			connect: cluster.Clients, statuses: cluster.NodeStatuses,
		}
		return append(c.installation(), c.dataPlane()...)
	})
}
