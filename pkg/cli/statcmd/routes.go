package statcmd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Routes is the command routes.
func Routes(s *Source) *cobra.Command {
	var f flags
	o := routesOptions{}
	short := fmt.Sprintf("Show success rates, requests and latencies of the routes of %s", s.Scope)
	cmd := &cobra.Command{
		Use:   "routes [flags] [RESOURCE...]",
		Short: short,
		Long: short + `.

There is a row for each rule of each route (HTTPRoute, GRPCRoute, TrafficSplit, a
Service's annotations). [DEFAULT] is what no route had a say in, also of a Service that has no
route. RESOURCE is svc/NAME, of which there may be several: the routes of these Services;
without one, of all. Or it is one TYPE/NAME or TYPE, deploy, sts, ds, rs, rc, job, cronjob, pod or ns: the routes by which it is
called; with --to, those by which it calls that Service. With -o wide the requests as clients
see them (EFFECTIVE) are beside the attempts that they took (ACTUAL): retries make the
difference.`,
		Example: fmt.Sprintf("  %[1]s routes -n shop\n  %[1]s routes svc/web -o wide\n  %[1]s routes deploy/front -n shop --to svc/web", s.Program),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := f.check(s)
			if err != nil {
				return err
			}
			q := tapv1alpha1.FiguresQuery{Namespace: namespace, Window: f.window, Buckets: true, Selector: o.selector}
			services, resource, err := o.question(&q, args)
			if err != nil {
				return err
			}
			if f.window > tapv1alpha1.AgentsRemember {
				return fmt.Errorf("--time-window %v: agents remember %v, and the controller's history has no routes", f.window, tapv1alpha1.AgentsRemember)
			}
			list, err := s.Routes(cmd.Context(), q)
			if err != nil {
				return err
			}
			warn(cmd, list.Warnings)
			rows := table.RouteRows(list, services...)
			if q.To != "" { // the answer has the routes of all Services
				rows = slices.DeleteFunc(rows, func(r table.RouteRow) bool { return r.Effective.Sums.Requests() == 0 })
			}
			switch {
			case f.output == "json":
				return table.WriteRoutesJSON(cmd.OutOrStdout(), rows, resource, q.From != "")
			case len(rows) == 0:
				return nothing(cmd.ErrOrStderr(), "No routes found.")
			}
			return table.WriteRoutes(cmd.OutOrStdout(), rows, f.output == "wide", namespace == "")
		},
	}
	f.add(cmd, s)
	p := cmd.Flags()
	p.StringVar(&o.to, "to", "", "show what RESOURCE sends to this Service")
	p.StringVar(&o.toNamespace, "to-namespace", "", "namespace of the --to Service (default that of RESOURCE)")
	p.StringVar(&o.from, "from", "", "show what is sent to the Services by this resource")
	p.StringVar(&o.fromNamespace, "from-namespace", "", "namespace of the --from resource (default that of the Services)")
	p.StringVarP(&o.selector, "selector", "l", "", "count only requests of pods of RESOURCE with these labels, as kubectl takes them: app=web,tier!=db; of a Service, of pods of the --from resource")
	cli.Complete(cmd, s.names(), false)
	return cmd
}

type routesOptions struct{ to, toNamespace, from, fromNamespace, selector string }

// question completes q, whose namespace is that of the resources. It returns the Services
// whose rows are shown, none for all, and the resource in Linkerd's form if it is no Service.
func (o *routesOptions) question(q *tapv1alpha1.FiguresQuery, args []string) (services []string, resource string, err error) {
	var others []filter.Resource
	for _, arg := range args {
		r, err := filter.ParseResource(arg, "")
		switch {
		case err != nil:
			return nil, "", err
		case r.Kind != filter.KindService:
			others = append(others, r)
		case r.Name == "" && len(args) > 1:
			return nil, "", fmt.Errorf("%s: give the Services' names, or it alone", arg)
		case r.Name != "":
			services = append(services, r.Name)
		}
	}
	namespace := q.Namespace
	switch {
	case len(others) > 1 || len(others) == 1 && len(args) > 1:
		return nil, "", errors.New("give one resource, or Services")
	case o.selector != "" && len(args) > 0 && len(others) == 0 && o.from == "":
		return nil, "", errors.New("a Service has its own selector: give the workload that has the pods, or the clients by --from")
	case o.to != "" && o.from != "":
		return nil, "", errors.New("--to and --from: give one of them")
	case o.to != "":
		to, err := filter.ParseResource(o.to, "")
		if err != nil {
			return nil, "", err
		}
		if to.Kind != filter.KindService || to.Name == "" || len(others) == 0 {
			return nil, "", errors.New("--to: routes are to Services: give the client and svc/NAME, as in routes deploy/web --to svc/api")
		}
		q.From, q.FromNamespace = others[0].String(), other(others[0].String(), namespace, namespace)
		q.Namespace = cmp.Or(o.toNamespace, namespace)
		return []string{to.Name}, q.From, nil
	case len(others) == 1:
		resource = others[0].String()
		q.To, q.ToNamespace = resource, other(resource, namespace, namespace)
		if others[0].Kind == filter.KindNamespace {
			q.Namespace = others[0].Name
		}
	}
	q.From, q.FromNamespace = o.from, other(o.from, o.fromNamespace, namespace)
	return services, resource, nil
}
