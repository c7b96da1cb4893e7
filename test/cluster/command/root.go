// Package command is the command line of bin/cluster.
package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
)

// options are the flags that every command has, and the output.
type options struct {
	spec layout.Spec
	base string
	repo string
	out  io.Writer // progress
}

// Root is the whole command line.
func Root() *cobra.Command {
	o := &options{out: os.Stderr}
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A real Kubernetes cluster on this machine, for tests",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Before any command: names become paths that are removed.
		PersistentPreRunE: func(*cobra.Command, []string) error { return layout.ValidName(o.spec.Name) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.spec.Name, "name", cmp.Or(os.Getenv("UNDERLANE_CLUSTER_NAME"), "dev"), "name of the cluster; several run side by side (UNDERLANE_CLUSTER_NAME)")
	flags.StringVar(&o.base, "state", defaultBase(), "directory of all clusters' state (UNDERLANE_CLUSTER)")
	flags.StringVar(&o.repo, "repo", defaultRepo(), "the source tree")
	root.AddCommand(upCommand(o), downCommand(o), statusCommand(o), kubectlCommand(o), execCommand(o),
		loadCommand(o), imagesCommand(o), nodeCommand(o), apiserverCommand(o), buildCommand(o), initCommand(), runcCommand())
	return root
}

func defaultBase() string {
	if dir := os.Getenv("UNDERLANE_CLUSTER"); dir != "" {
		return dir
	}
	return "/var/tmp/underlane-cluster"
}

// defaultRepo is the tree in whose bin directory this program is, or else the
// working directory.
func defaultRepo() string {
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(filepath.Dir(self))
		if _, err := os.Stat(filepath.Join(dir, "test", "cluster", "components")); err == nil {
			return dir
		}
	}
	return "."
}

func (o *options) components() string { return filepath.Join(o.repo, "test", "cluster", "components") }

func (o *options) say(format string, args ...any) { fmt.Fprintf(o.out, format+"\n", args...) }

// existing is the cluster as it was made.
func (o *options) existing() (layout.Cluster, error) {
	spec, err := layout.Load(o.base, o.spec.Name)
	if errors.Is(err, os.ErrNotExist) {
		return layout.Cluster{}, fmt.Errorf("there is no cluster %s in %s: cluster up", o.spec.Name, o.base)
	}
	return layout.Cluster{Spec: spec, Base: o.base}, err
}

// lock keeps two commands from changing the cluster at once. It is released
// with the process.
func (o *options) lock() error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster is made of namespaces and cgroups: this needs root")
	}
	_, err := o.lockFile(filepath.Join(o.base, o.spec.Name+".lock"), "another command on cluster "+o.spec.Name)
	return err
}

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use: node.InitCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in, err := node.DecodeInit(args[0])
			if err != nil {
				return err
			}
			return in.Run()
		},
	}
}

func runcCommand() *cobra.Command {
	return &cobra.Command{
		Use: node.RuncCommand, Hidden: true, DisableFlagParsing: true,
		// Not a cluster's command: nothing of ours is asked for.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE:              func(_ *cobra.Command, args []string) error { return node.Runc(args) },
	}
}
