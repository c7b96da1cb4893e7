package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
	"github.com/underlane/underlane/test/cluster/plane"
)

// change makes a command that changes an existing cluster.
func (o *options) change(use, short string, nargs int, f func(context.Context, layout.Cluster, node.Binaries, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(nargs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.lock(); err != nil {
				return err
			}
			c, err := o.existing()
			if err != nil {
				return err
			}
			bin, err := o.build()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			return f(ctx, c, bin, args)
		},
	}
}

func nodeCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Lose a node, or bring it back"}
	cmd.AddCommand(
		o.change("kill NAME", "Cut the power: processes and network are gone, the disk stays", 1,
			func(_ context.Context, c layout.Cluster, _ node.Binaries, args []string) error {
				n, err := c.Node(args[0])
				if err != nil {
					return err
				}
				return node.Remove(c, n)
			}),
		o.change("start NAME", "Start a node that was killed; returns when its containerd is up", 1,
			func(ctx context.Context, c layout.Cluster, bin node.Binaries, args []string) error {
				n, err := c.Node(args[0])
				if err != nil {
					return err
				}
				if pid, err := node.Pid(c, n); err != nil || pid != 0 {
					return errors.Join(err, fmt.Errorf("%s is up", n.Name()))
				}
				if err := errors.Join(node.Remove(c, n), node.Start(c, n, bin)); err != nil {
					return err
				}
				if err := node.WaitRuntime(ctx, c, n); err != nil {
					return err
				}
				tars, err := o.imageTars()
				return errors.Join(err, load(c, tars))
			}),
	)
	return cmd
}

func apiserverCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "apiserver", Short: "Stop the API server, or start it"}
	cmd.AddCommand(
		o.change("stop", "Kill the API server", 0,
			func(_ context.Context, c layout.Cluster, _ node.Binaries, _ []string) error {
				return plane.Stop(c, plane.APIServer)
			}),
		o.change("start", "Start the API server and wait until it serves", 0,
			func(ctx context.Context, c layout.Cluster, bin node.Binaries, _ []string) error {
				if plane.Running(c, plane.APIServer) {
					return plane.WaitReady(ctx, c)
				}
				if err := plane.Start(c, plane.APIServer, filepath.Join(bin.Kubernetes, "kubernetes")); err != nil {
					return err
				}
				return plane.WaitReady(ctx, c)
			}),
	)
	return cmd
}

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What of the cluster runs, and where its logs are",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := o.existing()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PART\tSTATE\tLOG")
			for _, p := range plane.Parts {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p, state(plane.Running(c, p)), c.File("log", string(p)+".log"))
			}
			for _, n := range c.AllNodes() {
				pid, err := node.Pid(c, n)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", n.Name(), state(pid != 0), c.NodeFile(n, "log"))
			}
			fmt.Fprintf(w, "kubeconfig\t\t%s\n", c.Kubeconfig())
			return w.Flush()
		},
	}
}

func state(running bool) string {
	if running {
		return "running"
	}
	return "stopped"
}
