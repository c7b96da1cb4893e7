package statcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Routes is the command routes.
func Routes(s *Source) *cobra.Command {
	var f flags
	var from, fromNamespace string
	short := fmt.Sprintf("Show success rates, requests and latencies of the routes of %s", s.Scope)
	cmd := &cobra.Command{
		Use:   "routes [flags] [svc/NAME...]",
		Short: short,
		Long: short + `.

There is a row for each rule of each route (HTTPRoute, GRPCRoute, TrafficSplit, a
Service's annotations) to these Services, or to all. [DEFAULT] is what no route had a say
in. With -o wide the requests as clients see them (EFFECTIVE) are beside the attempts that
they took (ACTUAL): retries make the difference.`,
		Example: fmt.Sprintf("  %[1]s routes -n shop\n  %[1]s routes svc/web -o wide\n  %[1]s routes -n shop --from deploy/front", s.Program),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := f.check(s)
			if err != nil {
				return err
			}
			var services []string
			for _, arg := range args {
				r, err := filter.ParseResource(arg, "")
				if err != nil {
					return err
				}
				if r.Kind != filter.KindService || r.Name == "" {
					return fmt.Errorf("routes are to Services: svc/NAME, not %s", arg)
				}
				services = append(services, r.Name)
			}
			if f.window > tapv1alpha1.AgentsRemember {
				return fmt.Errorf("--time-window %v: agents remember %v, and the controller's history has no routes", f.window, tapv1alpha1.AgentsRemember)
			}
			list, err := s.Routes(cmd.Context(), tapv1alpha1.FiguresQuery{
				Namespace: namespace, From: from, FromNamespace: other(from, fromNamespace, namespace), Window: f.window, Buckets: true,
			})
			if err != nil {
				return err
			}
			warn(cmd, list.Warnings)
			rows := table.RouteRows(list, services...)
			switch {
			case f.output == "json":
				return table.WriteRoutesJSON(cmd.OutOrStdout(), rows)
			case len(rows) == 0:
				return nothing(cmd.ErrOrStderr(), "No routes found.")
			}
			return table.WriteRoutes(cmd.OutOrStdout(), rows, f.output == "wide", namespace == "")
		},
	}
	f.add(cmd, s)
	cmd.Flags().StringVar(&from, "from", "", "show what is sent by this resource")
	cmd.Flags().StringVar(&fromNamespace, "from-namespace", "", "namespace of the --from resource (default that of the Services)")
	return cmd
}
