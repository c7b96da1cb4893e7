package cluster

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/health"
	"github.com/underlane/underlane/pkg/cli/dashcmd"
	"github.com/underlane/underlane/pkg/dashboard"
)

// DashboardCommand is `underlane dashboard`.
func DashboardCommand(flags *Flags) *cobra.Command {
	return dashcmd.Dashboard(&dashcmd.Source{
		Program: "underlane", Scope: "the cluster", Browser: true,
		Long: ` It has your rights in the cluster, for the API ` + tapv1alpha1.Group + ` only.`,
		Open: func(ctx context.Context) (dashboard.Config, func(), error) {
			// What keeps the user from looking is said now, in the terminal.
			if _, err := flags.tapAPI().get(ctx, tapv1alpha1.Prefix, nil); err != nil {
				return dashboard.Config{}, nil, reachable(err)
			}
			api, err := flags.dashboardAPI()
			if err != nil {
				return dashboard.Config{}, nil, err
			}
			about := dashboard.About{Where: flags.clusterName(), Command: "underlane", Scope: "cluster"}
			return dashboard.Config{API: api, About: about}, func() {}, nil
		},
	})
}

// dashboardAPI is what the dashboard asks: the mesh's API group, and the result of
// `underlane check`, which this program computes. Both have the user's rights.
func (c *Flags) dashboardAPI() (http.Handler, error) {
	api, err := c.proxy()
	if err != nil {
		return nil, err
	}
	return check.Mount(health.Handler(c), api), nil
}

// clusterName names the cluster as the user's kubeconfig does.
func (c *Flags) clusterName() string {
	name := c.Context
	if raw, err := c.loader().RawConfig(); err == nil && name == "" {
		name = raw.CurrentContext
	}
	if name == "" { // in a pod, by its service account
		return "this cluster"
	}
	return fmt.Sprintf("cluster %s", name)
}
