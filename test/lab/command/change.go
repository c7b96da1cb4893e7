package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/slow"
)

func (a *app) apply() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "apply FILE|DIR…",
		Short: "Apply manifests to the running lab",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := readManifests(cmd.ErrOrStderr(), args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if _, err := c.Apply(cmd.Context(), api.Files{Files: files}); err != nil || wait == 0 {
				return err
			}
			return c.Wait(cmd.Context(), api.Wait{Timeout: wait})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", slow.Times(time.Minute), "how long to wait until every pod is ready; 0 does not wait")
	return cmd
}

func (a *app) delete() *cobra.Command {
	return a.inNamespace(&cobra.Command{
		Use:   "delete FILE|DIR|pod/NAME|deploy/NAME…",
		Short: "Delete the objects of manifests, or a pod or deployment by name",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, arg := range args {
				if t, err := a.target(arg); err == nil && t.Kind != "ns" {
					if err := c.DeleteTarget(cmd.Context(), t); err != nil {
						return err
					}
					continue
				}
				files, err := readManifests(cmd.ErrOrStderr(), []string{arg})
				if err != nil {
					return err
				}
				if err := c.Delete(cmd.Context(), api.Files{Files: files}); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func (a *app) scale() *cobra.Command {
	var replicas int32
	cmd := a.inNamespace(&cobra.Command{
		Use:   "scale deploy/NAME --replicas N",
		Short: "Scale a deployment and wait until it is ready",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target(args[0])
			if err != nil || t.Kind != "deploy" {
				return fmt.Errorf("scale %q: want deploy/NAME", args[0])
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Scale(cmd.Context(), api.Scale{Target: t, Replicas: replicas}); err != nil {
				return err
			}
			return c.Wait(cmd.Context(), api.Wait{Timeout: slow.Times(time.Minute)})
		},
	})
	cmd.Flags().Int32Var(&replicas, "replicas", 1, "how many pods")
	return cmd
}

// mark makes the commands label and annotate.
func (a *app) mark(name string, annotations bool) *cobra.Command {
	return a.inNamespace(&cobra.Command{
		Use:   name + " pod/NAME|deploy/NAME|ns/NAME KEY=VALUE|KEY-…",
		Short: "Change " + name + "s of what runs; of a deployment: of all its pods",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target(args[0])
			if err != nil {
				return err
			}
			m := api.Mark{Target: t, Annotations: annotations, Set: map[string]string{}}
			for _, arg := range args[1:] {
				if key, value, ok := strings.Cut(arg, "="); ok && key != "" {
					m.Set[key] = value
				} else if key, ok := strings.CutSuffix(arg, "-"); ok && key != "" {
					m.Remove = append(m.Remove, key)
				} else {
					return fmt.Errorf("%s %q: want KEY=VALUE, or KEY- to remove it", name, arg)
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.Mark(cmd.Context(), m)
		},
	})
}

// target parses kind/name. It accepts kubectl's short and long kinds.
func (a *app) target(s string) (api.Target, error) {
	kinds := map[string]string{
		"pod": "pod", "pods": "pod", "po": "pod",
		"deploy": "deploy", "deployment": "deploy", "deployments": "deploy",
		"ns": "ns", "namespace": "ns", "namespaces": "ns",
	}
	kind, name, ok := strings.Cut(s, "/")
	if !ok || kinds[kind] == "" || name == "" {
		return api.Target{}, fmt.Errorf("%q: want pod/NAME, deploy/NAME or ns/NAME", s)
	}
	return api.Target{Kind: kinds[kind], Namespace: a.namespace, Name: name}, nil
}

// process returns the argument of kill and start: a node, or the controller.
func process(args []string) string {
	if len(args) == 0 {
		return "controller"
	}
	if _, err := strconv.Atoi(args[0]); err == nil {
		return "node-" + args[0]
	}
	return args[0]
}

func (a *app) kill(use, short string, args int) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use: use, Short: short + "; a signal that ends it is waited for", Args: cobra.ExactArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.Signal(cmd.Context(), api.Signal{Process: process(args), Signal: signal})
		},
	}
	cmd.Flags().StringVar(&signal, "signal", "KILL", "KILL, TERM, STOP, CONT…")
	return cmd
}

func (a *app) start(use, short string, args int) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.Start(cmd.Context(), api.Start{Process: process(args)})
		},
	}
}

func (a *app) restartController() *cobra.Command {
	return &cobra.Command{
		Use: "restart-controller", Short: "Stop the controller and start it again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Signal(cmd.Context(), api.Signal{Process: "controller", Signal: "TERM"}); err != nil {
				return err
			}
			return c.Start(cmd.Context(), api.Start{Process: "controller"})
		},
	}
}
