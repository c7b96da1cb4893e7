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

// options has the flags that all commands have, and the output.
type options struct {
	spec layout.Spec
	base string
	repo string
	out  io.Writer // progress
}

// Root returns the whole command line.
func Root() *cobra.Command {
	o := &options{out: os.Stderr}
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A real Kubernetes cluster on this machine, for tests",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Check the name before any command, because names become paths that are removed.
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

// defaultRepo returns the source tree whose bin directory has this program, or else
// the working directory.
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

// existing returns the cluster with the options that it was made with.
func (o *options) existing() (layout.Cluster, error) {
	spec, err := layout.Load(o.base, o.spec.Name)
	if errors.Is(err, os.ErrNotExist) {
		return layout.Cluster{}, fmt.Errorf("there is no cluster %s in %s: cluster up", o.spec.Name, o.base)
	}
	return layout.Cluster{Spec: spec, Base: o.base}, err
}

// lock keeps two commands from changing the cluster at once. The lock ends with the
// process.
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
		// This is not a command for a cluster, so it needs none of the checks.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE:              func(_ *cobra.Command, args []string) error { return node.Runc(args) },
	}
}
