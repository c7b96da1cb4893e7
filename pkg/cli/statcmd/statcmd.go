// Package statcmd has the commands stat, edges, routes and connections for one node and for a cluster. The two
// differ only in who answers.
package statcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Source is who answers.
type Source struct {
	Program string // name of the program in examples: agent, underlane
	Scope   string // in help texts: this node, the cluster
	// Namespace returns the namespace for the user's -n, which may be "". nil: "" is any.
	Namespace func(named string) (string, error)
	// Figures returns the figures for a query. Its errors are written for users.
	Figures func(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error)
	// Resources returns what resources use. Its errors are written for users. nil: it is not
	// known.
	Resources func(ctx context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error)
	// Connections returns open connections. Its errors are written for users.
	Connections func(ctx context.Context, q tapv1alpha1.ConnectionsQuery) (*tapv1alpha1.ConnectionList, error)
	// Routes returns the routes and their figures, for routes and for stat of them.
	Routes func(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error)
}

// flags are what stat and edges share, with Linkerd's names.
type flags struct {
	namespace, output string
	all               bool
	window            time.Duration
}

func (f *flags) add(cmd *cobra.Command, s *Source) {
	p := cmd.Flags()
	namespace := "any"
	if s.Namespace != nil {
		namespace = "that of the kubeconfig's context"
	}
	p.StringVarP(&f.namespace, "namespace", "n", "", "namespace of the resources (default "+namespace+")")
	p.BoolVarP(&f.all, "all-namespaces", "A", false, "resources of all namespaces, whatever --namespace is")
	p.StringVarP(&f.output, "output", "o", "table", "table, wide or json")
	remembered := "agents remember 15m"
	if s.Namespace != nil && cmd.Name() != "routes" {
		remembered += ", the controller's history 24h"
	}
	p.DurationVarP(&f.window, "time-window", "t", tapv1alpha1.DefaultWindow, "how much time to look back at: 10s or more; "+remembered)
}

// check checks the flags and returns the namespace, "" for all.
func (f *flags) check(s *Source) (string, error) {
	switch {
	case f.output != "table" && f.output != "wide" && f.output != "json":
		return "", fmt.Errorf("output format %q: use table, wide or json", f.output)
	case f.all: // as in Linkerd, --namespace has no effect then
		return "", nil
	case s.Namespace == nil:
		return f.namespace, nil
	}
	return s.Namespace(f.namespace)
}

func warn(cmd *cobra.Command, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "‼ %s\n", render.Clean(text))
	}
}

func isPod(resource string) bool {
	r, err := filter.ParseResource(resource, "")
	return err == nil && r.Kind == filter.KindPod
}

// Stat is the command stat.
func Stat(s *Source) *cobra.Command {
	var f flags
	var to, toNamespace, from, fromNamespace, selector string
	var unmeshed bool
	short := fmt.Sprintf("Show success rates, requests and latencies of resources of %s", s.Scope)
	cmd := &cobra.Command{
		Use:   "stat [flags] RESOURCES",
		Short: short,
		Long: short + `.

RESOURCES is TYPE [NAME...] or TYPE/NAME...: deploy, sts, ds, rs, rc, job, cronjob, pod, ns,
svc, or all; or httproute, grpcroute, ts (TrafficSplit). The figures are of what is sent to a
resource; with --to, of what it sends to that one; with --from, of what it gets from that one.
A Service's figures, and a route's, are those of its clients; a TrafficSplit has a row for
each of its leaves.`,
		Example: fmt.Sprintf("  %[1]s stat deploy -n shop\n  %[1]s stat deploy/web pod/db-0\n  %[1]s stat deploy --from ns/shop -A -t 5m\n  %[1]s stat svc -n shop -o wide", s.Program),
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := f.check(s)
			if err != nil {
				return err
			}
			if to != "" && from != "" {
				return errors.New("--to and --from: give one of them")
			}
			if r, err := filter.ParseResource(from, ""); err == nil && r.Kind == filter.KindService {
				return errors.New("--from: a Service sends nothing: give the workload that has its pods, as in deploy/web")
			}
			kinds, err := parse(args)
			if err != nil {
				return err
			}
			var asked []*table.Stat
			for i := range kinds {
				k := &kinds[i]
				k.Window, k.Unmeshed, k.Namespace, k.Selector = f.window, unmeshed, namespace, selector
				if selector != "" && k.Kind == filter.KindService {
					if len(kinds) > 1 {
						continue
					}
					return errors.New("a Service has its own selector: give the workload that has the pods")
				}
				k.To, k.ToNamespace = to, other(to, toNamespace, namespace)
				k.From, k.FromNamespace = from, other(from, fromNamespace, namespace)
				if k.Kind == filter.KindNamespace {
					k.Namespace = ""
				}
				if table.IsRoute(k.Kind) {
					if err := s.checkRoutes(k); err != nil {
						return err
					}
				}
				asked = append(asked, k)
			}
			tables, warnings, missing, err := s.askAll(cmd.Context(), asked, f.output != "table")
			if err != nil {
				return err
			}
			warn(cmd, warnings)
			switch {
			case f.output == "json":
				err = table.WriteStatJSON(cmd.OutOrStdout(), tables)
			case len(tables) > 0:
				err = table.WriteStat(cmd.OutOrStdout(), tables, f.output == "wide", namespace == "" && !onlyNamespaces(kinds))
			case len(missing) == 0:
				err = nothing(cmd.ErrOrStderr(), "No traffic found.")
			}
			if err == nil && len(missing) > 0 {
				err = errors.New(strings.Join(missing, "; "))
			}
			return err
		},
	}
	f.add(cmd, s)
	p := cmd.Flags()
	p.StringVar(&to, "to", "", "show what is sent to this resource")
	p.StringVar(&toNamespace, "to-namespace", "", "namespace of the --to resource (default that of the resources)")
	p.StringVar(&from, "from", "", "show what is sent by this resource")
	p.StringVar(&fromNamespace, "from-namespace", "", "namespace of the --from resource (default that of the resources)")
	p.StringVarP(&selector, "selector", "l", "", "show only resources with pods of these labels, as kubectl takes them: app=web,tier!=db")
	p.BoolVar(&unmeshed, "unmeshed", false, "show resources without a pod in the mesh, too")
	cli.Complete(cmd, s.names(), false)
	return cmd
}

