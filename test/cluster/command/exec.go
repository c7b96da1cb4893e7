package command

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
	"github.com/underlane/underlane/test/lab/host"
)

func kubectlCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kubectl -- ARGS...",
		Short: "Run kubectl as the administrator, in the control plane's network",
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := o.existing()
			if err != nil {
				return err
			}
			bin, err := o.build()
			if err != nil {
				return err
			}
			argv := append([]string{filepath.Join(bin.Kubernetes, "kubernetes"), "kubectl"}, args...)
			return replace(c, argv, []string{"KUBECONFIG=" + c.Kubeconfig()})
		},
	}
	cmd.Flags().SetInterspersed(false) // flags after the verb are kubectl's
	return cmd
}

func execCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "exec [NODE] -- COMMAND...",
		Short: "Run a command in the control plane's network, or in a node's namespaces",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.existing()
			if err != nil {
				return err
			}
			switch cmd.ArgsLenAtDash() {
			case -1, 0:
				return replace(c, args, []string{"KUBECONFIG=" + c.Kubeconfig()})
			case 1:
				argv, err := inNode(c, args[0], args[1:])
				if err != nil {
					return err
				}
				return replace(c, argv, nil)
			}
			return fmt.Errorf("which node? cluster exec [NODE] -- COMMAND")
		},
	}
}

// inNode is the command line that runs argv in the node's namespaces.
func inNode(c layout.Cluster, name string, argv []string) ([]string, error) {
	n, err := c.Node(name)
	if err != nil {
		return nil, err
	}
	pid, err := node.Pid(c, n)
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, fmt.Errorf("%s is down: cluster node start %s", name, name)
	}
	return append([]string{"nsenter", "--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}, argv...), nil
}

// inControlPlane runs f on this thread in the control plane's network
// namespace, and in a cgroup that goes with the cluster: what f becomes does
// not outlive it.
func inControlPlane(c layout.Cluster, f func() error) error {
	unified, err := kernel.Unified()
	if err != nil {
		return err
	}
	cgroup, err := unified.MakeCgroup(c.Cgroup() + "/exec")
	if err != nil {
		return err
	}
	if err := kernel.JoinCgroup(cgroup); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := host.EnterNetns(c.ControlPlaneNetns()); err != nil {
		return err
	}
	return f()
}

func execve(path string, argv, env []string) error {
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, argv, env))
}
