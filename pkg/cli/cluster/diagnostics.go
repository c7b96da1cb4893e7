package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
)

// DiagnosticsCommand is `underlane diagnostics`: the state and the metrics of the
// controller and the agents.
func DiagnosticsCommand(flags *Flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "diagnostics",
		Aliases: []string{"dg"},
		Short:   "Show what the controller and the agents know and count",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(endpointsCommand(flags), stateCommand(flags), proxyMetricsCommand(flags), controllerMetricsCommand(flags))
	return cmd
}

func endpointsCommand(flags *Flags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "endpoints AUTHORITY...",
		Short: "Show where requests for an authority may go",
		Long: `Show where requests for an authority may go, as the controller tells the agents.

AUTHORITY is HOST:PORT of a service: NAME.NAMESPACE, NAME.NAMESPACE.svc.cluster.local,
its ClusterIP or an external address of it, or the address of a node with a node port.`,
		Example: "  underlane diagnostics endpoints web.shop.svc.cluster.local:80",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("output format %q: use table or json", output)
			}
			all := []tapv1alpha1.Endpoint{}
			failed := false
			for _, authority := range args {
				items, err := flags.tapAPI().endpoints(cmd.Context(), authority)
				if err != nil {
					failed = true
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", authority, err)
				}
				all = append(all, items...)
			}
			write := writeEndpoints
			if output == "json" {
				write = writeEndpointsJSON
			}
			if err := write(cmd.OutOrStdout(), all); err != nil {
				return err
			}
			if failed {
				return cli.ErrSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *tapAPI) endpoints(ctx context.Context, authority string) ([]tapv1alpha1.Endpoint, error) {
	data, err := a.get(ctx, tapv1alpha1.Prefix+"/endpoints", map[string]string{"authority": authority})
	if err != nil {
		return nil, err
	}
	var list tapv1alpha1.EndpointList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("endpoints from the controller: %w", err)
	}
	return list.Items, nil
}

func writeEndpoints(out io.Writer, items []tapv1alpha1.Endpoint) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tIP\tPORT\tPOD\tSERVICE\tREADY\tIDENTITY")
	for _, e := range items {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%t\t%s\n", e.Namespace, e.IP, e.Port, orDash(e.Pod), e.Service, e.Ready, orDash(e.Identity))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func writeEndpointsJSON(out io.Writer, items []tapv1alpha1.Endpoint) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(items)
}

func stateCommand(flags *Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "state [NODE]",
		Short: "Show the controller's state, or a node's maps and state, as JSON",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := tapv1alpha1.Prefix + "/state"
			if len(args) == 1 {
				path = tapv1alpha1.NodePath(args[0], "dump")
			}
			data, err := flags.tapAPI().get(cmd.Context(), path, nil)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, bytes.TrimSpace(data), "", "  "); err != nil {
				return fmt.Errorf("the state is not JSON: %w", err)
			}
			out.WriteByte('\n')
			_, err = out.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
}

func controllerMetricsCommand(flags *Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "controller-metrics",
		Short: "Print the metrics of a controller (of one replica)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := flags.tapAPI().get(cmd.Context(), tapv1alpha1.Prefix+"/metrics", nil)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
}

func proxyMetricsCommand(flags *Flags) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "proxy-metrics [POD|node/NAME]...",
		Short: "Print the metrics of nodes' proxies",
		Long: `Print the metrics of nodes' proxies: of the nodes that pods run on, of nodes that
are named, or of all. A proxy carries all pods of its node; the label pod tells
whose a series is.`,
		Example: "  underlane diagnostics proxy-metrics -n shop web-5d4f\n  underlane diagnostics proxy-metrics node/worker-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes, err := flags.tapAPI().nodesOf(cmd.Context(), namespace, args)
			if err != nil {
				return err
			}
			failed := false
			for i, node := range nodes {
				data, err := flags.tapAPI().get(cmd.Context(), tapv1alpha1.NodePath(node, "metrics"), nil)
				if err != nil {
					failed = true
					fmt.Fprintln(cmd.ErrOrStderr(), err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "# NODE %s (%d of %d)\n%s", node, i+1, len(nodes), data)
			}
			if failed {
				return cli.ErrSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the pods (default that of the kubeconfig's context)")
	return cmd
}

// nodesOf returns the nodes that args name, without duplicates. Without args it
// returns all nodes.
func (a *tapAPI) nodesOf(ctx context.Context, namespace string, args []string) ([]string, error) {
	var nodes []string
	if len(args) == 0 {
		all, err := a.nodes(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range all {
			nodes = append(nodes, n.Metadata.Name)
		}
	}
	for _, arg := range args {
		if node, ok := strings.CutPrefix(arg, "node/"); ok {
			nodes = append(nodes, node)
			continue
		}
		pods, err := a.pods(ctx, namespace, "", []string{strings.TrimPrefix(arg, "pod/")})
		if err != nil {
			return nil, err
		}
		if pods[0].Spec.NodeName == "" {
			return nil, errors.New(arg + " is not on a node yet")
		}
		nodes = append(nodes, pods[0].Spec.NodeName)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), nil
}