// Edges is the command edges.
func Edges(s *Source) *cobra.Command {
	var f flags
	var selector string
	short := fmt.Sprintf("Show which resources of %s talk, and whether that is secured", s.Scope)
	cmd := &cobra.Command{
		Use:   "edges [flags] TYPE",
		Short: short,
		Long: short + `.

TYPE is deploy, sts, ds, rs, rc, job, cronjob, pod or ns. Each pair of resources that talks has
a row. SECURED is √ for mutual TLS, and for calls that do not leave a node; otherwise it
says why not.`,
		Example: fmt.Sprintf("  %[1]s edges deploy -n shop\n  %[1]s edges pod -A -o wide", s.Program),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := f.check(s)
			if err != nil {
				return err
			}
			r, err := filter.ParseResource(args[0], "")
			switch {
			case err != nil:
				return err
			case r.Name != "":
				return fmt.Errorf("edges are of all resources of a type: leave the name away: %s", r.Kind)
			case r.Kind == filter.KindService:
				return errors.New("the ends of an edge are workloads: use stat svc for Services")
			}
			q := table.NewEdges(r.Kind, namespace)
			q.Query.Window, q.Query.Selector = f.window, selector
			answer, warnings, err := s.ask(cmd.Context(), q.Query)
			if err != nil {
				return err
			}
			warn(cmd, warnings)
			rows := q.Rows(answer)
			switch {
			case f.output == "json":
				return table.WriteEdgesJSON(cmd.OutOrStdout(), rows)
			case len(rows) == 0:
				return nothing(cmd.ErrOrStderr(), "No edges found.")
			}
			return table.WriteEdges(cmd.OutOrStdout(), rows, f.output == "wide")
		},
	}
	f.add(cmd, s)
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "show only edges of resources with pods of these labels, as kubectl takes them: app=web,tier!=db")
	cli.Complete(cmd, s.names(), true)
	return cmd
}

// names are the names of resources for the shell.
func (s *Source) names() cli.Names {
	if s.Resources == nil {
		return nil
	}
	return cli.NamesOf(s.Resources, s.Namespace)
}

func nothing(w io.Writer, text string) error {
	_, err := fmt.Fprintln(w, text)
	return err
}

// other returns the namespace of a --to or --from resource.
func other(resource, named, namespace string) string {
	if r, err := filter.ParseResource(resource, ""); resource == "" || err == nil && r.Kind == filter.KindNamespace {
		return ""
	}
	return cmp.Or(named, namespace)
}

func onlyNamespaces(kinds []table.Stat) bool {
	return !slices.ContainsFunc(kinds, func(k table.Stat) bool { return k.Kind != filter.KindNamespace })
}

// allKinds are those of `stat all`.
var allKinds = []filter.Kind{"deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller", "job", "cronjob", filter.KindPod, filter.KindService}

// parse reads RESOURCES. The kinds stay in their order.
func parse(args []string) (kinds []table.Stat, err error) {
	add := func(kind filter.Kind, name string) {
		i := slices.IndexFunc(kinds, func(k table.Stat) bool { return k.Kind == kind })
		if i < 0 {
			i = len(kinds)
			kinds = append(kinds, table.Stat{Kind: kind})
		}
		if name != "" {
			kinds[i].Names = append(kinds[i].Names, name)
		}
	}
	if len(args) == 1 && args[0] == "all" {
		for _, k := range allKinds {
			add(k, "")
		}
		return kinds, nil
	}
	first, err := resource(args[0])
	if err != nil {
		return nil, err
	}
	if first.Name == "" && len(args) > 1 && !strings.Contains(args[1], "/") {
		for _, name := range args[1:] {
			r, err := resource(string(first.Kind) + "/" + name)
			if err != nil {
				return nil, err
			}
			add(r.Kind, r.Name)
		}
		return kinds, nil
	}
	for _, arg := range args {
		r, err := resource(arg)
		if err != nil {
			return nil, err
		}
		add(r.Kind, r.Name)
	}
	return kinds, nil
}
