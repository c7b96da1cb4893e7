package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
)

// exec, node-exec and agent replace themselves by the program that they run. Its
// input, output, terminal and exit status are theirs.

func (a *app) exec() *cobra.Command {
	cmd := a.inNamespace(&cobra.Command{
		Use:   "exec POD|deploy/NAME -- CMD…",
		Short: "Run a program of this machine inside a pod, as that pod",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.state(cmd.Context())
			if err != nil {
				return err
			}
			p, err := a.findPod(s, args[0])
			if err != nil {
				return err
			}
			env := setenv(os.Environ(), "PATH="+s.Options.Bin+":"+os.Getenv("PATH"), "HOSTNAME="+p.Name)
			return host.Exec(args[1:], env, host.Place{Cgroup: p.Cgroup, Pid: p.Pid})
		},
	})
	return cmd
}

func (a *app) nodeExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node-exec NODE|controller|fabric -- CMD…",
		Short: "Run a program in a node's network namespace",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, place, env, err := a.onNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return host.Exec(args[1:], env, place)
		},
	}
	return cmd
}

func (a *app) agent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent NODE -- ARGS…",
		Short: "Run the agent's command line against the agent of a node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, place, env, err := a.onNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			argv := append([]string{filepath.Join(s.Options.Bin, "agent")}, args[1:]...)
			return host.Exec(argv, env, place)
		},
	}
	return cmd
}

// onNode returns where programs of a node run, and an environment in which the
// agent's command line uses the node's agent.
func (a *app) onNode(ctx context.Context, name string) (api.State, host.Place, []string, error) {
	s, err := a.state(ctx)
	if err != nil {
		return s, host.Place{}, nil, err
	}
	l, err := a.layout()
	if err != nil {
		return s, host.Place{}, nil, err
	}
	env := setenv(os.Environ(), "PATH="+s.Options.Bin+":"+os.Getenv("PATH"))
	if name == "controller" || name == "fabric" {
		return s, host.Place{Cgroup: l.ControllerCgroup(), Netns: l.Netns(name)}, env, nil
	}
	node := process([]string{name})
	for _, n := range s.Nodes {
		if n.Name == node {
			env = setenv(env, "UNDERLANE_SOCKET="+n.Socket, "UNDERLANE_PIN_ROOT="+n.Pins, "UNDERLANE_CGROUP_ROOT="+n.Cgroup)
			return s, host.Place{Cgroup: l.HostCgroup(node), Netns: n.Netns}, env, nil
		}
	}
	return s, host.Place{}, nil, fmt.Errorf("there is no node %q: see `lab nodes`", name)
}

// findPod finds a pod by name, pod/name or deploy/name. For a deployment it
// returns one of its pods, a ready one if there is any.
func (a *app) findPod(s api.State, ref string) (api.Pod, error) {
	t, err := a.target(ref)
	if err != nil {
		t = api.Target{Kind: "pod", Namespace: a.namespace, Name: ref}
	}
	var found *api.Pod
	for i, p := range s.Pods {
		name := p.Name
		if t.Kind == "deploy" {
			name = p.Deployment
		}
		if p.Namespace == t.Namespace && name == t.Name && (found == nil || p.Ready && !found.Ready) {
			found = &s.Pods[i]
		}
	}
	if found == nil {
		return api.Pod{}, fmt.Errorf("there is no %s %q in namespace %q: see `lab pods`", t.Kind, t.Name, t.Namespace)
	}
	return *found, nil
}

// setenv returns env with variables set.
func setenv(env []string, set ...string) []string {
	var out []string
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		kept := true
		for _, s := range set {
			kept = kept && !strings.HasPrefix(s, key+"=")
		}
		if kept {
			out = append(out, kv)
		}
	}
	return append(out, set...)
}
