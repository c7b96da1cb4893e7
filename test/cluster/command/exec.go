package command

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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

// inNode returns a command line that runs argv in the node's namespaces.
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
	if argv, err = carry(fmt.Sprintf("/proc/%d/root", pid), argv); err != nil {
		return nil, err
	}
	return append([]string{"nsenter", "--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}, argv...), nil
}

// carry makes the program of argv reachable for a process whose root directory is
// root. A node has file systems of its own at /tmp, /run and elsewhere, so that it
// does not see a program that the machine has there, such as bin/democheck of a
// checkout below /tmp. Such a program is passed as an open file, which stays open
// in this process until it becomes the program.
func carry(root string, argv []string) ([]string, error) {
	if !strings.Contains(argv[0], "/") {
		return argv, nil // looked up in PATH, there
	}
	program, err := filepath.Abs(argv[0])
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, program)); err == nil {
		return append([]string{program}, argv[1:]...), nil
	}
	fd, err := unix.Open(program, unix.O_RDONLY, 0) // not O_CLOEXEC
	if err != nil {
		return nil, fmt.Errorf("the node has no %s, and this machine has none to lend: %w", program, err)
	}
	return append([]string{fmt.Sprintf("/proc/self/fd/%d", fd)}, argv[1:]...), nil
}

// inControlPlane runs f on this thread, in the control plane's network namespace and
// in a cgroup of the cluster. A program that f executes therefore ends with the
// cluster.
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
