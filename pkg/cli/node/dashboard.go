package node

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/pkg/cli/agentapi"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/dashcmd"
	"github.com/underlane/underlane/pkg/dashboard"
)

// DashboardCommand is `agent dashboard`: what this node's agent knows.
func DashboardCommand(f *Flags, k Kernel) *cobra.Command {
	return dashcmd.Dashboard(&dashcmd.Source{
		Program: "agent", Scope: "this node",
		Long: `

It needs no controller. What only a controller knows, it says is not available. To look at
it from your own machine: ssh -L 50750:127.0.0.1:50750 NODE`,
		Open: func(ctx context.Context) (dashboard.Config, func(), error) {
			st, err := f.status(ctx)
			if err != nil {
				return dashboard.Config{}, nil, err
			}
			api, done, err := f.api()
			if err != nil {
				return dashboard.Config{}, nil, err
			}
			host, _ := os.Hostname()
			return dashboard.Config{
				API:   check.Mount(f.CheckAPI(k), api.Handler()),
				About: dashboard.About{Where: fmt.Sprintf("node %s", cmp.Or(st.GetNode(), host)), Command: "agent", Scope: "node"},
			}, done, nil
		},
	})
}

// api asks this node's agent, and no other.
func (f *Flags) api() (*agentapi.API, func(), error) {
	client, done, err := agentapi.Dial(f.Socket)
	if err != nil {
		return nil, nil, err
	}
	return &agentapi.API{Agents: []agentapi.Agent{{Client: client, Explain: f.explain}}}, done, nil
}
