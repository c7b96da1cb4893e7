// Package authzcmd has the command authz for one node and for a cluster. The two differ only
// in who answers.
package authzcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Source is who answers. The errors of its functions are written for users.
type Source struct {
	Program string // name of the program in examples: agent, underlane
	Scope   string // in help texts: this node, the cluster
	// Namespace returns the namespace for the user's -n, which may be "". nil: "" is any.
	Namespace func(named string) (string, error)
	List      func(ctx context.Context, q tapv1alpha1.AuthzQuery) (*tapv1alpha1.AuthzList, error)
	Explain   func(ctx context.Context, q tapv1alpha1.AuthzExplainQuery) (*tapv1alpha1.AuthzExplanation, error)
	// Try and Suggest are nil if who answers has no policies but those in force.
	Try     func(ctx context.Context, namespace string, manifest []byte) (*tapv1alpha1.AuthzTry, error)
	Suggest func(ctx context.Context, namespace, lang string) (*tapv1alpha1.AuthzSuggestion, error)
}

// Command is the command authz with its subcommands.
func Command(s *Source) *cobra.Command {
	var namespace, output string
	var all bool
	var window time.Duration
	cmd := &cobra.Command{
		Use:   "authz [RESOURCE]",
		Short: "Show who called resources of " + s.Scope + ", and which policy let them in or refused them",
		Long: `Show who called resources of ` + s.Scope + `, and which policy let them in or refused them.

RESOURCE is TYPE or TYPE/NAME of the servers: deploy, sts, ds, rs, job, pod, ns; without it all.
A row is a policy of a resource. Policies that decided about no call have a row without figures.
Resources without policies are not shown: nothing decides about them.`,
		Example: fmt.Sprintf("  %[1]s authz deploy/billing -n shop\n  %[1]s authz deploy -n shop -t 10m -o wide", s.Program),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if output != "table" && output != "wide" && output != "json" {
				return fmt.Errorf("output format %q: use table, wide or json", output)
			}
			if window < time.Second || window > tapv1alpha1.AuthzWindow {
				return fmt.Errorf("--time-window %s: agents remember %s", window, tapv1alpha1.AuthzWindow)
			}
			q := tapv1alpha1.AuthzQuery{Window: window}
			if !all {
				if q.Namespace, err = s.namespace(namespace); err != nil {
					return err
				}
			}
			if len(args) > 0 {
				r, err := filter.ParseResource(args[0], "")
				if err != nil {
					return err
				}
				if r.Kind == filter.KindService {
					return errors.New("a Service has no policies of its own: give the workload that has the pods")
				}
				if q.Kind, q.Name = string(r.Kind), r.Name; r.Kind == filter.KindNamespace {
					q.Namespace, q.Kind, q.Name = r.Name, "", ""
				}
			}
			list, err := s.List(cmd.Context(), q)
			if err != nil {
				return err
			}
			warn(cmd, list.Warnings)
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), list)
			}
			if len(list.Items) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "No policy is about these resources.")
				return err
			}
			return Write(cmd.OutOrStdout(), list, output == "wide", q.Namespace == "")
		},
	}
	p := cmd.Flags()
	s.addNamespace(cmd, &namespace)
	p.BoolVarP(&all, "all-namespaces", "A", false, "resources of all namespaces, whatever --namespace is")
	p.StringVarP(&output, "output", "o", "table", "table, wide (clients and requests) or json")
	p.DurationVarP(&window, "time-window", "t", tapv1alpha1.DefaultWindow, "how much time to look back at, up to 15m")
	cmd.AddCommand(s.explain())
	if s.Try != nil {
		cmd.AddCommand(s.try(), s.suggest())
	}
	return cmd
}

func (s *Source) addNamespace(cmd *cobra.Command, to *string) {
	text := "any"
	if s.Namespace != nil {
		text = "that of the kubeconfig's context"
	}
	cmd.Flags().StringVarP(to, "namespace", "n", "", "namespace of the resources (default "+text+")")
}

func (s *Source) namespace(named string) (string, error) {
	if s.Namespace == nil {
		return named, nil
	}
	return s.Namespace(named)
}

func warn(cmd *cobra.Command, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "‼ %s\n", render.Clean(text))
	}
}

func writeJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
